package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/klauspost/compress/gzhttp"
	"google.golang.org/protobuf/proto"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
)

// readTime is how long a client may take to read a piece of its answer.
const readTime = time.Minute

// errNotModified says that the client has what it asks for.
var errNotModified = errors.New("not modified")

// asREST gives an answer what REST clients expect beside its body: 201 and
// Location for what is new, an ETag for what may change, 304 for what has not.
func asREST(ctx context.Context, w http.ResponseWriter, message proto.Message) error {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTime)); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	contact, ok := message.(*productionv1.Contact)
	if !ok {
		return nil
	}
	w.Header().Set("ETag", contact.GetEtag())
	// An etag stands for these very bytes; compressed they are others.
	w.Header().Set(gzhttp.HeaderNoCompression, "1")
	switch method, _ := runtime.RPCMethod(ctx); method {
	case productionv1.ContactService_CreateContact_FullMethodName:
		w.Header().Set("Location", "/v1/"+contact.GetName())
		w.WriteHeader(http.StatusCreated)
	case productionv1.ContactService_GetContact_FullMethodName:
		if known(ctx, contact.GetEtag()) {
			return errNotModified
		}
	}
	return nil
}

// known tells whether the client has named this etag in If-None-Match.
func known(ctx context.Context, etag string) bool {
	header, _ := ctx.Value(ifNoneMatch{}).(string)
	for each := range strings.SplitSeq(header, ",") {
		each = strings.TrimPrefix(strings.TrimSpace(each), "W/")
		if each == etag || each == "*" {
			return true
		}
	}
	return false
}

// ifNoneMatch is the key of that header in a request's context.
type ifNoneMatch struct{}
