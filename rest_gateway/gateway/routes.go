package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	contactService = protoreflect.FullName("production.v1.ContactService")
	healthPath     = "/healthz" // Of ContactService.
	// %2F in a path counts as a slash. Some clients encode it, whatever the contract says.
	unescaping = runtime.UnescapingModeAllCharacters
)

// route is one HTTP rule of a contract.
type route struct {
	template string // The rule's path, such as /v1/{name=contacts/*}.
	body     string // As in the rule: a field, * for the whole message, "" for no body.
	method   protoreflect.MethodDescriptor
}

// fullMethod returns the method as gRPC writes it, "" if there is none.
func (r *route) fullMethod() string {
	if r == nil || r.method == nil {
		return ""
	}
	return fmt.Sprintf("/%s/%s", r.method.Parent().FullName(), r.method.Name())
}

// takesBody tells whether requests have a body, takesStream whether it may have
// several messages, givesStream whether the answer may.
func (r *route) takesBody() bool   { return r != nil && r.body != "" }
func (r *route) takesStream() bool { return r.takesBody() && r.method.IsStreamingClient() }
func (r *route) givesStream() bool { return r.fullMethod() != "" && r.method.IsStreamingServer() }

// needsCaller tells whether the service behind it has to know who is calling.
func (r *route) needsCaller() bool {
	return r.fullMethod() != "" && r.method.Parent().FullName() == contactService
}

type routeKey struct{}

// routeOf returns the route of a request, nil if its path has none.
func routeOf(r *http.Request) *route {
	found, _ := r.Context().Value(routeKey{}).(*route)
	return found
}

// routes finds the route of a request before it is handled. The library's mux finds
// it, too, but does not export it.
type routes struct {
	mux   *runtime.ServeMux
	pages *http.ServeMux
}

// newRoutes returns the routes of some contracts. pages has paths of its own, and
// "/" for all others.
func newRoutes(pages *http.ServeMux, contracts ...protoreflect.FileDescriptor) (*routes, error) {
	ignore := func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, int) {}
	s := &routes{pages: pages, mux: runtime.NewServeMux(
		runtime.WithUnescapingMode(unescaping),
		runtime.WithRoutingErrorHandler(ignore),
		runtime.WithErrorHandler(func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, error) {
		}),
	)}
	if err := s.add(http.MethodGet, &route{template: healthPath}); err != nil {
		return nil, err
	}
	for _, file := range contracts {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				for _, rule := range httpRules(methods.Get(j)) {
					method, path := methodAndPath(rule)
					if err := s.add(method, &route{path, rule.GetBody(), methods.Get(j)}); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return s, nil
}

func (s *routes) add(method string, added *route) error {
	return s.mux.HandlePath(method, added.template, func(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
		w.(*finder).found = added
	})
}

// find returns the route of a path for an HTTP method, nil if there is none.
func (s *routes) find(method string, path *url.URL) *route {
	asked := &finder{}
	s.mux.ServeHTTP(asked, &http.Request{Method: method, URL: path})
	return asked.found
}

// finder is where a route is written instead of an answer.
type finder struct{ found *route }

func (*finder) Header() http.Header         { return http.Header{} }
func (*finder) Write(p []byte) (int, error) { return len(p), nil }
func (*finder) WriteHeader(int)             {}

// template returns what the log calls a path. It has no name and no length that a
// client could choose.
func (s *routes) template(r *http.Request) string {
	if found := routeOf(r); found != nil {
		return found.template
	}
	if _, pattern := s.pages.Handler(r); pattern != "/" {
		return pattern
	}
	return "unknown"
}

// httpRules returns all HTTP rules of a method. A method without any has the one that
// generate_unbound_methods gives it.
func httpRules(method protoreflect.MethodDescriptor) []*annotations.HttpRule {
	rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if rule == nil {
		path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
		rule = &annotations.HttpRule{Pattern: &annotations.HttpRule_Post{Post: path}, Body: "*"}
	}
	return append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...)
}

// methodAndPath returns the HTTP method and the path of a rule.
func methodAndPath(rule *annotations.HttpRule) (string, string) {
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

// allowed returns the HTTP methods of a path, none if there is nothing.
func (s *routes) allowed(r *http.Request) []string {
	get := &http.Request{Method: http.MethodGet, URL: r.URL, Host: r.Host}
	if _, pattern := s.pages.Handler(get); pattern != "/" {
		return []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	}
	var methods []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut} {
		if s.find(method, r.URL) == nil {
			continue
		}
		methods = append(methods, method)
		if method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	if len(methods) > 0 {
		methods = append(methods, http.MethodOptions)
	}
	return methods
}

// writeError answers when a request has no route.
func (s *routes) writeError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	if code == http.StatusBadRequest {
		writeProblem(w, r, code, status.New(codes.InvalidArgument, "the path cannot be read"), "")
		return
	}
	methods := s.allowed(r)
	switch {
	case len(methods) == 0:
		writeProblem(w, r, http.StatusNotFound, status.New(codes.NotFound, "there is nothing at this path"), "")
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", strings.Join(methods, ", "))
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", strings.Join(methods, ", "))
		writeProblem(w, r, http.StatusMethodNotAllowed, status.New(codes.Unimplemented, "this path has other methods"), "")
	}
}
