package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
)

// codec reads JSON strictly, and writes it without spaces. The library adds some at
// random, different ones in each build, so that nobody relies on its bytes.
type codec struct{ *runtime.JSONPb }

// NewDecoder returns a decoder for the body of a request.
func (c codec) NewDecoder(r io.Reader) runtime.Decoder {
	decoder := c.JSONPb.NewDecoder(r).(runtime.DecoderWrapper)
	if body, ok := r.(*stream); ok {
		return streamDecoder{decoder, body}
	}
	return strictDecoder{decoder}
}

// Marshal writes a message, or what the library puts around it.
func (c codec) Marshal(message any) ([]byte, error) {
	// A response_body that is empty; the library writes null.
	if list := reflect.ValueOf(message); list.Kind() == reflect.Slice && list.IsNil() {
		return []byte("[]"), nil
	}
	spaced, err := c.JSONPb.Marshal(message)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = json.Compact(&text, spaced)
	return text.Bytes(), err
}

// ndjson writes each message of a stream on a line of its own.
type ndjson struct{ codec }

func (ndjson) StreamContentType(any) string { return "application/x-ndjson" }

// events writes each message of a stream as a server-sent event, for clients that
// ask for it by Accept: text/event-stream.
type events struct{ codec }

func (events) ContentType(any) string       { return "text/event-stream" }
func (events) StreamContentType(any) string { return "text/event-stream" }
func (events) Delimiter() []byte            { return []byte("\n\n") }

// Marshal writes an event. The id of a change is its position, which EventSource
// sends back as Last-Event-ID when it connects again. An error has a name: else it
// would be a message like any other.
func (e events) Marshal(message any) ([]byte, error) {
	text, err := e.codec.Marshal(message)
	before := ""
	switch message := message.(type) {
	case map[string]any:
		change, _ := message["result"].(*productionv1.WatchContactsResponse)
		if position := change.GetPosition(); position != "" && !strings.ContainsAny(position, "\r\n\x00") {
			before = "id: " + position + "\n"
		}
	case map[string]proto.Message:
		before = "event: problem\n"
	}
	return append([]byte(before+"data: "), text...), err
}

// resumed makes a watch begin after the event that its client saw last.
func resumed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("Last-Event-Id"); id != "" && isWatch[routeOf(r).fullMethod()] {
			query := r.URL.Query()
			query.Set("position", id) // The one in the address was that of the first connection.
			changed := *r.URL
			changed.RawQuery = query.Encode()
			r.URL = &changed
		}
		next.ServeHTTP(w, r)
	})
}
