"""Sends bad requests to grpc-gateway and Envoy, and compares their answers.

Chapter 5's README shows the differences; they are taken from this table.
"""

import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest

README = Path(__file__).parents[2] / "rest_gateway" / "README.md"
CONTACTS = "/v1/contacts"
CONTACT = "/v1/contacts/{id}"
ECHO = "/protos.echo.v1.EchoService/"
PERSON = '{"person":{"name":"Ada"}}'


class Case(NamedTuple):
    """A request, and for each front the status and a part of the body. {id} is a contact's."""

    name: str
    method: str
    path: str
    body: Any
    gateway: tuple[int, str]
    envoy: tuple[int, str]
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody changes it.
    tell: str = ""
    """What the README says of the difference; without it there is none worth a line."""


def same(name, method, path, body, status, gateway, envoy, **headers):
    """A case in which only the words differ."""
    return Case(name, method, path, body, (status, gateway), (status, envoy), headers)


def person(text):
    return '{"person":{"name":"Ada",%s}}' % text  # noqa: UP031 - braces.


CASES = [
    # Where to.
    same("an unknown path", "GET", "/nothing", None, 404, "nothing at this path", "Could not resolve"),
    Case("a wrong verb", "PUT", CONTACT, PERSON, (405, "other methods"), (404, "Could not resolve"),
         tell="405 with `Allow`; 404"),
    Case("an override of the verb", "POST", CONTACT, None, (405, "other methods"),
         (404, "Could not resolve"), {"X_HTTP_Method_Override": "DELETE"}),
    same("an unknown custom verb", "POST", f"{CONTACTS}:explode", "{}", 404, "nothing at", "Could not"),
    Case("a slash at the end", "GET", f"{CONTACTS}/", None, (400, "contacts/{contact_id}"), (200, "contacts"),
         tell="a contact without an id; the list"),
    Case("two slashes", "GET", f"/{CONTACTS}", None, (307, ""), (200, "contacts"),
         tell="307 to the clean path; reads it as one"),
    Case("an encoded slash for a slash", "GET", "/v1/contacts%2F{id}", None, (200, "Ada"), (404, "Could not"),
         tell="counts as a slash; does not"),
    Case("an encoded slash in an id", "GET", f"{CONTACTS}/a%2Fb", None, (404, "nothing at"),
         (400, "contacts/{contact_id}")),
    same("a bad escape", "GET", f"{CONTACTS}/%zz", None, 400, "Bad Request", "contacts/{contact_id}"),
    same("NUL in the path", "GET", f"{CONTACTS}/%00", None, 400, "contacts/{contact_id}", ""),
    same("a path that is not UTF-8", "GET", f"{CONTACTS}/%ff", None, 400, "not UTF-8", "not a message"),
    same("a bad id", "GET", f"{CONTACTS}/ADA", None, 400, '"field":"name"', '"field":"name"'),
    same("a contact that is not there", "GET", f"{CONTACTS}/nobody", None, 404, "NOT_FOUND", '"code":5'),
    # Bodies.
    same("no body", "POST", CONTACTS, None, 400, "needs a body", '"field":"contact.person.name"'),
    same("an empty object", "POST", CONTACTS, "{}", 400, "may not be empty", "may not be empty"),
    same("half an object", "POST", CONTACTS, "{", 400, "unexpected EOF", "Unexpected end"),
    same("no JSON", "POST", CONTACTS, "hello", 400, "invalid character", "Unexpected token"),
    Case("a form", "POST", CONTACTS, "name=Ada", (415, "Content-Type"), (400, "token"),
         {"Content_Type": "application/x-www-form-urlencoded"}, tell="refused by its type; read as JSON"),
    Case("JSON as `text/plain`", "POST", CONTACTS, PERSON, (415, "Content-Type"), (200, "Ada"),
         {"Content_Type": "text/plain"}, tell="415; done, and **any web page can send it**"),
    Case("XML", "POST", CONTACTS, "<x/>", (415, "Content-Type"), (400, "Expected"), {"Content_Type": "text/xml"}),
    same("a list", "POST", CONTACTS, "[]", 400, "unexpected token", "cannot start list"),
    same("null", "POST", CONTACTS, "null", 400, "unexpected token", "may not be empty"),
    same("two objects", "POST", CONTACTS, PERSON * 2, 400, "continues", "before end of input"),
    Case("an unknown field", "POST", CONTACTS, person('"shoe":1'), (400, 'unknown field'), (200, "Ada"),
         tell="refused; ignored, and so is a misspelt one"),
    Case("a key twice", "POST", CONTACTS, '{"person":{"name":"Ada","name":"Bo"}}', (400, "duplicate field"),
         (200, "Bo"), tell="refused; the last one counts"),
    same("a number for a string", "POST", CONTACTS, '{"person":{"name":7}}', 400, "invalid value", "invalid value"),
    same("a fraction", "POST", CONTACTS, person('"id":1.5'), 400, "invalid value", "invalid value"),
    same("a number too large", "POST", CONTACTS, person('"id":2147483648'), 400, "invalid value", "invalid value"),
    same("an unknown enum value", "POST", CONTACTS, person('"phones":[{"number":"1","type":"FAX"}]'), 400,
         "enum field type", "FAX"),
    same("a bad time", "POST", CONTACTS, '{"createTime":"yesterday"}', 400, "Timestamp", "timestamp"),
    same("a body that is not UTF-8", "POST", CONTACTS, b'{"person":{"name":"\xff"}}', 400, "UTF-8", "UTF-8"),
    same("half a surrogate", "POST", CONTACTS, '{"person":{"name":"\\ud800"}}', 400, "", "surrogate"),
    same("UTF-16", "POST", CONTACTS, PERSON.encode("utf-16"), 400, "invalid character", ""),
    same("20,000 brackets", "POST", CONTACTS, "[" * 20_000, 400, "max depth", "too deep"),
    Case("1.1 MB", "POST", CONTACTS, person(f'"email":"{"x" * 1_100_000}"'), (413, "too large"),
         (429, "larger than max"), tell="413; what the service says"),
    same("mistakes", "POST", f"{CONTACTS}?contactId=X", '{"person":{"phones":[{}]}}', 400,
         '"field":"contactId"', '"field":"contact_id"'),
    same("an id that is taken", "POST", f"{CONTACTS}?contactId={{id}}", PERSON, 409, "ALREADY_EXISTS", '"code":6'),
    # Queries.
    same("an unknown parameter", "GET", f"{CONTACTS}?page=1", None, 400, "no parameter", "Could not find"),
    same("a page size in letters", "GET", f"{CONTACTS}?pageSize=many", None, 400, "page_size", "page_size"),
    same("a negative page size", "GET", f"{CONTACTS}?pageSize=-1", None, 400, '"field":"pageSize"', "negative"),
    same("an enormous page size", "GET", f"{CONTACTS}?pageSize=99999999999", None, 400, "range", "invalid"),
    Case("a parameter twice", "GET", f"{CONTACTS}?pageSize=1&pageSize=2", None, (400, "too many values"),
         (200, "contacts"), tell="refused; the last one counts"),
    same("a page token of our own", "GET", f"{CONTACTS}?pageToken=x", None, 400, "pageToken", "page_token"),
    Case("a body with GET", "GET", CONTACTS, '{"pageSize":-1}', (200, "contacts"), (400, "negative"),
         tell="ignored; read"),
    # PATCH.
    Case("PATCH of one field", "PATCH", CONTACT, '{"person":{"email":"a@example.org"}}',
         (200, '"phones":[{"number":"1"}]'), (400, "may not be empty"),
         tell="the mask is taken from the body; the person is replaced, unless `updateMask` is given"),
    Case("another name in the body", "PATCH", CONTACT, '{"name":"contacts/other","person":{"name":"Bo"}}',
         (200, "{id}"), (400, "conflicting"), tell="the path counts; refused"),
    same("a mask of no field", "PATCH", f"{CONTACT}?updateMask=person.shoe", PERSON, 400, "updateMask", "update_mask"),
    # Who.
    same("no token", "GET", CONTACTS, None, 401, "UNAUTHENTICATED", '"code":16', client=""),
    same("another scheme", "GET", CONTACTS, None, 401, "UNAUTHENTICATED", '"code":16', Authorization="Basic eDp5"),
    same("metadata by hand", "GET", CONTACTS, None, 401, "UNAUTHENTICATED", '"code":16',
         client="", Grpc_Metadata_Authorization="Bearer x"),
    same("no right", "POST", CONTACTS, PERSON, 403, '"scope":"contacts.write"', "contacts.write", client="viewer"),
    # Conditions.
    Case("a stale `If-Match`", "DELETE", CONTACT, None, (412, "ETAG_MISMATCH"), (200, "{}"),
         {"If_Match": '"0"'}, tell="412; **deletes**"),
    Case("two etags in `If-Match`", "DELETE", CONTACT, None, (400, "one ETag"), (200, "{}"), {"If_Match": '"0", "1"'}),
    same("a stale etag in the query", "DELETE", f"{CONTACT}?etag=%220%22", None, 409, "ETAG_MISMATCH", "ETAG_MISMATCH"),
    # Time.
    Case("a bad `Grpc-Timeout`", "GET", CONTACTS, None, (400, "invalid grpc-timeout"), (200, "contacts"),
         {"Grpc_Timeout": "soon"}, tell="400; ignored"),
    same("too late", "POST", f"{ECHO}UnaryEcho", '{"delay":"5s"}', 504, "DEADLINE_EXCEEDED", "",
         Grpc_Timeout="100m"),
    # Streams.
    Case("lines to a client stream", "POST", f"{CONTACTS}:import", '{"people":[{"name":"A"}]}\n{"finish":true}\n',
         (200, '{"contactCount":1}'), (400, "before end"), tell="wants lines; wants a list"),
    Case("a list to a client stream", "POST", f"{CONTACTS}:import", '[{"people":[{"name":"A"}]},{"finish":true}]',
         (400, "unexpected token"), (200, '{"contactCount":1}')),
    same("an import that breaks off", "POST", f"{CONTACTS}:import", '{"people":[{"name":"A"}]}\n{"peo', 400, "EOF", ""),
    same("a stream that is refused", "POST", f"{ECHO}ServerStreamingEcho", '{"failure":{"code":8,"message":"enough"}}',
         429, "RESOURCE_EXHAUSTED", '"code":8'),
    Case("a stream that fails after a message", "POST", f"{ECHO}ServerStreamingEcho",
         '{"message":"hi","failure":{"code":8,"message":"enough","afterResponses":1}}',
         (200, '{"error":{"code":8,"message":"enough"}}'), (200, "hi"),
         tell="the last line tells the error; **nothing tells it**"),
]  # fmt: skip


@pytest.fixture
def contact_id(front):
    """The id of a new contact."""
    made = f"c-{uuid.uuid4()}"
    body = '{"person":{"name":"Ada","phones":[{"number":"1"}]}}'
    assert front.ask("POST", f"{CONTACTS}?contactId={made}", body).status in (200, 201)
    return made


@pytest.mark.parametrize("front", ["gateway", "envoy"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_request_gets_a_clear_answer(case, front, contact_id, request):
    status, part = getattr(case, request.node.callspec.params["front"])
    path = case.path.replace("{id}", contact_id)

    answer = front.ask(case.method, path, case.body, **case.headers)

    text = answer.body.decode(errors="replace")
    assert (answer.status, text) == (status, text)
    assert part.replace("{id}", contact_id) in text


@pytest.mark.parametrize("front", ["gateway"], indirect=True)
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.gateway[0] >= 400], ids=lambda case: case.name
)
def test_each_refusal_by_the_gateway_is_a_problem(case, front, contact_id):
    answer = front.ask(
        case.method, case.path.replace("{id}", contact_id), case.body, **case.headers
    )
    if case.name == "a bad escape":  # Go's own server refuses it before anybody is asked.
        return

    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (answer.status, "about:blank")
    assert problem["requestId"] == answer.headers["X-Request-Id"]


def test_a_stream_that_fails_tells_envoys_client_nothing(envoy):
    body = json.dumps({"failure": {"code": 8, "afterResponses": 1, "message": "enough"}})

    answer = envoy.ask("POST", f"{ECHO}ServerStreamingEcho", body)

    assert (answer.status, b"enough" in answer.body, "grpc-status" in answer.headers) == (
        200,
        False,
        False,
    )


def test_the_readme_tells_each_difference():
    lines = [
        f"| {case.name} | {case.gateway[0]} | {case.envoy[0]} | {case.tell} |"
        for case in CASES
        if case.tell
    ]

    assert [line for line in lines if line not in README.read_text()] == []
