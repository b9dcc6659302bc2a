"""Writes the OpenAPI 3.0 document from the OpenAPI 2 that protoc-gen-openapiv2 generates.

Run it, as `make gateway` does:

    python -m rest_gateway.openapi rest_gateway/gateway/gen/openapi.swagger.json \
        rest_gateway/gateway/openapi.json

It adds what OpenAPI 2, or that plugin, cannot express: bearer tokens, a media type for each status,
streams, and the limits that chapter 4 checks.
"""

import argparse
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from production.contacts.validation import MAX_PHONES
from production.serving.validation import MAX_TEXT, RESOURCE_ID
from production.v1 import contacts_pb2
from rest_gateway.v1 import greeter_pb2

Json = dict[str, Any]
NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"
# A string, because generators read a stream's JSON as one value otherwise.
TEXT = {"type": "string"}
BYTES = {"type": "string", "format": "binary"}

PARAMETERS: dict[str, Json] = {
    "pageSize": {"minimum": 0},
    "namePrefix": {"maxLength": MAX_TEXT},
    "contactId": {"pattern": f"^{RESOURCE_ID.pattern}$"},
    "requestId": {"format": "uuid"},
    "contact": {"pattern": "^[a-z0-9-]{1,63}$"},
}
"""What each parameter's schema gets, by its name."""
PROPERTIES: dict[tuple[str, str], Json] = {
    ("Person", "name"): {"minLength": 1, "maxLength": MAX_TEXT},
    ("Person", "email"): {"maxLength": MAX_TEXT},
    ("Person", "phones"): {"maxItems": MAX_PHONES},
    ("PhoneNumber", "number"): {"minLength": 1, "maxLength": MAX_TEXT},
    ("ImportContactsRequest", "requestId"): {"format": "uuid"},
}
"""What each property gets, by its message and name."""
ERRORS = {
    400: ("BadRequest", "The request is invalid; violations lists every mistake."),
    401: ("Unauthorized", "The token is missing, or not accepted."),
    403: ("Forbidden", "The token does not grant the scope that this needs."),
    404: ("NotFound", "There is no such contact."),
    409: ("Conflict", "The id is taken, or the contact does not have the etag of the request."),
    412: (
        "PreconditionFailed",
        "The contact has changed since; it does not have the etag in If-Match.",
    ),
    413: ("ContentTooLarge", "The body is too large."),
    415: ("UnsupportedMediaType", "The body is not JSON."),
    429: (
        "TooManyRequests",
        "The server is overloaded, or the caller has used up what it may have.",
    ),
    500: ("InternalServerError", "The service has failed."),
    503: ("ServiceUnavailable", "The service cannot be reached at the moment."),
    504: ("GatewayTimeout", "The call has not ended in time."),
}
"""The errors: the name and the description of each status."""
HEADERS = {
    401: {"WWW-Authenticate": "How to authenticate."},
    429: {"Retry-After": "Seconds after which to try again."},
    503: {"Retry-After": "Seconds after which to try again."},
}


def document(swagger: Json) -> Json:
    """Returns the OpenAPI 3.0 document for an OpenAPI 2 document of our contracts."""
    swagger = _with_new_references(swagger)
    schemas = swagger["definitions"]
    for (message, name), limits in PROPERTIES.items():
        schemas[message]["properties"][name] |= limits
    _add_bodies(schemas)
    _add_lines(schemas)
    methods = dict(_methods())
    paths: Json = {}
    for path, operations in swagger["paths"].items():
        paths[path] = {
            verb: _operation(
                operation, verb, methods[re.sub(r"\d+$", "", operation["operationId"])]
            )
            for verb, operation in operations.items()
        }
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "description": "Your token, without the word Bearer.",
    }
    return {
        "openapi": "3.0.3",
        "info": swagger["info"],
        "servers": [{"url": "/"}],
        "tags": swagger["tags"],
        "security": swagger["security"],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {_name(status): _error(status) for status in ERRORS},
            "securitySchemes": {"bearer": bearer},
        },
    }


def _with_new_references(swagger: Json) -> Json:
    text = json.dumps(swagger).replace("#/definitions/", "#/components/schemas/")
    converted: Json = json.loads(text)
    return converted


def _add_bodies(schemas: Json) -> None:
    """Adds ContactCreate and ContactUpdate: what a client sends differs from what it gets.

    A new contact needs a person. An update does not, and neither does a contact that is returned:
    that of a deleted one has its name alone.
    """
    contact = schemas["Contact"]
    del contact["required"]
    sent = copy.deepcopy(contact)
    for name in ("name", "createTime", "updateTime"):
        del sent["properties"][name]
    del contact["example"]
    schemas["ContactCreate"] = sent | {
        "description": "ContactCreate is a contact to create.",
        "required": ["person"],
    }
    schemas["ContactUpdate"] = sent | {
        "description": "ContactUpdate holds the fields to change, and no others. null clears one."
    }


def _add_lines(schemas: Json) -> None:
    """Adds what a line of each stream is."""
    schemas["StreamError"] = {
        "type": "object",
        "description": "StreamError is why a stream has failed: google.rpc.Status.",
        "properties": {"code": {"type": "integer", "format": "int32"}, "message": TEXT},
    }
    for method in contacts_pb2.DESCRIPTOR.services_by_name["ContactService"].methods:
        if method.server_streaming:
            line = _line(method)
            schemas[line] = {
                "type": "object",
                "description": f"{line} is a line of a stream. One with an error is the last.",
                "properties": {
                    "result": _reference(f"schemas/{method.output_type.name}"),
                    "error": _reference("schemas/StreamError"),
                },
            }


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Yields each method with its operationId, to which the plugin adds a digit for each further
    binding."""
    for file in (contacts_pb2.DESCRIPTOR, greeter_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            for method in service.methods:
                yield f"{service.name}_{method.name}", method


def _operation(operation: Json, verb: str, method: MethodDescriptor) -> Json:
    parameters = operation.pop("parameters", [])
    operation.pop("produces", None)
    new = {
        **operation,
        "parameters": [_parameter(each) for each in parameters if not _is_body(each)],
    }
    for body in filter(_is_body, parameters):
        new["requestBody"] = _request_body(body, verb, method)
    new["responses"] = {
        status: _success(response, method)
        for status, response in operation["responses"].items()
        if status != "default"
    }
    for error in _errors(new):
        new["responses"][str(error)] = _reference(f"responses/{_name(error)}")
    new["responses"]["default"] = {
        "description": "Any other error.",
        "content": _content("application/problem+json", _reference("schemas/Problem")),
    }
    return new


def _is_body(parameter: Json) -> bool:
    return bool(parameter["in"] == "body")


def _parameter(parameter: Json) -> Json:
    """Returns a parameter whose type is in a schema of its own, with its limits."""
    outside = ("name", "in", "description", "required")
    schema = {key: value for key, value in parameter.items() if key not in outside}
    kept = {key: value for key, value in parameter.items() if key in outside}
    return kept | {"schema": schema | PARAMETERS.get(parameter["name"], {})}


def _request_body(body: Json, verb: str, method: MethodDescriptor) -> Json:
    if method.client_streaming:
        message = method.input_type.name
        description = f"Lines, each of which is an {message} in JSON; or one message."
        one = _content("application/json", _reference(f"schemas/{message}"))
        content = _content(NDJSON, BYTES) | one
        return {"description": description, "required": True, "content": content}
    schema = body["schema"]
    if verb == "patch":
        schema = _reference("schemas/ContactUpdate")
    elif method.name == "CreateContact":
        schema = _reference("schemas/ContactCreate")
    return {"required": True, "content": _content("application/json", schema)}


def _success(response: Json, method: MethodDescriptor) -> Json:
    new: Json = {"description": response["description"]}
    if "headers" in response:
        new["headers"] = {
            name: {"description": header["description"], "schema": TEXT}
            for name, header in response["headers"].items()
        }
    if method.server_streaming:
        new["description"] += f" Each line is a {_line(method)} in JSON."
        new["content"] = _content(NDJSON, BYTES) | _content(EVENTS, TEXT)
    elif method.GetOptions().Extensions[annotations_pb2.http].response_body:
        # The plugin leaves it out once a response is described. Ours is a list of strings.
        new["content"] = _content("application/json", {"type": "array", "items": TEXT})
    elif response.get("schema"):  # 304 has none, which the plugin writes as {}.
        new["content"] = _content("application/json", response["schema"])
    return new


def _errors(operation: Json) -> list[int]:
    """Returns the statuses of the errors that an operation can end with, besides the default."""
    found = {400, 429, 500, 503, 504}
    names = {each["name"] for each in operation["parameters"]}
    if operation.get("security") != []:
        found |= {401, 403}
    if "requestBody" in operation:
        found |= {413, 415}
    if "contact" in names:
        found |= {404}
    if "contactId" in names:
        found |= {409}
    if "If-Match" in names:
        found |= {409, 412}
    return sorted(found)


def _error(status: int) -> Json:
    headers = {
        name: {"description": what, "schema": TEXT}
        for name, what in HEADERS.get(status, {}).items()
    }
    return {
        "description": ERRORS[status][1],
        **({"headers": headers} if headers else {}),
        "content": _content("application/problem+json", _reference("schemas/Problem")),
    }


def _name(status: int) -> str:
    return ERRORS[status][0]


def _line(method: MethodDescriptor) -> str:
    return f"{method.name}Line"


def _content(media_type: str, schema: Json) -> Json:
    return {media_type: {"schema": schema}}


def _reference(path: str) -> Json:
    return {"$ref": f"#/components/{path}"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the OpenAPI 3.0 document.")
    parser.add_argument("swagger", type=Path, help="the OpenAPI 2 document of the plugin")
    parser.add_argument("openapi", type=Path, help="the file to write")
    args = parser.parse_args()
    written = document(json.loads(args.swagger.read_text()))
    args.openapi.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
