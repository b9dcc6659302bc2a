package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// strictQuery refuses query parameters that the request does not have, which the
// library ignores: a misspelt filter would find everything.
type strictQuery struct{ runtime.DefaultQueryParser }

// Parse sets the fields of message that values name. Masks may be in JSON's names.
func (q *strictQuery) Parse(message proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	for key, each := range values {
		name, _, _ := strings.Cut(key, "[") // key[...] is an element of a map.
		field := fieldAt(message.ProtoReflect().Descriptor(), strings.Split(name, "."))
		if field == nil {
			return fmt.Errorf("there is no parameter %q", key)
		}
		if !utf8.ValidString(strings.Join(each, "")) {
			return fmt.Errorf("parameter %q is not UTF-8", key)
		}
		if kind := field.Message(); kind != nil && kind.FullName() == "google.protobuf.FieldMask" {
			for i := range each {
				each[i] = protoNames(each[i])
			}
		}
	}
	return q.DefaultQueryParser.Parse(message, values, filter)
}

// fieldAt returns the field at a path of JSON or proto names, nil if there is none.
func fieldAt(message protoreflect.MessageDescriptor, path []string) protoreflect.FieldDescriptor {
	var field protoreflect.FieldDescriptor
	for _, each := range path {
		if message == nil {
			return nil
		}
		if field = message.Fields().ByJSONName(each); field == nil {
			field = message.Fields().ByName(protoreflect.Name(each))
		}
		if field == nil {
			return nil
		}
		message = field.Message()
	}
	return field
}

// protoNames turns the paths of a mask from JSON's lowerCamelCase to the contract's
// lower_snake_case, and leaves those that already are.
func protoNames(mask string) string {
	var names strings.Builder
	for _, letter := range mask {
		if unicode.IsUpper(letter) {
			names.WriteByte('_')
			letter = unicode.ToLower(letter)
		}
		names.WriteRune(letter)
	}
	return names.String()
}

// strictDecoder refuses what follows a body's one value, which the library ignores.
type strictDecoder struct{ runtime.DecoderWrapper }

func (d strictDecoder) Decode(v any) error {
	err := d.DecoderWrapper.Decode(v)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong): // Its text names Go's types.
		return errors.New("the body must be a list, not " + article(wrong.Value))
	case err != nil:
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body continues after its value")
	}
	return nil
}

func article(kind string) string {
	if strings.HasPrefix(kind, "o") {
		return "an " + kind
	}
	return "a " + kind
}

// streamDecoder decodes a body of several messages, each within limits of its own.
type streamDecoder struct {
	runtime.DecoderWrapper
	body *stream
}

func (d streamDecoder) Decode(v any) error {
	d.body.next()
	var text json.RawMessage
	if err := d.Decoder.Decode(&text); err != nil {
		if d.body.ended.Load() {
			return io.EOF // The library then takes the service's answer.
		}
		return err
	}
	if err := d.body.decode(text); err != nil {
		return err
	}
	return d.Unmarshal(text, v.(proto.Message))
}
