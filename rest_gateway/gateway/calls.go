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
	echov1 "contacts.example.com/gateway/gen/protos/echo/v1"
)

const requestID = "X-Request-Id"

// forwarded lists the headers that become metadata, besides Authorization, which
// the library always forwards.
var forwarded = map[string]bool{requestID: true, "Traceparent": true, "Tracestate": true}

// isWatch lists the methods whose streams have no end.
var isWatch = map[string]bool{productionv1.ContactService_WatchContacts_FullMethodName: true}

// incoming decides which headers become metadata, under which name. All others stay
// here: services trust some metadata, so clients must not be able to write any.
func incoming(header string) (string, bool) {
	return strings.ToLower(header), forwarded[textproto.CanonicalMIMEHeaderKey(header)]
}

// noHeaders keeps the services' metadata from becoming headers. asREST and
// writeError write the headers that callers need.
func noHeaders(string) (string, bool) { return "", false }

// withTimeout limits each call. A caller's own limit, by the header Grpc-Timeout,
// counts if it is shorter.
func withTimeout(timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return invoke(ctx, method, request, reply, cc, opts...)
	}
}

// asCalls turns what only HTTP has into what the services' contracts have: If-Match
// becomes the etag of the request (RFC 9110, 13.1.1), a PATCH of nothing a read.
func asCalls(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	given := conditionsOf(ctx)
	switch request := request.(type) {
	case *productionv1.DeleteContactRequest:
		setEtag(&request.Etag, given.ifMatch)
	case *productionv1.UpdateContactRequest:
		setEtag(&request.GetContact().Etag, given.ifMatch)
		if len(request.GetUpdateMask().GetPaths()) == 0 {
			contact := reply.(*productionv1.Contact)
			read := &productionv1.GetContactRequest{Name: request.GetContact().GetName()}
			err := invoke(ctx, productionv1.ContactService_GetContact_FullMethodName, read, contact, cc, opts...)
			if err == nil && !given.allow(contact) {
				return errChanged(contact)
			}
			return err
		}
	case *echov1.EchoRequest:
		if len(request.GetVia()) > 0 { // It would make the server connect to any address.
			return status.Error(codes.PermissionDenied, "via is not available through the gateway")
		}
	}
	return invoke(ctx, method, request, reply, cc, opts...)
}

// setEtag sets the etag that a contact must have. * matches any.
func setEtag(field *string, etag string) {
	if etag != "" && etag != "*" {
		*field = etag
	}
}

// untilStopping ends watches when the gateway shuts down, because they have no end
// of their own. Their callers continue on another gateway.
func untilStopping(stopping context.Context) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if isWatch[method] {
			watching, cancel := context.WithCancel(ctx)
			forget := context.AfterFunc(stopping, cancel)
			context.AfterFunc(ctx, func() { forget() })
			ctx = watching
		}
		return stream(ctx, desc, cc, method, opts...)
	}
}

// withFirstMessage makes a stream's headers wait for its first message. Nothing is
// sent to the REST client before that anyway; but a stream that is refused is now
// an error like any other, with a status of its own.
func withFirstMessage(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	opened, err := stream(ctx, desc, cc, method, opts...)
	if err != nil || desc.ClientStreams {
		return opened, err
	}
	first, err := newReply(method)
	if err != nil {
		return nil, err
	}
	return &peeked{ClientStream: opened, first: first}, nil
}

// newReply returns an empty message of the type that a method answers with.
func newReply(method string) (proto.Message, error) {
	name := protoreflect.FullName(strings.ReplaceAll(method[1:], "/", "."))
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	output := descriptor.(protoreflect.MethodDescriptor).Output()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(output.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

// peeked is a stream whose first message has been read ahead.
type peeked struct {
	grpc.ClientStream
	first proto.Message
	end   error
}

// Header reads the first message ahead, and returns the error if there is none.
func (s *peeked) Header() (metadata.MD, error) {
	s.end = s.ClientStream.RecvMsg(s.first)
	if s.end != nil && !errors.Is(s.end, io.EOF) {
		return nil, s.end
	}
	return s.ClientStream.Header()
}

// RecvMsg returns the message that Header has read, then those that follow.
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

// withEarlyAnswer ends a body of several messages when the service has answered. The
// library would read on, for a caller who may not call at all.
func withEarlyAnswer(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	opened, err := open(ctx, desc, cc, method, opts...)
	body, ok := ctx.Value(streamKey{}).(*stream)
	if err != nil || !ok || desc.ServerStreams {
		return opened, err
	}
	reply, err := newReply(method)
	if err != nil {
		return nil, err
	}
	early := &answered{ClientStream: opened, done: make(chan struct{}), reply: reply}
	go func() {
		early.err = opened.RecvMsg(reply)
		body.end()
		close(early.done)
	}()
	return early, nil
}

// answered is a stream whose answer is received while messages are sent.
type answered struct {
	grpc.ClientStream
	done  chan struct{}
	reply proto.Message
	err   error
}

// RecvMsg waits for the answer.
func (s *answered) RecvMsg(message any) error {
	<-s.done
	if s.err == nil {
		proto.Merge(message.(proto.Message), s.reply)
	}
	return s.err
}
