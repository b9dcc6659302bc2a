package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
	echov1 "contacts.example.com/gateway/gen/protos/echo/v1"
)

// strictQuery refuses query parameters that the request does not have, which the
// library ignores: a misspelt filter would find everything.
type strictQuery struct{ runtime.DefaultQueryParser }

func (q *strictQuery) Parse(message proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	for key, each := range values {
		name, _, _ := strings.Cut(key, "[") // key[...] is an element of a map.
		if !has(message.ProtoReflect().Descriptor(), strings.Split(name, ".")) {
			return fmt.Errorf("there is no parameter %q", key)
		}
		if !utf8.ValidString(strings.Join(each, "")) {
			return fmt.Errorf("parameter %q is not UTF-8", key)
		}
	}
	return q.DefaultQueryParser.Parse(message, values, filter)
}

// has tells whether a message has a field at a path of JSON or proto names.
func has(message protoreflect.MessageDescriptor, path []string) bool {
	for _, each := range path {
		if message == nil {
			return false
		}
		field := message.Fields().ByJSONName(each)
		if field == nil {
			field = message.Fields().ByName(protoreflect.Name(each))
		}
		if field == nil {
			return false
		}
		message = field.Message()
	}
	return true
}

// strictDecoder refuses what follows a body's one value, which the library ignores.
type strictDecoder struct{ runtime.DecoderWrapper }

func (d strictDecoder) Decode(v any) error {
	if err := d.DecoderWrapper.Decode(v); err != nil || isStreamed(v) {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body goes on after its value")
	}
	return nil
}

// isStreamed tells messages of which a body may have many.
func isStreamed(v any) bool {
	switch v.(type) {
	case *productionv1.ImportContactsRequest, *echov1.EchoRequest:
		return true
	}
	return false
}
