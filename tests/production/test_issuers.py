"""The table of issuers: providers' shapes as the page shows them, and every way out of them."""

import asyncio
import json
import re
import time

import grpc
import pytest
from aiohttp import web

from production.calling.signing import load_plugin, sign
from production.contacts import api_keys, servicer
from production.contacts.access import SIGNATURE
from production.contacts.settings import Settings
from production.development import issuer as development
from production.development.provider_stand_ins import CLIENT, TENANT
from production.serving import settings
from production.serving.security import jwks
from production.serving.security.claims import ABSENT, MAX_TEXT, find, scopes_of
from production.serving.security.documents import MAX_BYTES, DiscoveryError, keys_address
from production.serving.security.issuers import OPEN_ISSUERS, Issuer, fields
from production.serving.security.jwks import COOLDOWN_S, REFRESH_S, KeysUnavailableError
from production.serving.security.principal import RefusedError, principal
from production.serving.security.tokens import Token, Verifier
from production.v1.contacts_pb2 import ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from tests.conftest import ROOT, WAIT
from tests.production import orders_server
from tests.production.conftest import channel
from tests.production.tokens import ABSENT as LEFT_OUT
from tests.production.tokens import AUDIENCE, ISSUER, NOW, Provider, bearer, make, public
from tour.readme import read

PAGE = ROOT / "production/operations/identity/README.md"
READ, WRITE = "contacts.read", "contacts.write"
ENTRY = {"issuer": ISSUER, "audience": AUDIENCE}


def shapes():
    """The entries on the page, by the names of their files."""
    blocks = [block for section in read(PAGE) for block in section.blocks]
    for block in blocks:
        if block.language == "json":
            [entry] = json.loads("\n".join(block.lines))
            yield block.argument.split("/")[-1].removesuffix(".json"), entry


SHAPES = dict(shapes())


@pytest.fixture(scope="module")
def providers(run_async):
    """The development issuer, with its stand-ins for providers."""
    issuer, _ = run_async(development.start())
    yield issuer
    run_async(issuer.stop())


def name_of(providers, shape):
    return f"{providers.url}/google" if shape == "google" else providers.providers.issuer(shape)


def token_of(providers, shape, **changes):
    """A token as the provider issues it, but for changes; None leaves a claim out."""
    if shape != "google":
        return providers.providers.token(shape, **changes)
    return providers.google.id_token(AUDIENCE, **changes)


@pytest.fixture
def verify(run_async):
    """verify(ENTRIES, TOKEN) gives the Token, or the reason why it is refused."""

    def verify(entries, token):
        async def work():
            verifier = Verifier(Issuer(**entry) for entry in entries)
            try:
                return await verifier.verify(token)
            except RefusedError as error:
                return error.reason
            finally:
                await verifier.close()

        return run_async(work())

    return verify


@pytest.fixture
def outcome(providers, verify):
    """outcome(SHAPE, ENTRY's changes, CLAIM=...): what becomes of such a token."""

    def outcome(shape, edits=None, **changes):
        entry = SHAPES[shape] | {"issuer": name_of(providers, shape)} | (edits or {})
        entry = {name: value for name, value in entry.items() if value is not None}
        return verify([entry], token_of(providers, shape, **changes))

    return outcome


GRANTED = {
    "keycloak": ({READ, WRITE}, {"groups": ("/staff", "/berlin")}),
    "auth0": ({READ, WRITE}, {"tenant": ("org_9ybsU1dN2dKfDkBi",)}),
    "entra": ({READ, WRITE}, {"tenant": (TENANT,)}),
    "google": ({READ}, {"email": ("robot@development.iam.gserviceaccount.com",)}),
    "kubernetes": ({READ, WRITE}, {"namespace": ("shop",)}),
}


def test_the_page_has_the_fields_of_an_entry():
    """Print them by `python -m production.serving.security.issuers`."""
    assert fields() in PAGE.read_text()


def test_the_page_tells_the_cost_of_each_relaxation():
    [costs] = [part for part in PAGE.read_text().split("\n## ") if part.startswith("What each rel")]
    relaxations = {
        *("allows_other_audiences", "audience_claim", "types", "requires_typ", "requires_nbf"),
        *("max_lifetime", "scope_claims", "roles", "scopes", "subjects", "claims"),
    }

    assert [name for name in relaxations if f"`{name}" not in costs] == []
    rest = Issuer.model_fields.keys() - relaxations
    assert rest == {"issuer", "audience", "jwks", "discovery", "algorithms", "required_claims"}


@pytest.mark.parametrize("shape", GRANTED)
def test_a_token_of_each_shape_is_verified(providers, outcome, shape):
    assert SHAPES.keys() == GRANTED.keys()
    scopes, claims = GRANTED[shape]

    token = outcome(shape)

    assert (token.issuer, token.scopes) == (name_of(providers, shape), scopes)
    assert token.claims == claims


NARROWED = {
    ("keycloak", "required_claims"): {"typ": "ID"},
    ("entra", "required_claims"): {"azp": None},
    ("kubernetes", "subjects"): {"sub": "system:serviceaccount:elsewhere:orders"},
}
"""Lines that keep tokens out, with such a token."""


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        (shape, line)
        for shape, entry in SHAPES.items()
        for line in entry
        if line not in ("issuer", "audience")
    ],
)
def test_every_line_of_a_shape_is_needed(outcome, shape, line):
    if (shape, line) == ("google", "subjects"):  # To whom would the table grant its scopes?
        with pytest.raises(ValueError, match="name the subjects"):
            outcome(shape, {line: None})
    elif changes := NARROWED.get((shape, line)):
        assert isinstance(outcome(shape, **changes), str)
        assert isinstance(outcome(shape, {line: None}, **changes), Token)
    elif line in ("scope_claims", "roles", "claims"):
        assert outcome(shape, {line: None}) != outcome(shape)
    else:
        assert isinstance(outcome(shape, {line: None}), str)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("other", SHAPES)
def test_a_provider_cannot_speak_for_another(providers, verify, shape, other):
    if shape == other:
        return
    entries = [SHAPES[each] | {"issuer": name_of(providers, each)} for each in (shape, other)]
    forged = token_of(providers, other, iss=name_of(providers, shape))

    assert verify(entries, forged) in ("token: key", "token: typ")
    assert verify(entries[:1], token_of(providers, other)) == "token: issuer"
    assert isinstance(verify(entries, token_of(providers, other)), Token)


ATTACKS = {
    # What a token has instead: what becomes of it.
    "keycloak": [
        ({"aud": "account"}, "token: aud"),
        ({"aud": ["account", "contacts."]}, "token: aud"),
        ({"aud": ["contacts", 1]}, "token: aud"),
        ({"aud": {"contacts": 1}}, "token: aud"),
        ({"aud": None, "azp": "contacts"}, "token: aud"),
        ({"aud": "contacts"}, {READ, WRITE}),
        ({"typ": "ID"}, "token: typ is not as required"),
        ({"typ": None}, "token: typ is not as required"),
        ({"typ": {"Bearer": 1}}, "token: typ is neither a text nor a list of texts"),
        ({"realm_access": None}, "token: no /realm_access/roles"),
        ({"realm_access": None, "/realm_access/roles": ["contacts editor"]}, "token: no /realm_"),
        ({"realm_access": "contacts editor"}, "token: no /realm_access/roles"),
        ({"realm_access": [{"roles": ["contacts editor"]}]}, "token: no /realm_access/roles"),
        ({"realm_access": {"roles": {"contacts editor": 1}}}, "token: /realm_access/roles is nei"),
        ({"realm_access": {"roles": [["contacts editor"]]}}, "token: /realm_access/roles is nei"),
        ({"realm_access": {"roles": [{"a": "contacts editor"}, "contacts editor"]}}, "token: /re"),
        ({"realm_access": {"roles": ["contacts editor", 1]}}, "token: /realm_access/roles is nei"),
        ({"realm_access": {"roles": [None]}}, "token: /realm_access/roles is neither"),
        ({"realm_access": {"roles": []}}, set()),
        ({"realm_access": {"roles": "contacts editor"}}, set()),  # Two roles: contacts, editor.
        ({"realm_access": {"roles": ["contacts.write", "Contacts Editor"]}}, set()),
        ({"realm_access": {"roles": ["contacts viewer", "unknown"]}}, {READ}),
        ({"realm_access": {"roles": ["x"] * 1_000 + ["contacts viewer"]}}, {READ}),
        ({"realm_access": {"roles": ["x"] * 2_000 + ["contacts viewer"]}}, "token: form"),
        ({"scope": "contacts.write", "realm_access": {"roles": []}}, set()),
        ({"groups": None}, {READ, WRITE}),
        ({"groups": "/staff"}, {READ, WRITE}),
        ({"groups": {"a": "/staff"}}, "token: groups is neither"),
        ({"groups": ["/staff", 1]}, "token: groups is neither"),
        ({"groups": ["\n"]}, "token: claims for the service are too long, or not printable"),
        ({"groups": ["x" * (MAX_TEXT - 1)]}, {READ, WRITE}),
        ({"groups": ["x" * MAX_TEXT]}, "token: claims for the service are too long"),
        ({"nbf": 2**40}, "token: iat or nbf"),
        ({"exp": 2**40}, "token: lifetime"),
    ],
    "auth0": [
        ({"aud": [AUDIENCE + "/", "https://shop.eu.auth0.com/userinfo"]}, "token: aud"),
        ({"permissions": None, "scope": "contacts.write"}, "token: no permissions"),
        ({"permissions": ["read:contacts"]}, {READ}),
        ({"permissions": "read:contacts write:contacts"}, {READ, WRITE}),
        ({"permissions": ["read:contacts write:contacts"]}, set()),
        ({"permissions": "read:contacts\u00a0write:contacts"}, "token: permissions is not a list"),
    ],
    "entra": [
        ({"aud": [CLIENT]}, "token: aud"),
        ({"scp": "contacts.read", "roles": ["contacts.write"]}, {READ}),
        ({"scp": None, "roles": ["contacts.write"]}, {WRITE}),
        ({"scp": "", "roles": ["contacts.write"]}, set()),
        ({"scp": None}, "token: no scp or roles"),
        ({"azp": None}, "token: azp is not as required"),
        ({"azp": "another"}, "token: azp is not as required"),
        ({"groups": ["a", "b"]}, {READ, WRITE}),
        ({"nbf": None}, "token: no nbf"),
    ],
    "google": [
        ({"sub": "100000000000000000002"}, "token: sub is not in the table"),
        ({"sub": "10000000000000000000"}, "token: sub is not in the table"),
        ({"azp": AUDIENCE, "aud": "another"}, "token: aud"),
        ({"aud": [AUDIENCE, "another"]}, "token: aud"),
        ({"scope": "contacts.write"}, set()),
        ({"email": None}, {READ}),
    ],
    "kubernetes": [
        ({"sub": "system:serviceaccount:shop:reports"}, {READ}),
        ({"sub": "system:serviceaccount:shop:mail"}, set()),
        ({"sub": "system:serviceaccount:shopping:orders"}, "token: sub is not in the table"),
        ({"sub": "x:system:serviceaccount:shop:orders"}, "token: sub is not in the table"),
        ({"aud": [AUDIENCE, "https://kubernetes.default.svc"]}, "token: aud"),
        ({"kubernetes.io": "shop"}, {READ, WRITE}),
    ],
}


@pytest.mark.parametrize(
    ("shape", "changes", "wanted"),
    [(shape, *attack) for shape, attacks in ATTACKS.items() for attack in attacks],
)
def test_what_a_token_says_otherwise_grants_no_more(outcome, shape, changes, wanted):
    token = outcome(shape, **changes)

    if isinstance(wanted, str):
        assert isinstance(token, str)
        assert token.startswith(wanted)
    else:
        assert token.scopes == wanted


JWT, NO_TYP = {"typ": "JWT"}, {"typ": LEFT_OUT}
OTHERS = {
    # The entry, the header, the claims, an ID token or the like that must not pass.
    "Okta": (
        {"requires_typ": False, "requires_nbf": False, "scope_claims": ["scp"]},
        NO_TYP,
        {"scope": LEFT_OUT, "scp": [READ, "offline_access"], "cid": "0oa1", "uid": "00u1"},
        {"aud": "0oa1", "scp": LEFT_OUT},
    ),
    "Amazon Cognito": (
        {
            "requires_typ": False,
            "requires_nbf": False,
            "audience_claim": "client_id",
            "required_claims": {"token_use": ["access"]},
            "roles": {"contacts/read": [READ]},
        },
        NO_TYP,
        {"aud": LEFT_OUT, "client_id": AUDIENCE, "token_use": "access", "scope": "contacts/read"},
        {"token_use": "id"},
    ),
    "Duende IdentityServer": (
        {"scope_claims": ["scope"]},
        {"x5t": "AAAA"},
        {"scope": [READ, "openid"], "client_id": "web", "amr": ["pwd"]},
        {"scope": LEFT_OUT},
    ),
    "GitHub Actions": (
        {
            "types": ["JWT"],
            "subjects": ["repo:octo-org/*"],
            "scopes": [READ],
            "claims": {"repository": "repository"},
        },
        JWT | {"x5t": "AAAA"},
        {"scope": LEFT_OUT, "sub": "repo:octo-org/octo:ref:refs/heads/main", "nbf": NOW - 600},
        {"sub": "repo:octo-organ/octo:ref:refs/heads/main"},
    ),
    "GitLab CI/CD": (
        {"types": ["JWT"], "subjects": ["project_path:shop/*"], "scopes": [READ]},
        JWT,
        {
            "scope": LEFT_OUT,
            "sub": "project_path:shop/orders:ref_type:branch:ref:main",
            "nbf": NOW - 5,
            "exp": NOW + 3_600,
        },
        {"sub": "project_path:shopping/orders:ref_type:branch:ref:main"},
    ),
    "Entra, version 1": (
        {"types": ["JWT"], "max_lifetime": 5_700, "scope_claims": ["scp", "roles"],
         "required_claims": {"appid": ["web"]}},
        JWT | {"x5t": "AAAA"},
        {"scope": LEFT_OUT, "roles": [READ], "appid": "web", "ver": "1.0", "exp": NOW + 5_700},
        {"appid": LEFT_OUT, "aud": AUDIENCE},
    ),
    "Auth0, RFC 9068 profile": (
        {"requires_nbf": False, "allows_other_audiences": True},
        {},
        {"aud": [AUDIENCE, "https://a.auth0.com/userinfo"], "nbf": LEFT_OUT, "client_id": "web"},
        {"aud": ["https://a.auth0.com/userinfo"]},
    ),
}  # fmt: skip


def test_the_page_has_all_lines_of_other_providers():
    rows = re.findall(r"^\| ([^|:]+?)(?::[^|]*)? \| `(\".*)` \|$", PAGE.read_text(), re.M)

    assert {name: json.loads(f"{{{lines}}}") for name, lines in rows} == {
        name: entry for name, (entry, *_) in OTHERS.items()
    }


@pytest.mark.parametrize("name", OTHERS)
def test_other_providers_fit_as_well(serve, run_async, name):
    fields, header, claims, another = OTHERS[name]
    keys = f"http://{serve(Provider().start)}/jwks"
    strict = Verifier([Issuer(**ENTRY, jwks=keys)], clock=lambda: NOW)
    verifier = Verifier([Issuer(**ENTRY, jwks=keys, **fields)], clock=lambda: NOW)
    token = make(header, claims)

    assert run_async(verifier.verify(token)).scopes >= {READ}
    for which, refused in ((verifier, make(header, claims | another)), (strict, token)):
        with pytest.raises(RefusedError):
            run_async(which.verify(refused))


# What one entry accepts.

CLAIMS = {"a": {"b": {"c": 1}, "b.c": 2, "x/y": 3, "x~y": 4, "": 5}, "a.b": 6, "/a": 7}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.b", 6),
        ("/a/b/c", 1),
        ("/a/b.c", 2),
        ("/a/x~1y", 3),
        ("/a/x~0y", 4),
        ("/~1a", 7),
        ("/a.b", 6),
        ("/a.b/c", ABSENT),
        ("/a/~1b", ABSENT),
        ("/a/b/c/d", ABSENT),
        ("a/b", ABSENT),
        ("A", ABSENT),
    ],
)
def test_a_claim_is_found_by_its_name_or_path(name, wanted):
    assert find(CLAIMS, name) == wanted
    assert Issuer(**ENTRY, claims={"x": name})


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ("", set()),
        ("a", {"a"}),
        ("a b a", {"a", "b"}),
        ("!#[]~", {"!#[]~"}),
        *[
            (text, None)
            for text in (
                *(" ", " a", "a ", "a  b", "a\tb", "a\nb", "a\x1cb", "a\u00a0b", "a\u2003b"),
                *("a\u2028b", "ä", "\x7f", 'a"b', "a\\b", "\ud800", "a\0b"),
            )
        ],
        *[(value, None) for value in (None, 1, True, ["a"], {"a": 1})],
    ],
)
def test_a_text_of_scopes_is_split_at_one_space(scope, wanted):
    try:
        scopes = scopes_of({"scope": scope}, Issuer(**ENTRY))
    except RefusedError:
        scopes = None

    assert scopes == wanted


@pytest.mark.parametrize(
    ("fields", "claims", "wanted"),
    [
        ({"scope_claims": ["scope"]}, {"scope": ["a", "b c"]}, {"a", "b c"}),
        ({"scope_claims": ["x", "y"]}, {"y": "b", "x": "a"}, {"a"}),
        ({"scope_claims": ["x", "y"]}, {"y": "b"}, {"b"}),
        (
            {"scope_claims": ["https://example.com/roles"]},
            {"https://example.com/roles": "a"},
            {"a"},
        ),
        ({"scope_claims": ["x"], "scopes": ["a", "c"]}, {"x": "a b"}, {"a"}),
        # What the table grants is not for tokens that lack the claim it names.
        ({"scope_claims": ["x"], "scopes": ["a"]}, {}, None),
        ({"roles": {"x": ["a"]}, "scopes": ["a"], "subjects": ["*"]}, {}, None),
        ({"roles": {"x": ["a", "b"], "y": ["c"]}}, {"scope": "x z a"}, {"a", "b"}),
        ({"roles": {"x": ["a", "b"]}, "scopes": ["b"]}, {"scope": "x"}, {"b"}),
        ({"scopes": ["a"], "subjects": ["*"]}, {}, {"a"}),
        ({"scopes": ["a"], "subjects": ["*"]}, {"scope": "b"}, set()),
        ({"scopes": ["a"], "subjects": ["*"]}, {"scope": None}, None),
    ],
)
def test_what_a_token_grants_is_what_both_the_token_and_the_table_say(fields, claims, wanted):
    issuer = Issuer(**ENTRY, **fields)
    try:
        scopes = scopes_of(claims, issuer)
    except RefusedError:
        scopes = None

    assert scopes == wanted


@pytest.mark.parametrize(
    ("subjects", "admitted", "refused"),
    [
        (None, "a", None),
        (["a"], "a", "ab"),
        (["a*"], "ab", "ba"),
        (["*"], "a", None),
        (["a", "b:*"], "b:", "b"),
    ],
)
def test_subjects_are_named_or_begin_so(subjects, admitted, refused):
    issuer = Issuer(**ENTRY, subjects=subjects)

    assert issuer.admits(admitted)
    assert refused is None or not issuer.admits(refused)


MISTAKES = {
    "CONTACTS_ISSUERS: must be a list": {"issuer": ISSUER},
    "CONTACTS_ISSUERS: 0: must be an object": [1],
    "CONTACTS_ISSUERS: 0.audience: Field required": [{"issuer": ISSUER}],
    "CONTACTS_ISSUERS: 0.audiences: Extra inputs are not permitted": {"audiences": ["a"]},
    "CONTACTS_ISSUERS: 0.types: may not be empty: leave it out": {"types": []},
    "CONTACTS_ISSUERS: 0.types.0: String should have at least 1 character": {"types": [""]},
    "CONTACTS_ISSUERS: 0.roles: may not be empty: leave it out": {"roles": {}},
    "CONTACTS_ISSUERS: 0.roles: must be an object": {"roles": ["a"]},
    "CONTACTS_ISSUERS: 0.roles.a: may not be empty: leave it out": {"roles": {"a": []}},
    "CONTACTS_ISSUERS: 0.roles.a: must be a list": {"roles": {"a": READ}},
    "CONTACTS_ISSUERS: 0.scopes: may not be empty: leave it out": {"scopes": []},
    "CONTACTS_ISSUERS: 0.claims: may not be empty: leave it out": {"claims": {}},
    "CONTACTS_ISSUERS: 0.subjects: must be a list": {"subjects": "*"},
    "CONTACTS_ISSUERS: 0: subjects: a * is possible at the end only": {"subjects": ["a*b"]},
    "CONTACTS_ISSUERS: 0.scope_claims: must be a list": {"scope_claims": "scp"},
    "CONTACTS_ISSUERS: 0.scope_claims.0: must be the name of a claim, or for one inside another a "
    "path such as /realm_access/roles (/ and ~ in a name are written ~1 and ~0)": {
        "scope_claims": ["/realm_access/"]
    },
    "CONTACTS_ISSUERS: there is no scope contacts.admin": {"roles": {"a": ["contacts.admin"]}},
    "CONTACTS_ISSUERS: 0: jwks and discovery are mutually exclusive": {
        "jwks": "https://issuer.example.com/a", "discovery": "https://issuer.example.com/b",
    },
    "CONTACTS_ISSUERS: 0: jwks is needed: the issuer is not an https:// address": {
        "issuer": "http://issuer.example.com"
    },
    "CONTACTS_ISSUERS: 0.discovery: must begin with https:// (http:// only with 127.0.0.1 or "
    "[::1])": {"discovery": "http://issuer.example.com"},
    "CONTACTS_ISSUERS: 0: scopes without scope_claims or roles are granted by this table: name the "
    'subjects, or set them to ["*"], which is anybody': {"scopes": [READ]},
    "CONTACTS_ISSUERS: 0: anybody can have a token of https://accounts.google.com: name the "
    "subjects, or required_claims": {
        "issuer": "https://accounts.google.com", "scopes": [READ], "subjects": ["*"],
    },
    "CONTACTS_ISSUERS: 0.max_lifetime: Input should be less than or equal to 100800": {
        "max_lifetime": 604_800
    },
    "CONTACTS_ISSUERS: 0.required_claims.hd: must be a list": {"required_claims": {"hd": "a.org"}},
    "CONTACTS_ISSUERS: 0.algorithms.0: Input should be 'RS256', 'PS256', 'ES256', 'ES384' "
    "or 'EdDSA'": {"algorithms": ["HS256"]},
}  # fmt: skip


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_in_an_entry_is_said_in_one_line(monkeypatch, line):
    value = MISTAKES[line]
    if isinstance(value, dict) and line != next(iter(MISTAKES)):
        value = [ENTRY | value]
    monkeypatch.setenv("CONTACTS_ISSUERS", json.dumps(value))

    with pytest.raises(ValueError, match="CONTACTS_ISSUERS") as raised:
        settings.load(Settings)

    assert str(raised.value) == line


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"scopes": [READ], "subjects": ["*"]}, False),
        ({"scopes": [READ], "subjects": ["*"], "required_claims": {"hd": ["example.com"]}}, True),
        ({"scopes": [READ], "subjects": ["1"]}, True),
        ({"scope_claims": ["environment"]}, False),
        ({"scope_claims": ["environment"], "subjects": ["repo:octo-org/*"]}, True),
    ],
)
@pytest.mark.parametrize("issuer", sorted(OPEN_ISSUERS))
def test_of_an_open_issuer_callers_are_narrowed(issuer, fields, accepted):
    entry = {"issuer": issuer, "audience": AUDIENCE} | fields

    if accepted:
        assert Issuer(**entry)
    else:
        with pytest.raises(ValueError, match=f"anybody can have a token of {issuer}"):
            Issuer(**entry)


# Discovery.


@pytest.fixture
def discovered(serve, run_async):
    """A provider with a discovery document, and verify() for tokens of its issuer."""
    provider = Provider()
    provider.url = f"http://{serve(provider.start)}"
    provider.now = 1_000.0
    document = {"issuer": ISSUER, "jwks_uri": f"{provider.url}/jwks"}
    provider.discovery = provider.good = body(json.dumps(document))
    url = f"{provider.url}/.well-known/openid-configuration"
    verifier = Verifier(
        [Issuer(**ENTRY, discovery=url)], clock=lambda: NOW, monotonic=lambda: provider.now
    )

    def verify(token):
        try:
            return run_async(verifier.verify(token))
        except (RefusedError, KeysUnavailableError) as error:
            return type(error)

    provider.verify = verify
    yield provider
    run_async(verifier.close())


def body(text, status=200, **headers):
    async def answer(_request):
        return web.Response(text=text, status=status, headers=headers)

    return answer


def document(**changes):
    return body(json.dumps({"issuer": ISSUER, "jwks_uri": "https://a.example.com"} | changes))


HOSTILE = {
    "of another issuer": (document(issuer=ISSUER + "/"), "is of another issuer"),
    "of no issuer": (document(issuer=None), "is of another issuer"),
    "of many": (document(issuer=[ISSUER]), "is of another issuer"),
    "a list": (body("[]"), "is of another issuer"),
    "without keys": (document(jwks_uri=None), "has no jwks_uri"),
    "keys a list": (document(jwks_uri=["https://a.example.com"]), "has no jwks_uri"),
    "keys on a plain line": (document(jwks_uri="http://a.example.com/"), "has an unsafe jwks_uri"),
    "keys in a file": (document(jwks_uri="file:///etc/passwd"), "has an unsafe jwks_uri"),
    "keys with a password": (document(jwks_uri="https://a:b@c.example.com"), "an unsafe jwks_uri"),
    "no URL": (document(jwks_uri="https://["), "has an unsafe jwks_uri"),
    "elsewhere": (body("", 302, Location="/jwks"), "ValueError"),
    "missing": (body("", 404), "ValueError"),
    "no JSON": (body("<html>"), "JSONDecodeError"),
    "said twice": (body('{"issuer": 1, "issuer": 2}'), "ValueError"),
    "huge": (body(" " * (MAX_BYTES + 1)), "ValueError"),
    "deep": (body("[" * 50_000), "RecursionError"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_discovery_document_gives_no_keys_until_it_is_mended(discovered, caplog, case):
    discovered.discovery, reason = HOSTILE[case]
    for _ in range(3):
        assert discovered.verify(make()) is KeysUnavailableError
    assert (discovered.discoveries, discovered.fetches) == (1, 0)
    assert reason in caplog.text

    discovered.discovery = discovered.good
    discovered.now += COOLDOWN_S

    assert isinstance(discovered.verify(make()), Token)
    assert (discovered.discoveries, discovered.fetches) == (2, 1)


def test_a_discovery_that_hangs_is_given_up_in_time(discovered, monkeypatch):
    async def silent(_request):
        await asyncio.Event().wait()

    discovered.discovery = silent
    monkeypatch.setattr(jwks, "TIMEOUT_S", 0.2)

    assert discovered.verify(make()) is KeysUnavailableError


def test_the_keys_may_move(discovered):
    assert isinstance(discovered.verify(make()), Token)
    discovered.other_keys = [public("P-256", "ES256", kid="new")]
    discovered.discovery = document(jwks_uri=f"{discovered.url}/jwks/other")

    discovered.now += REFRESH_S

    assert discovered.verify(make()) is RefusedError
    assert isinstance(discovered.verify(make({"kid": "new"}, kind="P-256", alg="ES256")), Token)


@pytest.mark.parametrize(
    ("at", "leads_to", "accepted"),
    [
        ("https://a.example.com/", "https://b.example.com/", True),
        ("https://a.example.com/", "http://127.0.0.1/", False),
        ("http://127.0.0.1/", "http://127.0.0.1/keys", True),
        ("http://127.0.0.1/", "https://b.example.com/", True),
    ],
)
def test_discovery_leads_to_no_less_safe_address(at, leads_to, accepted):
    found = {"issuer": ISSUER, "jwks_uri": leads_to}

    if accepted:
        assert keys_address(found, ISSUER, at) == leads_to
    else:
        with pytest.raises(DiscoveryError):
            keys_address(found, ISSUER, at)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_document_is_below_the_issuer(slash):
    issuer = Issuer(issuer=f"https://a.example.com/b{slash}", audience=AUDIENCE)

    assert issuer.discovery_url == "https://a.example.com/b/.well-known/openid-configuration"


# In a service.


@pytest.fixture
def seen(monkeypatch):
    """The principals that have come as far as the servicer."""
    callers = []
    original = servicer.ContactServicer.ListContacts

    async def listed(self, request, context):
        callers.append(principal.get())
        return await original(self, request, context)

    monkeypatch.setattr(servicer.ContactServicer, "ListContacts", listed)
    return callers


def test_claims_come_from_the_token_whatever_else_a_call_carries(
    serve_tls, certs, issuers, tmp_path, seen
):
    keys, client = tmp_path / "keys.json", tmp_path / "laptop.json"
    api_keys.add_key(keys, "laptop", "eve", [READ], AUDIENCE, client)
    secret = load_plugin(client, SIGNATURE)._secret
    address = serve_tls(issuers=[issuers[0] | {"claims": {"groups": "groups"}}], api_keys=keys)
    method = AUDIENCE + "/production.v1.ContactService/ListContacts"

    def call(*metadata):
        with channel(address, certs) as opened:
            ContactServiceStub(opened).ListContacts(
                ListContactsRequest(), timeout=WAIT, metadata=metadata
            )
        return seen.pop()

    def signature(nonce):
        return SIGNATURE, sign("laptop", secret, method, time.time(), nonce * 32)

    token = bearer(groups=["/staff"])[0]
    assert call(token).claims == {"groups": ("/staff",)}
    both = call(token, signature("a"))
    assert (both.claims, both.scopes) == ({"groups": ("/staff",)}, {READ})
    assert call(signature("b")).claims == {}


def test_a_server_lets_in_callers_of_all_five_at_once(serve_tls, certs, providers, seen):
    entries = [entry | {"issuer": name_of(providers, shape)} for shape, entry in SHAPES.items()]

    with channel(serve_tls(issuers=entries), certs) as opened:
        for shape in SHAPES:
            ContactServiceStub(opened).ListContacts(
                ListContactsRequest(),
                timeout=WAIT,
                metadata=[("authorization", f"Bearer {token_of(providers, shape)}")],
            )

    assert [(caller.scopes, caller.claims) for caller in seen] == [
        GRANTED[shape] for shape in SHAPES
    ]
    assert len({caller.name for caller in seen}) == 5


def test_another_service_has_scopes_of_its_own_and_reads_claims(serve, run_async, certs):
    provider = Provider()
    entry = ENTRY | {
        "jwks": f"http://{serve(provider.start)}/jwks",
        "scope_claims": ["roles"],
        "roles": {"buyer": ["orders.write"], "reader": ["orders.read"]},
        "claims": {"tenant": "tid"},
    }
    chosen = {"address": "127.0.0.1:0", "drain_pause": 0, "grace": 1}
    chosen |= {"certificate": certs / "server.pem", "key": certs / "server.key"}
    with pytest.raises(ValueError, match=r"ORDERS_ISSUERS: there is no scope orders\.read"):
        orders_server.Settings(**chosen, issuers=[entry])
    del entry["roles"]["reader"]

    server, port = run_async(orders_server.start(orders_server.Settings(**chosen, issuers=[entry])))
    try:
        with channel(f"localhost:{port}", certs) as opened:
            stub = EchoServiceStub(opened)

            def order(**claims):
                return stub.UnaryEcho(
                    EchoRequest(message="a cup"), timeout=WAIT, metadata=bearer(**claims)
                ).served_by

            assert order(roles=["buyer"], tid="acme") == "the shelf of acme"
            assert order(roles=["buyer"]) == "the shelf of nobody"
            with pytest.raises(grpc.RpcError) as refused:
                order(roles=["reader"], scope="orders.write", tid="acme")
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    finally:
        run_async(server.stop())


def test_the_serving_layer_names_no_scope_of_contacts():
    sources = (ROOT / "production/serving").rglob("*.py")

    assert [path.name for path in sources if {READ, WRITE} & set(path.read_text().split('"'))] == []
