"""Rules in a contract have the effect of chapter 4's own, and wrong ones are found in time."""

import itertools
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from production.contacts.validation import contact_violations
from production.development.programs import AbsentError, find
from production.serving import validation
from production.serving.validation import InvalidError
from production.v1 import contacts_pb2 as without_rules
from tests.conftest import ROOT, absent, python

protovalidate = pytest.importorskip("protovalidate", reason="no wheel for this platform")

from production.lessons.rules import checks, descriptors, mistakes  # noqa: E402
from production.lessons.rules.v1 import contacts_pb2 as with_rules  # noqa: E402
from production.lessons.rules.v1.contacts_pb2_grpc import ContactServiceStub  # noqa: E402

CONTRACT = "production/lessons/rules/v1/contacts.proto"
FIRST, LAST = -62_135_596_800, 253_402_300_799
UUID = "d83b6942-d9b1-4f40-9962-1de7f01d87cb"


def request(name="Ada", email="", phones=(), seconds=None, nanos=0, **ids):
    """A request, as both contracts read it."""
    made = without_rules.CreateContactRequest(**ids)
    person = made.contact.person
    person.name, person.email = name, email
    for number in phones:
        person.phones.add(number=number)
    if seconds is not None:
        person.last_updated.seconds, person.last_updated.nanos = seconds, nanos
    return made.SerializeToString()


def by_contract(serialized, kind=with_rules.CreateContactRequest):
    """The fields of a request that break a rule of the contract."""
    return {field for field, _ in checks.violations(kind.FromString(serialized))}


def by_our_own(serialized):
    """The fields of a request that chapter 4's CreateContact refuses."""
    made = without_rules.CreateContactRequest.FromString(serialized)
    try:
        validation.raise_for(
            contact_violations(made.contact),
            validation.resource_id_violations(made.contact_id, "contact_id"),
            validation.request_id_violations(made.request_id),
        )
    except InvalidError as error:
        return {violation.field for violation in error.violations}
    return set()


NAME, EMAIL, PHONES = (f"contact.person.{field}" for field in ("name", "email", "phones"))
TIME = "contact.person.last_updated"
CASES = [
    (request(), set()),
    (request("x" * 200, "y" * 200, ["1" * 200] * 20), set()),
    (request("\U0001f600" * 200), set()),  # Characters are counted, not bytes.
    (request(""), {NAME}),
    (request(" \u3000\u00a0\u2028"), {NAME}),
    (request("\u200b"), set()),  # A zero-width space is no space, to Unicode.
    (request("a\nb"), {NAME}),
    (request("a\x85"), {NAME}),
    (request("x" * 201), {NAME}),
    (request("a", "y" * 201), {EMAIL}),
    (request("a", "a\x00"), {EMAIL}),
    (request(phones=["1", ""]), {f"{PHONES}[1].number"}),
    (request(phones=["1" * 201, "1\x7f"]), {f"{PHONES}[0].number", f"{PHONES}[1].number"}),
    (request(phones=["1"] * 21), {PHONES}),
    (request(seconds=FIRST), set()),
    (request(seconds=FIRST - 1), {TIME}),
    (request(seconds=LAST, nanos=999_999_999), set()),
    (request(seconds=LAST + 1), {TIME}),
    (request(contact_id="ada-1"), set()),
    (request(contact_id="Ada-1"), {"contact_id"}),
    (request(contact_id="ada-1\n"), {"contact_id"}),
    (request(contact_id="1ada"), {"contact_id"}),
    (request(contact_id="a" * 64), {"contact_id"}),
    (request(request_id=UUID), set()),
    (request(request_id=UUID.upper()), set()),
    (request(request_id="1"), {"request_id"}),
    (request(request_id=UUID.replace("-", "")), {"request_id"}),
    (request(request_id=f"{{{UUID}}}"), {"request_id"}),
    (request("", "\x00", [""], LAST + 1, contact_id="a", request_id="1"),
     {NAME, EMAIL, f"{PHONES}[0].number", TIME, "contact_id", "request_id"}),
]  # fmt: skip
"""Requests, and their wrong fields. For every rule a value breaks it, and one does not."""


@pytest.mark.parametrize(("serialized", "wrong"), CASES)
def test_both_find_the_same_fields(serialized, wrong):
    assert by_contract(serialized) == wrong
    assert by_our_own(serialized) == wrong


texts = st.text(
    st.sampled_from("aZ9-\u00e9\u3042\U0001f600 \t\n\x00\x1c\x7f\x85\xa0\u2028\u3000"), max_size=5
)
texts = texts | st.sampled_from(["x" * 200, "x" * 201]) | st.text(max_size=3)
requests = st.builds(
    request,
    texts,
    texts,
    st.lists(texts, max_size=3) | st.just(["1"] * 21),
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([FIRST - 1, LAST, LAST + 1]),
    st.integers(0, 999_999_999),
    contact_id=texts | st.from_regex(validation.RESOURCE_ID, fullmatch=True),
    request_id=texts | st.uuids().map(str),
)  # fmt: skip


@given(requests)
def test_both_find_the_same_fields_in_any_request(serialized):
    assert by_contract(serialized) == by_our_own(serialized)


@pytest.mark.parametrize(
    ("serialized", "contract", "our_own"),
    [
        # To a rule a Timestamp is a moment. Its fields are out of reach.
        (request(seconds=0, nanos=-1), set(), {TIME}),
        (request(seconds=0, nanos=1_000_000_000), set(), {TIME}),
        # Rules of a message that is not there are not evaluated, so it has to be required.
        (b"", {"contact"}, {NAME}),
        (b"\x0a\x00", {"contact.person"}, {NAME}),
    ],
)
def test_they_differ_in_what_the_page_lists(serialized, contract, our_own):
    assert (by_contract(serialized), by_our_own(serialized)) == (contract, our_own)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(text, ...) gives the path of an image of contracts, in packages of these names.

    A validator knows a contract by its name: another one of the same name is taken for the first.
    """
    unused = (f"q{number}" for number in itertools.count())

    def compiled(*texts, names=unused):
        folder = tmp_path_factory.mktemp("contracts")
        rules = folder / "validate.binpb"
        rules.write_bytes(descriptors.descriptors().SerializeToString())
        paths = []
        for text, name in zip(texts, names, strict=False):
            paths.append(f"{name}/v1/contacts.proto")
            (folder / paths[-1]).parent.mkdir(parents=True)
            named = re.sub(r"^package .*;", f"package {name}.v1;", text, flags=re.M)
            (folder / paths[-1]).write_text(named)
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_in={rules}",
             "--include_imports", "--include_source_info", "-oimage.binpb", *paths],
            cwd=folder, check=True,
        )  # fmt: skip
        return folder / "image.binpb"

    return compiled


def load(image):
    """The files of an image in a pool of their own, those of contracts alone."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    for file in FileDescriptorSet.FromString(image.read_bytes()).file:
        if file.name.endswith("/contacts.proto"):
            pool.Add(file)
            yield pool.FindFileByName(file.name)


WITHOUT_EFFECT = [
    (r'expression: "[^"]*"', 'expression: "true"'),
    (r"max_(len|items) = \d+", r"max_\1 = 1000000"),
    (r"(uuid|required) = true", r"\1 = false"),
    (r"[gl]te: \{[^}]*\}", ""),
    (r"IGNORE_IF_ZERO_VALUE", "IGNORE_UNSPECIFIED"),
]


def test_no_rule_can_be_lost_unseen(compiled):
    """Each rule in turn is taken out of the contract: a case must then find other fields."""
    text = (ROOT / CONTRACT).read_text()
    mutants = [
        text[: match.start()] + match.expand(replacement) + text[match.end() :]
        for pattern, replacement in WITHOUT_EFFECT
        for match in re.finditer(pattern, text)
    ]
    cases = [*(serialized for serialized, _ in CASES), b"", b"\x0a\x00"]

    def answers(file):
        kind = message_factory.GetMessageClass(file.message_types_by_name["CreateContactRequest"])
        return [by_contract(serialized, kind) for serialized in cases]

    original, *others = map(answers, load(compiled(text, *mutants)))
    assert len(others) == len(mutants) == text.count("(buf.validate.field)") + 1  # gte and lte.
    assert original == [by_contract(serialized) for serialized in cases]
    assert [index for index, found in enumerate(others) if found == original] == []


@pytest.fixture
def stub(serve):
    with grpc.insecure_channel(serve(mistakes.start)) as channel:
        yield ContactServiceStub(channel)


def refusal(call, request):
    """The status of a call, and the fields and descriptions in its details."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    status, detail = rpc_status.from_call(caught.value), BadRequest()
    found = []
    if status:
        assert status.details[0].Unpack(detail)
        found = [(each.field, each.description) for each in detail.field_violations]
    return caught.value.code().name, found


def test_a_call_is_refused_with_its_fields(stub):
    assert refusal(stub.CreateContact, mistakes.create("", contact_id="A")) == (
        "INVALID_ARGUMENT",
        [
            (f"{PHONES}[0].number", "may not be empty"),
            ("contact_id", "must be 4 to 63 lower-case letters, digits and hyphens, beginning "
             "with a letter"),
        ],
    )  # fmt: skip


def test_a_stream_ends_at_its_first_wrong_message(stub):
    status, found = refusal(stub.ImportContacts, iter(mistakes.IMPORT))

    assert status == "INVALID_ARGUMENT"
    assert found == [("people[1].name", "may not be empty, in message 2 of the stream")]
    assert stub.ImportContacts(iter(mistakes.IMPORT[::2]), timeout=30).contact_count == 3


def test_of_a_large_message_one_mistake_is_reported(stub):
    """All of them would take a second of CPU time and 90 MiB, from a request of 64 KiB."""
    large = mistakes.create(*[""] * 32_000)
    status, found = refusal(stub.CreateContact, large)

    assert len(checks.VALIDATOR.collect_violations(large)) == 32_001
    assert status == "INVALID_ARGUMENT"
    assert found == [(PHONES, "must contain no more than 20 item(s)")]


def test_a_rule_that_fails_is_no_fault_of_the_caller(stub, monkeypatch):
    class Broken:
        def collect_violations(self, *_, **__):
            raise protovalidate.EvaluationError("divide by zero")

    monkeypatch.setattr(checks, "VALIDATOR", Broken())

    assert refusal(stub.CreateContact, mistakes.create()) == ("INTERNAL", [])


def test_a_description_does_not_quote_a_value():
    """It would carry a caller's text, of any length, into logs and trailers."""
    odd = request("qqq" * 99, "qqq\n", ["qqq\t"] * 21, LAST + 1, contact_id="qqq", request_id="qqq")
    found = checks.violations(with_rules.CreateContactRequest.FromString(odd))

    assert len({field for field, _ in found}) == 27
    assert [description for _, description in found if "qqq" in description] == []


def test_threads_share_a_validator():
    cases = CASES * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: by_contract(case[0]), cases))

    assert found == [wrong for _, wrong in cases]


ONE_RULE = """edition = "2024";
package q;
import option "buf/validate/validate.proto";
option features.field_presence = IMPLICIT;
service S {{ rpc M(Outer) returns (Outer); }}
message Outer {{
  repeated Inner inner = 1;
  map<string, int32> keyed = 2 [(buf.validate.field).map.values.int32.lt = 9];
}}
message Inner {{ {} }}
"""


def one_rule(compiled, field):
    """The file of a contract with this field."""
    (file,) = load(compiled(ONE_RULE.format(field)))
    return file


def cel(expression):
    return f'string text = 1 [(buf.validate.field).cel = {{id: "x" expression: "{expression}"}}];'


@pytest.mark.parametrize(
    ("field", "error"),
    [
        (cel("this > 3"), "No matching overloads found"),
        (cel("this.nope"), "Applying SELECT to non-message type"),
        (cel("this.size( > 3"), "x"),
        ('string text = 1 [(buf.validate.field).string.pattern = "(?=a)b"];', "failed to compile"),
        ("string text = 1 [(buf.validate.field).int32.gt = 3];", "expected rule"),
        ("int32 a = 1 [(buf.validate.field).cel_expression = '1 / this > 0'];", "divide by zero"),
    ],
)
def test_a_wrong_rule_is_found_before_the_server_starts(compiled, field, error):
    """Deep inside a request, too, where only a caller's message would evaluate it."""
    file = one_rule(compiled, field)
    outer = message_factory.GetMessageClass(file.message_types_by_name["Outer"])

    assert checks.violations(outer()) == []
    with pytest.raises(
        (protovalidate.CompilationError, protovalidate.EvaluationError), match=error
    ):
        checks.try_rules(file.services_by_name["S"])


def test_a_right_contract_is_tried_without_a_word(compiled):
    checks.try_rules(mistakes.SERVICE)
    checks.try_rules(one_rule(compiled, cel("this.size() < 3")).services_by_name["S"])


def test_a_key_of_a_map_is_part_of_the_path(compiled):
    file = one_rule(compiled, "string text = 1;")
    outer = message_factory.GetMessageClass(file.message_types_by_name["Outer"])()
    outer.keyed["a"], outer.keyed['"'] = 1, 9

    assert [field for field, _ in checks.violations(outer)] == ['keyed["\\""]']


def test_a_rule_that_the_library_does_not_know_is_an_error(compiled):
    """As of a newer release. protoc accepts what the descriptors have, the library must, too."""
    file = FileDescriptorSet.FromString(
        compiled(ONE_RULE.format("string text = 1;")).read_bytes()
    ).file[-1]
    inner = next(message for message in file.message_type if message.name == "Inner")
    # FieldRules.string (14) with a field 999.
    inner.field[0].options.MergeFromString(b"\xba\x48\x05\x72\x03\xb8\x3e\x01")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    with pytest.raises(
        protovalidate.CompilationError, match=r"unknown rules in buf\.validate\.StringRules"
    ):
        checks.try_rules(pool.FindServiceByName(f"{file.package}.S"))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"^\d$", "\u0663"), (r"^\w$", "\u00e9"), (r"^\s$", "\x0b"), (r"^a$", "a\n")],
)
def test_a_pattern_matches_less_than_in_python(compiled, pattern, text):
    """RE2: the classes are ASCII, $ is the very end."""
    field = 'string text = 1 [(buf.validate.field).string.pattern = "{}"];'
    file = one_rule(compiled, field.format(pattern.replace("\\", "\\\\")))
    inner = message_factory.GetMessageClass(file.message_types_by_name["Inner"])

    assert re.search(pattern, text)
    assert [field for field, _ in checks.violations(inner(text=text))] == ["text"]


def buf(*args):
    try:
        program = find("buf")
    except AbsentError as error:
        absent(error)
    return subprocess.run([program, *map(str, args)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("this.matches(r'[^\\\\p{Z}\\\\p{Cc}]')", "this > 3", "no matching overload"),
        (
            "string.max_len",
            "int32.gt",
            "is of type string but has (buf.validate.field).int32 rules",
        ),
        ("uuid = true", 'pattern = "(?=a)b"', "invalid or unsupported Perl syntax"),
    ],
)
def test_buf_lint_finds_a_wrong_rule(compiled, before, after, says):
    text = (ROOT / CONTRACT).read_text()
    assert before in text

    assert "(buf.validate.field)" not in buf("lint", compiled(text)).stdout
    assert says in buf("lint", compiled(text.replace(before, after))).stdout


@pytest.mark.parametrize(
    ("before", "after", "found_by"),
    [
        # To buf the pattern is a value like any other.
        ("'^[a-z]", "'(?=a)[a-z]", "try_rules"),
        # An empty text skips the rule, so that it is never evaluated.
        ("this.matches('^[a-z][a-z0-9-]{2,61}[a-z0-9]$')", "this > 3", "buf lint"),
    ],
)
def test_either_check_misses_what_the_other_finds(compiled, before, after, found_by):
    text = (ROOT / CONTRACT).read_text()
    assert before in text
    image = compiled(text.replace(before, after))
    (file,) = load(image)

    found = {"buf lint"} if "(buf.validate.field)" in buf("lint", image).stdout else set()
    try:
        checks.try_rules(file.services_by_name["ContactService"])
    except (protovalidate.CompilationError, protovalidate.EvaluationError):
        found.add("try_rules")
    assert found == {found_by}


def test_buf_breaking_does_not_see_that_a_rule_is_stricter(compiled):
    text = (ROOT / CONTRACT).read_text()
    texts = text, text.replace("_len = 200", "_len = 20"), text.replace("name = 1", "name = 9")
    before, stricter, renumbered = (compiled(each, names=["same"]) for each in texts)

    assert before.read_bytes() != stricter.read_bytes()
    assert buf("breaking", stricter, "--against", before).stdout == ""
    assert 'field "1" with name "name"' in buf("breaking", renumbered, "--against", before).stdout


def test_the_service_of_chapter_4_does_without():
    program = "import sys, production.contacts_server; print(*sys.modules)"
    loaded = set(python("-c", program).stdout.split())

    assert "grpc" in loaded
    assert loaded & {"protovalidate", "protobuf"} == set()


def test_stubs_need_no_stubs_of_the_rules():
    """An `import option` is for protoc alone."""
    assert not any(name == "buf" or name.startswith("buf.") for name in sys.modules)
    assert "buf/validate/validate.proto" not in [f.name for f in with_rules.DESCRIPTOR.dependencies]


def test_with_proto3_the_stubs_need_those_of_the_rules(compiled, tmp_path):
    text = (ROOT / CONTRACT).read_text().replace("import option", "import")
    text = re.sub(r"^option features.*\n", "", text, flags=re.M)
    image = compiled(text.replace('edition = "2024"', 'syntax = "proto3"'), names=["three"])
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={image}",
         f"--python_out={tmp_path}", "three/v1/contacts.proto", "buf/validate/validate.proto"],
        check=True,
    )  # fmt: skip

    stub = (tmp_path / "three/v1/contacts_pb2.py").read_text()
    assert "from buf.validate import validate_pb2" in stub
    assert (tmp_path / "buf/validate/validate_pb2.py").exists()
