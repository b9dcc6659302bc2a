package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	maxBody   = 1 << 20  // As the service takes in one message.
	maxImport = 64 << 20 // As it takes in one import.
	bodyTime  = time.Minute
	tooLarge  = "the body is too large"
)

var validID = regexp.MustCompile(`^[\w-]{1,64}$`)

// logged gives each request an id, and logs it when it ends. Nothing personal is
// logged: no query, no name.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestID)
		if !validID.MatchString(id) {
			id = rand.Text()
			r.Header.Set(requestID, id)
		}
		w.Header().Set(requestID, id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		started := time.Now()
		seen := &answer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		slog.Info("request", "method", r.Method, "path", r.URL.Path, "status", seen.status,
			"seconds", time.Since(started).Seconds(), "request_id", id)
	})
}

// answer remembers its status.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(code int) {
	a.status = code
	a.ResponseWriter.WriteHeader(code)
}

// Flush is for gzhttp, which does not unwrap.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// limited refuses paths that no message can hold, and bodies that are too large or too slow.
func limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !utf8.ValidString(r.URL.Path) {
			write(w, r, http.StatusBadRequest, status.New(codes.InvalidArgument, "the path is not UTF-8"), "")
			return
		}
		limit := int64(maxBody)
		if strings.HasSuffix(r.URL.Path, ":import") {
			limit = maxImport
		}
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close")
			write(w, r, http.StatusRequestEntityTooLarge, status.New(codes.InvalidArgument, tooLarge), "")
			return
		}
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // It fails on closed connections only.
		r.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, limit), control: control}
		ctx := context.WithValue(r.Context(), ifNoneMatch{}, r.Header.Get("If-None-Match"))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// body remembers why it could not be read to its end.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	refused int    // The HTTP status, or 0.
	why     string // For people.
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		b.refused, b.why = http.StatusRequestEntityTooLarge, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.refused, b.why = http.StatusRequestTimeout, "the body is too slow"
	case errors.Is(err, io.EOF):
		_ = b.control.SetReadDeadline(time.Time{}) // The answer may take as long as it needs.
	}
	return n, err
}
