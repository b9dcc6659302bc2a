package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	gatewayv1 "contacts.example.com/gateway/gen/rest_gateway/v1"
)

// hidden are the codes whose text is not for the caller when nobody has written
// it for them: it would tell addresses, or what has gone wrong inside.
var hidden = map[codes.Code]string{
	codes.Unavailable:      "the service cannot be reached at the moment",
	codes.Internal:         "something has gone wrong inside",
	codes.Unknown:          "something has gone wrong inside",
	codes.DataLoss:         "something has gone wrong inside",
	codes.DeadlineExceeded: "the time for this call has passed",
}

// writeError answers with a problem.
func writeError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errNotModified) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if sent, ok := r.Body.(*body); ok && sent.refused != 0 {
		write(w, r, sent.refused, status.New(codes.InvalidArgument, sent.why), "")
		return
	}
	found := publicStatus(err)
	code := httpStatus(found.Code(), r)
	var own *runtime.HTTPStatusError // Of the library: a path that cannot be unescaped.
	if errors.As(err, &own) {
		code, found = own.HTTPStatus, status.New(codes.InvalidArgument, own.Error())
	}
	method, _ := runtime.RPCMethod(ctx)
	write(w, r, code, found, bodyField(method))
}

// write answers with an HTTP status and what a gRPC status says. within is the
// field of the request message that the body of the request was.
func write(w http.ResponseWriter, r *http.Request, code int, found *status.Status, within string) {
	problem := &gatewayv1.Problem{
		Type:      "about:blank",
		Title:     title(code),
		Status:    int32(code),
		Detail:    found.Message(),
		Code:      codeName(found.Code()),
		RequestId: r.Header.Get(requestID),
	}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			problem.Reason, problem.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, each := range detail.GetFieldViolations() {
				field := strings.TrimPrefix(each.GetField(), within+".")
				problem.Violations = append(problem.Violations, &gatewayv1.Violation{
					Field:       jsonPath(field),
					Description: each.GetDescription(),
				})
			}
		case *errdetails.RetryInfo:
			seconds := math.Ceil(detail.GetRetryDelay().AsDuration().Seconds())
			w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
		}
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="contacts"`)
	}
	if code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code)
	text, _ := codec{&runtime.JSONPb{}}.Marshal(problem) // It is made of text, and so cannot fail.
	_, _ = w.Write(text)                                 // The client may have gone.
}

// publicStatus is what may be said of an error. The rest is logged.
func publicStatus(err error) *status.Status {
	found := status.Convert(err)
	if text, ok := hidden[found.Code()]; ok && len(found.Details()) == 0 {
		slog.Error("a call has failed", "code", codeName(found.Code()), "error", found.Message())
		return status.New(found.Code(), text)
	}
	return found
}

// streamError is what the last line of a stream says that fails after its first.
func streamError(ctx context.Context, err error) *status.Status {
	if status.Code(err) == codes.Canceled && ctx.Err() == nil { // It was not the client who left.
		return status.New(codes.Unavailable, "the gateway is about to stop; go on with another")
	}
	return publicStatus(err)
}

// httpStatus is that of a code, as google/rpc/code.proto says, with what only HTTP
// knows: that a condition was in a header.
func httpStatus(code codes.Code, r *http.Request) int {
	if code == codes.Aborted && r.Header.Get(ifMatch) != "" {
		return http.StatusPreconditionFailed
	}
	return runtime.HTTPStatusFromCode(code)
}

// title is what HTTP calls a status.
func title(code int) string {
	if code == 499 { // Not HTTP's own: nginx's name for a client that has gone.
		return "Client Closed Request"
	}
	return http.StatusText(code)
}

// codeName is the code's name in google/rpc/code.proto.
func codeName(code codes.Code) string { return rpccode.Code(code).String() }

// jsonPath is the path of a field as JSON names it.
func jsonPath(path string) string {
	segments := strings.Split(path, "_")
	for i, each := range segments[1:] {
		if each != "" {
			segments[i+1] = strings.ToUpper(each[:1]) + each[1:]
		}
	}
	return strings.Join(segments, "")
}

// bodyField is the field that is the body of a method's request; "" when the body
// is the whole message.
func bodyField(method string) string {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return ""
	}
	rule, _ := proto.GetExtension(found.Options(), annotations.E_Http).(*annotations.HttpRule)
	return strings.TrimPrefix(rule.GetBody(), "*")
}
