package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
	echov1 "contacts.example.com/gateway/gen/protos/echo/v1"
	gatewayv1 "contacts.example.com/gateway/gen/rest_gateway/v1"
)

// routes knows which HTTP methods a path has. The library's mux knows, too, but
// does not tell, and an answer 405 must (RFC 9110, 15.5.6).
type routes struct {
	mux *runtime.ServeMux
}

func newRoutes() (*routes, error) {
	mux := runtime.NewServeMux(runtime.WithUnescapingMode(runtime.UnescapingModeAllCharacters))
	for _, file := range []protoreflect.FileDescriptor{
		productionv1.File_production_v1_contacts_proto,
		gatewayv1.File_rest_gateway_v1_greeter_proto,
		echov1.File_protos_echo_v1_echo_proto,
	} {
		for _, rule := range rules(file) {
			method, path := split(rule)
			if err := mux.HandlePath(method, path, found); err != nil {
				return nil, err
			}
		}
	}
	return &routes{mux}, nil
}

func found(w http.ResponseWriter, _ *http.Request, _ map[string]string) { w.Header().Set("Found", "") }

// rules are all HTTP rules of a contract. A method without any has the one that
// generate_unbound_methods gives it.
func rules(file protoreflect.FileDescriptor) []*annotations.HttpRule {
	var found []*annotations.HttpRule
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			method := methods.Get(j)
			rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
			if rule == nil {
				path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
				rule = &annotations.HttpRule{Pattern: &annotations.HttpRule_Post{Post: path}}
			}
			found = append(append(found, rule), rule.GetAdditionalBindings()...)
		}
	}
	return found
}

// split is the method and the path of a rule.
func split(rule *annotations.HttpRule) (string, string) {
	switch {
	case rule.GetGet() != "":
		return http.MethodGet, rule.GetGet()
	case rule.GetPost() != "":
		return http.MethodPost, rule.GetPost()
	case rule.GetPatch() != "":
		return http.MethodPatch, rule.GetPatch()
	case rule.GetPut() != "":
		return http.MethodPut, rule.GetPut()
	}
	return http.MethodDelete, rule.GetDelete()
}

// methods are those that a path has.
func (s *routes) methods(r *http.Request) []string {
	var methods []string
	for _, method := range []string{"DELETE", "GET", "PATCH", "POST", "PUT"} {
		w := discard{}
		s.mux.ServeHTTP(w, &http.Request{Method: method, URL: r.URL, Header: http.Header{}})
		if _, ok := w["Found"]; ok {
			methods = append(methods, method)
		}
	}
	return methods
}

// writeError answers when a request has no route.
func (s *routes) writeError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	found := status.New(codes.InvalidArgument, "the path cannot be read")
	switch code {
	case http.StatusNotFound:
		found = status.New(codes.NotFound, "there is nothing at this path")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", strings.Join(s.methods(r), ", "))
		found = status.New(codes.Unimplemented, "this path has other methods")
	}
	write(w, r, code, found, "")
}

// discard is the header of an answer that nobody reads.
type discard http.Header

func (d discard) Header() http.Header         { return http.Header(d) }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
