package main

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
)

// codec reads JSON strictly, and writes it without spaces. The library puts some here and there, other
// ones in each build, so that nobody relies on its bytes.
type codec struct{ *runtime.JSONPb }

func (c codec) NewDecoder(r io.Reader) runtime.Decoder {
	return strictDecoder{c.JSONPb.NewDecoder(r).(runtime.DecoderWrapper)}
}

func (c codec) Marshal(message any) ([]byte, error) {
	loose, err := c.JSONPb.Marshal(message)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = json.Compact(&text, loose)
	return text.Bytes(), err
}

// ndjson writes each message of a stream on a line of its own.
type ndjson struct{ codec }

func (ndjson) StreamContentType(any) string { return "application/x-ndjson" }

// events writes each message of a stream as a server-sent event, which a browser
// reads with EventSource. A client asks for it by Accept: text/event-stream.
type events struct{ codec }

func (events) ContentType(any) string       { return "text/event-stream" }
func (events) StreamContentType(any) string { return "text/event-stream" }
func (events) Delimiter() []byte            { return []byte("\n\n") }

func (e events) Marshal(message any) ([]byte, error) {
	text, err := e.codec.Marshal(message)
	return append([]byte("data: "), text...), err
}
