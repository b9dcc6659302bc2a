package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/klauspost/compress/gzhttp"
	"google.golang.org/protobuf/proto"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
)

// errNotModified ends a request of a client that already has the answer.
var errNotModified = errors.New("not modified")

// asREST adds to an answer what REST clients expect besides its body: 201 and
// Location for a new contact, an ETag for one that may change, 304 for one that has
// not.
func asREST(ctx context.Context, w http.ResponseWriter, message proto.Message) error {
	w.Header().Set("Cache-Control", "private, no-cache")
	contact, ok := message.(*productionv1.Contact)
	if !ok {
		return nil
	}
	method, _ := runtime.RPCMethod(ctx)
	given := conditionsOf(ctx)
	isRead := method == productionv1.ContactService_GetContact_FullMethodName
	if isRead && !given.allow(contact) { // The service checks the others.
		return errChanged(contact)
	}
	w.Header().Set("ETag", contact.GetEtag())
	// An etag stands for these very bytes; compressed they are others.
	w.Header().Set(gzhttp.HeaderNoCompression, "1")
	switch {
	case method == productionv1.ContactService_CreateContact_FullMethodName:
		w.Header().Set("Location", "/v1/"+contact.GetName())
		w.WriteHeader(http.StatusCreated)
	case isRead && matches(given.ifNoneMatch, contact.GetEtag()):
		return errNotModified
	}
	return nil
}

// asGet answers HEAD as GET, without a body: Go's server drops it. The call ends
// with the first piece of its answer, because a watch would never end.
func asGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			w, r = &bodiless{w, cancel}, r.WithContext(ctx)
			r.Method = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

type bodiless struct {
	http.ResponseWriter
	cancel context.CancelFunc
}

func (b *bodiless) Write(p []byte) (int, error) {
	b.cancel()
	return b.ResponseWriter.Write(p)
}

func (b *bodiless) Unwrap() http.ResponseWriter { return b.ResponseWriter }
