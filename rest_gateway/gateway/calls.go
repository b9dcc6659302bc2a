package main

import (
	"context"
	"errors"
	"io"
	"net/textproto"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
)

const (
	requestID = "X-Request-Id"
	ifMatch   = "If-Match"
)

// passed are the headers that become metadata, beside Authorization, which the
// library always passes on. The names of metadata are in lower case.
var passed = map[string]bool{requestID: true, "Traceparent": true, "Tracestate": true, ifMatch: true}

// incoming says which headers become metadata. All others stay here: what a
// service takes from metadata must not be for anybody to write.
func incoming(header string) (string, bool) {
	return strings.ToLower(header), passed[textproto.CanonicalMIMEHeaderKey(header)]
}

// nothing of the services' metadata becomes a header. What callers need is said
// by asREST and writeError.
func nothing(string) (string, bool) { return "", false }

// withTimeout limits each call. A caller's own limit, by the header Grpc-Timeout,
// counts if it is shorter.
func withTimeout(timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return invoke(ctx, method, request, reply, cc, opts...)
	}
}

// withIfMatch makes the header If-Match the etag of the request (RFC 9110, 13.1.1).
func withIfMatch(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md.Get(ifMatch); len(values) > 0 {
		etag := strings.Join(values, ", ")
		if strings.Contains(etag, ",") {
			return status.Error(codes.InvalidArgument, "If-Match may have one etag")
		}
		switch request := request.(type) {
		case *productionv1.UpdateContactRequest:
			setEtag(&request.GetContact().Etag, etag)
		case *productionv1.DeleteContactRequest:
			setEtag(&request.Etag, etag)
		}
		md = md.Copy()
		md.Delete(ifMatch)
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return invoke(ctx, method, request, reply, cc, opts...)
}

// setEtag sets the etag that a contact must have. * is any.
func setEtag(field *string, etag string) {
	if etag != "*" {
		*field = etag
	}
}

// untilStopping ends watches when the gateway is told to stop: they would go on
// for ever. Their callers go on elsewhere.
func untilStopping(stopping context.Context) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if method == productionv1.ContactService_WatchContacts_FullMethodName {
			watching, cancel := context.WithCancel(ctx)
			forget := context.AfterFunc(stopping, cancel)
			context.AfterFunc(ctx, func() { forget() })
			ctx = watching
		}
		return stream(ctx, desc, cc, method, opts...)
	}
}

// withFirstMessage lets a stream's headers wait for its first message. Nothing is
// sent to the REST client before that anyway; but a stream that is refused is now
// an error like any other, with a status of its own.
func withFirstMessage(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := stream(ctx, desc, cc, method, opts...)
	if err != nil || desc.ClientStreams {
		return s, err
	}
	name := protoreflect.FullName(strings.ReplaceAll(method[1:], "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	output := found.(protoreflect.MethodDescriptor).Output()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(output.FullName())
	if err != nil {
		return nil, err
	}
	return &peeked{ClientStream: s, first: kind.New().Interface()}, nil
}

// peeked is a stream whose first message has been read ahead.
type peeked struct {
	grpc.ClientStream
	first proto.Message
	end   error
}

func (s *peeked) Header() (metadata.MD, error) {
	s.end = s.ClientStream.RecvMsg(s.first)
	if s.end != nil && !errors.Is(s.end, io.EOF) {
		return nil, s.end
	}
	return s.ClientStream.Header()
}

func (s *peeked) RecvMsg(message any) error {
	switch {
	case s.end != nil:
		return s.end
	case s.first != nil:
		proto.Merge(message.(proto.Message), s.first)
		s.first = nil
		return nil
	}
	return s.ClientStream.RecvMsg(message)
}
