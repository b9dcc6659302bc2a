package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"regexp"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// writeTime is how long a client may take to read a piece of its answer.
const writeTime = time.Minute

var validID = regexp.MustCompile(`^[\w-]{1,64}$`)

// logged gives each request an id and a route, and logs it when it ends. It logs
// nothing that a client could choose, except for a short id: no path, no query, no
// name.
func logged(next http.Handler, routes *routes) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestID)
		if !validID.MatchString(id) {
			id = rand.Text()
		}
		r.Header.Set(requestID, id) // If there were two, the service gets this one.
		w.Header().Set(requestID, id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		r = r.WithContext(context.WithValue(r.Context(), routeKey{}, routes.find(method, r.URL)))
		template := routes.template(r)
		started := time.Now()
		seen := &answer{ResponseWriter: w, control: http.NewResponseController(w), status: http.StatusOK}
		next.ServeHTTP(seen, r)
		slog.Info("request", "method", r.Method, "path", template, "status", seen.status,
			"seconds", time.Since(started).Seconds(), "request_id", id)
	})
}

// answer remembers its status, and limits how long the client may take to read.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
}

func (a *answer) WriteHeader(code int) {
	a.status = code
	a.expire(time.Now().Add(writeTime))
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(p []byte) (int, error) {
	a.expire(time.Now().Add(writeTime))
	return a.ResponseWriter.Write(p)
}

// Flush sends a piece of a stream. After it the stream may be silent: over HTTP/2 a
// deadline would end it, even if nothing is being written.
func (a *answer) Flush() {
	_ = a.FlushError()
}

// FlushError is as Flush.
func (a *answer) FlushError() error {
	err := a.control.Flush()
	a.expire(time.Time{})
	return err
}

func (a *answer) expire(at time.Time) {
	_ = a.control.SetWriteDeadline(at) // It fails on closed connections only.
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// plain removes from a request what the library would do with it: it appends
// X-Forwarded-For and -Host to what a client has sent, and forwards both.
func plain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !utf8.ValidString(r.URL.Path) {
			writeProblem(w, r, http.StatusBadRequest, status.New(codes.InvalidArgument, "the path is not UTF-8"), "")
			return
		}
		r.Header.Del("X-Forwarded-For")
		r.Header.Del("X-Forwarded-Host")
		if !routeOf(r).givesStream() {
			r.Header.Del("Accept") // Only a stream has two forms.
		}
		next.ServeHTTP(w, r)
	})
}
