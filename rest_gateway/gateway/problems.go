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

// hidden lists codes whose message is replaced unless the service attached details:
// gRPC's own text leaks addresses and internals.
var hidden = map[codes.Code]string{
	codes.Unavailable:      "the service cannot be reached at the moment",
	codes.Internal:         "internal error",
	codes.Unknown:          "internal error",
	codes.DataLoss:         "internal error",
	codes.DeadlineExceeded: "the time for this call has passed",
}

const shuttingDown = "the server is shutting down; retry on another one"

// writeError answers with a problem.
func writeError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errNotModified) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if sent, ok := r.Body.(*stream); ok && sent.refused != nil {
		sent.refused.write(w, r)
		return
	}
	public := publicStatus(ctx, err)
	code := httpStatus(public, r)
	var own *runtime.HTTPStatusError // Of the library: a path that cannot be unescaped.
	if errors.As(err, &own) {
		code, public = own.HTTPStatus, status.New(codes.InvalidArgument, own.Error())
	}
	method, _ := runtime.RPCMethod(ctx)
	writeProblem(w, r, code, public, bodyField(method))
}

// writeProblem answers with an HTTP status and the content of a gRPC status. within
// is the field of the request message that the body of the request was.
func writeProblem(w http.ResponseWriter, r *http.Request, code int, failed *status.Status, within string) {
	problem := &gatewayv1.Problem{
		Type:      "about:blank",
		Title:     title(code),
		Status:    int32(code),
		Detail:    shortened(failed.Message()),
		Code:      codeName(failed.Code()),
		RequestId: r.Header.Get(requestID),
	}
	for _, detail := range failed.Details() {
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

// publicStatus returns what a caller may learn about an error. The rest is logged.
func publicStatus(ctx context.Context, err error) *status.Status {
	failed := status.Convert(err)
	code := failed.Code()
	switch text, isHidden := hidden[code]; {
	// It was not the client who left: the service, or the gateway, is shutting down.
	case code == codes.Canceled && ctx.Err() == nil:
		return status.New(codes.Unavailable, shuttingDown)
	case code == codes.ResourceExhausted && isTooLarge(failed):
		return status.New(code, messageTooLarge)
	case isHidden && len(failed.Details()) == 0:
		level := slog.LevelError
		if code == codes.DeadlineExceeded {
			level = slog.LevelInfo // Some clients wait for a nanosecond.
		}
		slog.Log(ctx, level, "a call has failed", "code", codeName(code), "error", shortened(failed.Message()))
		return status.New(code, text)
	}
	return failed
}

const messageTooLarge = "the message is larger than the service accepts"

// isTooLarge tells whether a message was refused because of its size: by gRPC, or by
// the service, which has only the same code for it.
func isTooLarge(failed *status.Status) bool {
	return len(failed.Details()) == 0 && strings.Contains(failed.Message(), "larger than")
}

// httpStatus returns the HTTP status of a code, as google/rpc/code.proto has it, apart
// from what only HTTP distinguishes: a condition in a header, a message's size.
func httpStatus(failed *status.Status, r *http.Request) int {
	switch {
	case failed.Code() == codes.Aborted && r.Header.Get("If-Match") != "":
		return http.StatusPreconditionFailed
	case failed.Message() == messageTooLarge:
		return http.StatusRequestEntityTooLarge
	}
	return runtime.HTTPStatusFromCode(failed.Code())
}

// title returns the name of an HTTP status.
func title(code int) string {
	if code == 499 { // Not HTTP's own: nginx's name for a client that has gone.
		return "Client Closed Request"
	}
	return http.StatusText(code)
}

// codeName returns the code's name in google/rpc/code.proto.
func codeName(code codes.Code) string { return rpccode.Code(code).String() }

// jsonPath returns the path of a field in JSON's names.
func jsonPath(path string) string {
	segments := strings.Split(path, "_")
	for i, each := range segments[1:] {
		if each != "" {
			segments[i+1] = strings.ToUpper(each[:1]) + each[1:]
		}
	}
	return strings.Join(segments, "")
}

// bodyField returns the field that is the body of a method's request; "" if the body
// is the whole message.
func bodyField(method string) string {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return ""
	}
	rule, _ := proto.GetExtension(descriptor.Options(), annotations.E_Http).(*annotations.HttpRule)
	return strings.TrimPrefix(rule.GetBody(), "*")
}

// shortened cuts a text that may repeat a request.
func shortened(text string) string {
	const most = 500
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
