"""Sends odd requests to grpc-gateway, as bytes, and compares status and headers with RFC 9110."""
# ruff: noqa: E501 - a table of requests.

import http.client
import socket
import uuid
from contextlib import closing, suppress
from typing import NamedTuple

import pytest

from tests.rest_gateway.conftest import WAIT

CONTACTS = "/v1/contacts"
CONTACT = "/v1/contacts/{id}"
PERSON = '{"person":{"name":"Ada"}}'
JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"
PATHS = {
    "contact": "DELETE, GET, HEAD, PATCH, OPTIONS",
    "contacts": "GET, HEAD, POST, OPTIONS",
    "page": "GET, HEAD, OPTIONS",
}


class Odd(NamedTuple):
    """A request, and the status and headers of its answer. None: the header is missing.

    {id} is that of a new contact, {etag} its etag.
    """

    name: str
    method: str
    target: str
    status: int
    answer: dict[str, str | None] = {}  # noqa: RUF012 - never changed.
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed.
    body: str = ""
    version: str = "HTTP/1.1"


REQUESTS = [
    # Methods.
    Odd("HEAD of a contact", "HEAD", CONTACT, 200, {"Content-Type": "application/json", "ETag": "{etag}"}),
    Odd("HEAD of a list", "HEAD", CONTACTS, 200, {"Content-Type": "application/json"}),
    Odd("HEAD of a missing contact", "HEAD", f"{CONTACTS}/nobody", 404, {"Content-Type": PROBLEM}),
    Odd("HEAD with the etag", "HEAD", CONTACT, 304, {"ETag": "{etag}"}, {"If-None-Match": "{etag}"}),
    Odd("HEAD of a watch", "HEAD", f"{CONTACTS}:watch", 200, {"Content-Type": "application/x-ndjson"}),
    Odd("HEAD of an export", "HEAD", f"{CONTACTS}:export", 200, {"Content-Type": "application/x-ndjson"}),
    Odd("HEAD of health", "HEAD", "/healthz", 200),
    Odd("HEAD of the document", "HEAD", "/openapi.json", 200),
    Odd("HEAD of an import", "HEAD", f"{CONTACTS}:import", 405, {"Allow": "POST, OPTIONS"}),
    Odd("OPTIONS of a contact", "OPTIONS", CONTACT, 204, {"Allow": PATHS["contact"]}),
    Odd("OPTIONS of the list", "OPTIONS", CONTACTS, 204, {"Allow": PATHS["contacts"]}),
    Odd("OPTIONS of nothing", "OPTIONS", "/nothing", 404, {"Allow": None}),
    Odd("PUT", "PUT", CONTACT, 405, {"Allow": PATHS["contact"]}),
    Odd("DELETE of the list", "DELETE", CONTACTS, 405, {"Allow": PATHS["contacts"]}),
    Odd("POST to health", "POST", "/healthz", 405, {"Allow": PATHS["page"]}),
    Odd("POST to the document", "POST", "/openapi.json", 405, {"Allow": PATHS["page"]}),
    Odd("DELETE of the pages", "DELETE", "/docs/", 405, {"Allow": PATHS["page"]}),
    Odd("TRACE", "TRACE", CONTACT, 405, {"Allow": PATHS["contact"]}),
    Odd("a method of our own", "BREW", CONTACT, 405, {"Allow": PATHS["contact"]}),
    Odd("a method in lower case", "get", CONTACT, 405, {"Allow": PATHS["contact"]}),
    # Content.
    Odd("POST without a body", "POST", CONTACTS, 400, {"Content-Type": PROBLEM}, JSON),
    Odd("a list without a body", "POST", "/v1/hello:all", 400, {}, JSON),
    Odd("an object for a list", "POST", "/v1/hello:all", 400, {}, JSON, "{}"),
    Odd("an empty list", "POST", "/v1/hello:all", 200, {}, JSON, "[]"),
    Odd("a body without a type", "POST", CONTACTS, 415, {"Content-Type": PROBLEM}, {}, PERSON),
    Odd("a body of text", "POST", CONTACTS, 415, {}, {"Content-Type": "text/plain"}, PERSON),
    Odd("a form with JSON in it", "POST", CONTACTS, 415, {},
        {"Content-Type": "application/x-www-form-urlencoded"}, PERSON),
    Odd("a multipart form", "POST", CONTACTS, 415, {}, {"Content-Type": "multipart/form-data; boundary=x"}, PERSON),
    Odd("a type that only looks like JSON", "POST", CONTACTS, 415, {},
        {"Content-Type": "text/plain; application/json"}, PERSON),
    Odd("two types", "POST", CONTACTS, 415, {}, {"Content-Type": "text/plain, application/json"}, PERSON),
    Odd("JSON with a charset", "POST", CONTACTS, 201, {"Content-Type": "application/json"},
        {"Content-Type": "Application/JSON; charset=utf-8"}, PERSON),
    Odd("a compressed body", "POST", CONTACTS, 415, {}, JSON | {"Content-Encoding": "gzip"}, PERSON),
    Odd("PATCH of nothing", "PATCH", CONTACT, 200, {"ETag": "{etag}"}, JSON, "{}"),
    Odd("PATCH without a body", "PATCH", CONTACT, 400, {}, JSON),
    Odd("PATCH with another mask", "PATCH", f"{CONTACT}?updateMask=person.lastUpdated", 200, {"Content-Type": "application/json"},
        JSON, '{"person":{"lastUpdated":"2026-01-02T03:04:05Z"}}'),
    Odd("129 KiB", "POST", CONTACTS, 413, {"Content-Type": PROBLEM, "Connection": "close"}, JSON,
        '{"person":{"name":"' + "x" * 132_000 + '"}}'),
    Odd("an import's size for an update", "PATCH", f"{CONTACT}:import", 413, {}, JSON, "x" * 200_000),
    Odd("a line of 2 MB", "POST", f"{CONTACTS}:import", 413, {"Content-Type": PROBLEM}, JSON,
        '{"people":[{"name":"' + "x" * 2_000_000 + '"}]}'),
    Odd("a message that only the service finds too large", "POST", CONTACTS, 413, {"Retry-After": None}, JSON,
        '{"person":{"name":"' + "x" * 100_000 + '"}}'),
    # Conditions.
    Odd("If-Match that is empty", "DELETE", CONTACT, 400, {}, {"If-Match": ""}),
    Odd("If-Match that is not ASCII", "DELETE", CONTACT, 400, {}, {"If-Match": '"ü"'}),
    Odd("If-Match without quotes", "DELETE", CONTACT, 400, {}, {"If-Match": "1"}),
    Odd("If-Match of two", "DELETE", CONTACT, 400, {}, {"If-Match": '"1", "2"'}),
    Odd("If-Match of * and one", "DELETE", CONTACT, 400, {}, {"If-Match": '*, "1"'}),
    Odd("If-Match that is weak", "DELETE", CONTACT, 412, {}, {"If-Match": 'W/"1"'}),
    Odd("If-Match that is not ASCII, with PATCH", "PATCH", CONTACT, 400, {}, JSON | {"If-Match": '"é"'}, PERSON),
    Odd("If-Match that is old, with GET", "GET", CONTACT, 412, {}, {"If-Match": '"0"'}),
    Odd("If-Match where nothing has an etag", "POST", CONTACTS, 412, {}, JSON | {"If-Match": '"1"'}, PERSON),
    Odd("If-None-Match with DELETE", "DELETE", CONTACT, 400, {}, {"If-None-Match": "*"}),
    Odd("If-None-Match without quotes", "GET", CONTACT, 400, {}, {"If-None-Match": "1"}),
    Odd("If-None-Match that is empty, with a wrong verb", "TRACE", CONTACT, 405, {}, {"If-None-Match": ""}),
    # Hosts and origins.
    Odd("a foreign Host", "GET", CONTACTS, 421, {"Content-Type": PROBLEM}, {"Host": "rebound.evil.example"}),
    Odd("a foreign Host in the target", "GET", "http://evil.example/healthz", 421),
    Odd("localhost with another port", "GET", "/healthz", 200, {}, {"Host": "LOCALHOST:1"}),
    Odd("an address as Host", "GET", "/healthz", 200, {}, {"Host": "[::1]:8080"}),
    Odd("an HTTP/1.0 probe", "GET", "/healthz", 200, version="HTTP/1.0"),
    Odd("a page that may not call", "POST", CONTACTS, 403, {"Access-Control-Allow-Origin": None},
        JSON | {"Origin": "https://evil.example"}, PERSON),
    Odd("a page that says so", "DELETE", CONTACT, 403, {}, {"Sec-Fetch-Site": "cross-site"}),
    Odd("a page without an origin", "POST", CONTACTS, 403, {}, JSON | {"Origin": "null"}, PERSON),
    # Sizes.
    Odd("headers of 20 kB", "GET", CONTACTS, 431, {}, {"X-Forwarded-For": "1.2.3.4, " * 2_200}),
    Odd("a path of 20 kB", "GET", f"{CONTACTS}/{'x' * 20_000}", 431),
    Odd("X-Forwarded-For of 3 kB", "GET", CONTACTS, 200, {}, {"X-Forwarded-For": "1.2.3.4, " * 300}),
    # The rest.
    Odd("a contact as an event", "GET", CONTACT, 200, {"Content-Type": "application/json"},
        {"Accept": "text/event-stream"}),
    Odd("a bad Grpc-Timeout", "GET", CONTACTS, 400, {}, {"Grpc-Timeout": "soon"}),
    Odd("a Grpc-Timeout in the past", "GET", CONTACTS, 504, {}, {"Grpc-Timeout": "1n"}),
    Odd("a Range", "GET", CONTACT, 200, {"Accept-Ranges": None, "ETag": "{etag}"}, {"Range": "bytes=0-3"}),
    Odd("an override of the method", "POST", CONTACT, 405, {"Allow": PATHS["contact"]},
        {"X-HTTP-Method-Override": "DELETE"}),
]  # fmt: skip


@pytest.fixture
def filled(gateway):
    """Creates a contact; returns a function that fills in its id and etag."""
    made = f"c-{uuid.uuid4()}"
    answer = gateway.ask("POST", f"{CONTACTS}?contactId={made}", PERSON)
    assert answer.status == 201

    def fill(text):
        return text and text.replace("{id}", made).replace("{etag}", answer.headers["ETag"])

    return fill


def send(gateway, odd, filled):
    """Sends a request as bytes; returns the response, and its body."""
    headers = {"Host": "localhost", **gateway.headers(), **odd.headers}
    if odd.body:
        headers["Content-Length"] = str(len(odd.body.encode()))
    lines = [
        f"{odd.method} {filled(odd.target)} {odd.version}",
        *(f"{name}: {filled(value)}" for name, value in headers.items()),
        "",
        odd.body,
    ]
    with closing(socket.create_connection((gateway.host, gateway.port), WAIT)) as connection:
        with suppress(ConnectionError):  # It may answer before it has read everything.
            connection.sendall("\r\n".join(lines).encode())
        response = http.client.HTTPResponse(connection, method=odd.method)
        response.begin()
        return response, response.read()


@pytest.mark.parametrize("odd", REQUESTS, ids=lambda odd: odd.name)
def test_an_odd_request_gets_what_http_has_for_it(gateway, odd, filled):
    response, body = send(gateway, odd, filled)

    assert (response.status, body) == (odd.status, body)
    assert {name: response.headers[name] for name in odd.answer} == {
        name: filled(value) for name, value in odd.answer.items()
    }
    if odd.method == "HEAD" or response.status in (204, 304):
        assert body == b""
    elif response.status >= 400 and response.status != 431:  # Go's server writes that one.
        assert response.headers["Content-Type"] == PROBLEM


@pytest.mark.parametrize(
    "odd", [odd for odd in REQUESTS if odd.method == "DELETE"], ids=lambda odd: odd.name
)
def test_a_refused_condition_deletes_nothing(gateway, odd, filled):
    send(gateway, odd, filled)

    assert gateway.ask("GET", filled(CONTACT)).status == 200
