package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	maxBody   = 128 << 10 // The largest valid contact is below 100 kB of JSON.
	maxLine   = 1 << 20   // One message of a stream, as the service accepts it.
	maxStream = 64 << 20  // An import.

	bodyTime   = 10 * time.Second
	streamTime = time.Minute
	// How long a request waits for its turn to be decoded.
	decodingTime = 5 * time.Second

	// Bytes of all bodies that are being read, and the memory for all that are decoded.
	maxReading  = 64 << 20
	maxDecoding = 64 << 20
	// The memory for one body or line.
	maxCost = 16 << 20
	// A byte of JSON is held up to three times: as it was read, as the library's copy
	// and in the message. A value takes more: {} has two bytes, and its message 150.
	bytesPerByte  = 3
	bytesPerValue = 200
)

// bodies reads the bodies of requests, within limits.
type bodies struct {
	needToken bool // The service does not read anything without one.
	reading   *semaphore.Weighted
	decoding  *semaphore.Weighted
}

func newBodies(needToken bool) *bodies {
	return &bodies{needToken, semaphore.NewWeighted(maxReading), semaphore.NewWeighted(maxDecoding)}
}

// refusal is an error of a body, as a status of HTTP and a text.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

var (
	errTooLarge  = &refusal{http.StatusRequestEntityTooLarge, "the body is too large"}
	errLine      = &refusal{http.StatusRequestEntityTooLarge, "a message of the body is too large"}
	errValues    = &refusal{http.StatusRequestEntityTooLarge, "the body has too many values"}
	errSlow      = &refusal{http.StatusRequestTimeout, "the body is too slow"}
	errFull      = &refusal{http.StatusServiceUnavailable, "the gateway is overloaded; try again later"}
	errNoBody    = &refusal{http.StatusBadRequest, "this request needs a body with JSON"}
	errNotJSON   = &refusal{http.StatusUnsupportedMediaType, "the Content-Type of the body must be application/json"}
	errEncoded   = &refusal{http.StatusUnsupportedMediaType, "the body may not have a Content-Encoding"}
	errAnonymous = &refusal{http.StatusUnauthorized, "the header Authorization is missing"}
)

// grpcCodes has the codes of refusals.
var grpcCodes = map[int]codes.Code{
	http.StatusUnauthorized:       codes.Unauthenticated,
	http.StatusServiceUnavailable: codes.Unavailable,
}

// write answers with the refusal.
func (r *refusal) write(w http.ResponseWriter, request *http.Request) {
	code, ok := grpcCodes[r.code]
	if !ok {
		code = codes.InvalidArgument
	}
	if request.ProtoMajor == 1 { // The rest of the body is not read.
		w.Header().Set("Connection", "close")
	}
	writeProblem(w, request, r.code, status.New(code, r.text), "")
}

// handler refuses bodies, or reads them and hands them on.
func (b *bodies) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused := b.check(r); refused != nil {
			refused.write(w, r)
			return
		}
		if r.ContentLength == 0 { // A chunked body has -1.
			next.ServeHTTP(w, r)
			return
		}
		read := &reader{body: http.MaxBytesReader(w, r.Body, limit(r)), bodies: b, control: http.NewResponseController(w)}
		defer read.release()
		seconds := bodyTime
		if routeOf(r).takesStream() {
			seconds = streamTime
			body := &stream{reader: read, ctx: r.Context()}
			r = r.WithContext(context.WithValue(r.Context(), streamKey{}, body))
			r.Body = body
			defer body.finish()
		}
		_ = read.control.SetReadDeadline(time.Now().Add(seconds)) // It fails on closed connections only.
		if !routeOf(r).takesStream() {
			text, err := io.ReadAll(read)
			if err == nil {
				err = read.decode(r.Context(), text)
			}
			if err != nil {
				asRefusal(err).write(w, r)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(text))
		}
		next.ServeHTTP(w, r)
	})
}

// check looks at what is known before the body is read.
func (b *bodies) check(r *http.Request) *refusal {
	takesBody := routeOf(r).takesBody()
	switch {
	case takesBody && r.ContentLength == 0:
		return errNoBody
	// Other types are those that a page of another origin may send without asking.
	case takesBody && !isJSON(r.Header.Get("Content-Type")):
		return errNotJSON
	case takesBody && !slices.Contains([]string{"", "identity"}, strings.ToLower(r.Header.Get("Content-Encoding"))):
		return errEncoded
	case takesBody && b.needToken && routeOf(r).needsCaller() && r.Header.Get("Authorization") == "":
		return errAnonymous
	case r.ContentLength > limit(r):
		return errTooLarge
	}
	return nil
}

// limit returns the size that the body may have, in bytes.
func limit(r *http.Request) int64 {
	if routeOf(r).takesStream() {
		return maxStream
	}
	return maxBody
}

func isJSON(contentType string) bool {
	name, _, err := mime.ParseMediaType(contentType)
	return err == nil && (name == "application/json" || name == "application/x-ndjson")
}

func asRefusal(err error) *refusal {
	var refused *refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &large):
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	}
	return &refusal{http.StatusBadRequest, "the body ends before its end"} // The client has gone.
}

// reader reads a body, and accounts for it.
type reader struct {
	body           io.Reader
	bodies         *bodies
	control        *http.ResponseController
	read, decoding int64 // What is held of each semaphore.
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if !r.bodies.reading.TryAcquire(int64(n)) {
		return 0, errFull
	}
	r.read += int64(n)
	if errors.Is(err, io.EOF) {
		_ = r.control.SetReadDeadline(time.Time{}) // The answer may take as long as it needs.
	}
	return n, err
}

// decode waits until there is memory for what text will be. It is held until release.
func (r *reader) decode(ctx context.Context, text []byte) error {
	values := bytes.Count(text, []byte("{")) + bytes.Count(text, []byte("[")) + bytes.Count(text, []byte(","))
	cost := int64(len(text)*bytesPerByte + values*bytesPerValue)
	if cost > maxCost {
		return errValues
	}
	ctx, cancel := context.WithTimeout(ctx, decodingTime)
	defer cancel()
	if r.bodies.decoding.Acquire(ctx, cost) != nil {
		return errFull
	}
	r.decoding += cost
	return nil
}

func (r *reader) release() {
	r.bodies.reading.Release(r.read)
	r.bodies.decoding.Release(r.decoding)
	r.read, r.decoding = 0, 0
}

// stream is a body of several messages. It remembers why it could not be read.
type stream struct {
	*reader
	ctx     context.Context
	left    int64 // Bytes that the current message may still have.
	refused *refusal
	ended   atomic.Bool
	mutex   sync.Mutex
	over    bool // The body has been read, or its request answered.
}

type streamKey struct{}

// end ends the reading: the service has answered, and nothing more is wanted.
func (s *stream) end() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.over { // Else it would be the deadline of the connection's next request.
		s.ended.Store(true)
		_ = s.control.SetReadDeadline(time.Now())
	}
}

func (s *stream) finish() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.over = true
}

func (s *stream) Close() error { return nil }

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		s.refused = errLine
		return 0, s.refused
	}
	n, err := s.reader.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if errors.Is(err, io.EOF) {
		s.finish()
	}
	if err != nil && !errors.Is(err, io.EOF) && !s.ended.Load() {
		s.refused = asRefusal(err)
	}
	return n, err
}

// next begins another message: the one before has been sent.
func (s *stream) next() {
	s.release()
	s.left = maxLine
}

// decode is as that of a reader.
func (s *stream) decode(text []byte) error {
	err := s.reader.decode(s.ctx, text)
	if err != nil {
		s.refused = asRefusal(err)
	}
	return err
}
