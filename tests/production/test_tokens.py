"""Tokens that are accepted and refused, with good and bad answers from where their keys come.

Each forgery has an accepted twin that differs in one thing: so it is refused for that thing alone.
"""

import asyncio
import gzip
import hashlib
import hmac
import json
import logging

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from production.serving.overload import OverloadedError
from production.serving.security import jwks, tokens
from production.serving.security.documents import MAX_BYTES
from production.serving.security.issuers import Issuer, Issuers
from production.serving.security.jwks import (
    COOLDOWN_S,
    KEPT_S,
    REFRESH_S,
    KeysUnavailableError,
    read_keys,
)
from production.serving.security.principal import RefusedError
from production.serving.security.tokens import Token, Verifier
from tests.conftest import WAIT
from tests.production.tokens import (
    ABSENT,
    AUDIENCE,
    CLAIMS,
    ISSUER,
    NOW,
    Provider,
    changed,
    encode,
    make,
    private_key,
    public,
)

GOOD = Token(ISSUER, "ada", frozenset({"contacts.read", "contacts.write"}), NOW + 300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def no_signature(_data):
    return b""


def keyed_with_the_public_key(data):
    key = private_key("RSA").public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hmac.digest(pem, data, hashlib.sha256)


HEADER_TWICE = b'{"alg":"none","alg":"RS256","kid":"RSA","typ":"at+jwt"}'
HEADER_ONCE = b'{"alg":"RS256","kid":"RSA","typ":"at+jwt"}'
CLAIMS_ONCE = json.dumps(CLAIMS).encode()
CLAIMS_TWICE = CLAIMS_ONCE.replace(b"{", b'{"sub": "eve", ')
CLAIMS_NAN = CLAIMS_ONCE.replace(b"{", b'{"x": NaN, ')
CLAIMS_NULL = CLAIMS_ONCE.replace(b"{", b'{"x": null, ')
OWN_JWK = public("other RSA", "RS256", kid="RSA")


def long(length):
    """A token of that many characters, valid in all else."""
    padding = "x" * (length * 3 // 4 - 800)
    while len(token := make(claims={"padding": padding})) < length:
        padding += "x"
    return token


FORGERIES = {
    # Form: (the forgery, its twin), as arguments of `make`.
    "alg none": ({"header": {"alg": "none"}, "signature": no_signature}, {}),
    "alg None": ({"header": {"alg": "None"}}, {}),
    "alg absent": ({"header": {"alg": ABSENT}}, {}),
    "alg a list": ({"header": {"alg": ["RS256"]}}, {}),
    "no signature": ({"signature": no_signature}, {}),
    "HS256 with the public key": (
        {"header": {"alg": "HS256"}, "signature": keyed_with_the_public_key},
        {},
    ),
    "alg outside the table": ({"alg": "RS512"}, {"alg": "RS256"}),
    "alg of another type of key": ({"header": {"alg": "ES256"}}, {"header": {"alg": "RS256"}}),
    "alg that the key is not for": ({"alg": "PS256"}, {"alg": "RS256"}),
    "jku": ({"header": {"jku": "https://evil.example.com"}}, {"header": {"x5t": "AAAA"}}),
    "x5u": ({"header": {"x5u": "https://evil.example.com"}}, {"header": {"x5t": "AAAA"}}),
    "x5c": ({"header": {"x5c": ["AAAA"]}}, {"header": {"x5t": "AAAA"}}),
    "jwk": ({"header": {"jwk": OWN_JWK}}, {}),
    "jwk of the signer": (
        {"header": {"jwk": OWN_JWK, "kid": "RSA"}, "kind": "other RSA"},
        {"header": {"kid": "other RSA"}, "kind": "other RSA"},
    ),
    "crit": ({"header": {"crit": ["exp"], "exp": 1}}, {}),
    "crit b64": ({"header": {"crit": ["b64"], "b64": True}}, {}),
    "zip": ({"header": {"zip": "DEF"}}, {"header": {"pi.atm": "1"}}),
    "b64": ({"header": {"b64": True}}, {"header": {"x5t#S256": "AAAA"}}),
    "typ of an ID token": ({"header": {"typ": "JWT"}}, {"header": {"typ": "AT+JWT"}}),
    "typ absent": ({"header": {"typ": ABSENT}}, {"header": {"typ": "application/at+jwt"}}),
    "kid unknown": ({"header": {"kid": "rsa"}}, {"header": {"kid": "RSA"}}),
    "kid absent": ({"header": {"kid": ABSENT}}, {}),
    "kid empty": ({"header": {"kid": ""}}, {}),
    "kid a number": ({"header": {"kid": 1}}, {}),
    "kid a path": ({"header": {"kid": "../../dev/null"}}, {}),
    "signed by another key": (
        {"header": {"kid": "RSA"}, "kind": "other RSA"},
        {"header": {"kid": "other RSA"}, "kind": "other RSA"},
    ),
    "four parts": ({"edit": lambda t: t + ".AAAA"}, {}),
    "JWE of five parts": ({"edit": lambda t: t + ".AAAA.AAAA"}, {}),
    "two parts": ({"edit": lambda t: t.rpartition(".")[0]}, {}),
    "empty": ({"edit": lambda _t: ""}, {}),
    "dots": ({"edit": lambda _t: ".."}, {}),
    "newline": ({"edit": lambda t: t + "\n"}, {}),
    "space": ({"edit": lambda t: " " + t}, {}),
    "padding": ({"edit": lambda t: t + "=="}, {}),
    "garbage behind": ({"edit": lambda t: t + "A"}, {}),
    "no base64url": ({"edit": lambda t: t[:-1] + "+"}, {}),
    "not ASCII": ({"edit": lambda t: t.replace("e", "е", 1)}, {}),
    "half a character": ({"edit": lambda t: t + "\ud800"}, {}),
    "long": ({"edit": lambda _t: long(8_193)}, {"edit": lambda _t: long(8_190)}),
    "header no JSON": ({"header": b"{"}, {}),
    "header a list": ({"header": b"[]"}, {}),
    "header deep": ({"header": b"[" * 5_000}, {}),
    "header not UTF-8": ({"header": b"\xff"}, {}),
    "header says it twice": ({"header": HEADER_TWICE}, {"header": HEADER_ONCE}),
    # Claims.
    "claims no JSON": ({"claims": b"ada"}, {}),
    "claims a string": ({"claims": b'"ada"'}, {}),
    "claims deep": ({"claims": b"[" * 5_000}, {}),
    "claims say it twice": ({"claims": CLAIMS_TWICE}, {"claims": CLAIMS_ONCE}),
    "claims with NaN": ({"claims": CLAIMS_NAN}, {"claims": CLAIMS_NULL}),
    **{f"no {name}": ({"claims": {name: ABSENT}}, {}) for name in CLAIMS},
    **{f"{name} null": ({"claims": {name: None}}, {}) for name in CLAIMS},
    "iss of nobody": ({"claims": {"iss": ISSUER + "/"}}, {"claims": {"iss": ISSUER}}),
    "iss a list": ({"claims": {"iss": [ISSUER]}}, {}),
    "iss of another": ({"claims": {"iss": "https://other.example.com"}}, {}),
    "aud of another": ({"claims": {"aud": AUDIENCE + "/"}}, {"claims": {"aud": AUDIENCE}}),
    "aud in another case": ({"claims": {"aud": AUDIENCE.upper()}}, {}),
    "aud for others too": (
        {"claims": {"aud": [AUDIENCE, "https://mail.example.com"]}},
        {"claims": {"aud": [AUDIENCE]}},
    ),
    "aud empty": ({"claims": {"aud": []}}, {"claims": {"aud": [AUDIENCE]}}),
    "aud an object": ({"claims": {"aud": {AUDIENCE: 1}}}, {}),
    "sub empty": ({"claims": {"sub": ""}}, {"claims": {"sub": "a"}}),
    "sub a number": ({"claims": {"sub": 1}}, {"claims": {"sub": "1"}}),
    "sub long": ({"claims": {"sub": "a" * 256}}, {"claims": {"sub": "a" * 255}}),
    "sub with NUL": ({"claims": {"sub": "ada\0"}}, {"claims": {"sub": "林徽因"}}),
    "sub with half a character": ({"claims": {"sub": "\ud800"}}, {}),
    "scope a list": ({"claims": {"scope": ["a"]}}, {"claims": {"scope": "a"}}),
    "exp a string": ({"claims": {"exp": str(NOW + 300)}}, {"claims": {"exp": NOW + 300}}),
    "exp a fraction": ({"claims": {"exp": NOW + 300.0}}, {}),
    "exp true": ({"claims": {"exp": True}}, {}),
    "exp endless": ({"claims": {"exp": float("inf")}}, {}),
    "exp 1e300": ({"claims": {"exp": 10**300}}, {}),
    "exp of 5,000 digits": ({"claims": b'{"exp":' + b"9" * 5_000 + b"}"}, {}),
    "exp below zero": ({"claims": {"exp": -1}}, {}),
    "iat below zero": ({"claims": {"iat": -1}}, {}),
    # Time, with 30 s for clocks that differ.
    "expired": (
        {"claims": {"iat": NOW - 300, "exp": NOW - 30}},
        {"claims": {"iat": NOW - 300, "exp": NOW - 29}},
    ),
    "not yet": ({"claims": {"nbf": NOW + 31}}, {"claims": {"nbf": NOW + 30}}),
    "made in the future": ({"claims": {"iat": NOW + 31}}, {"claims": {"iat": NOW + 30}}),
    "living too long": ({"claims": {"exp": NOW + 3_601}}, {"claims": {"exp": NOW + 3_600}}),
    "dead when born": ({"claims": {"exp": NOW}}, {"claims": {"exp": NOW + 1}}),
}


class Clock:
    """Tells the time that a test sets."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def provider(serve):
    provider = Provider()
    provider.address = f"http://{serve(provider.start)}/jwks"
    return provider


class Client:
    """A verifier, called from a test's thread."""

    def __init__(self, run_async, *issuers):
        self.clock, self.monotonic = Clock(NOW), Clock(1_000.0)
        self.run = run_async
        self.verifier = Verifier(issuers, clock=self.clock, monotonic=self.monotonic)

    def verify(self, token):
        return self.run(self.verifier.verify(token))

    def outcome(self, token):
        """A Token, or the class of the error."""
        try:
            return self.verify(token)
        except (RefusedError, KeysUnavailableError) as error:
            return type(error)


@pytest.fixture
def launch(provider, run_async):
    """launch(FIELD=...) gives a client of a new verifier, which knows the provider's issuer."""
    started = []

    def launch(*others, **fields):
        known = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": provider.address}
        client = Client(run_async, Issuer(**known | fields), *others)
        started.append(client)
        return client

    yield launch
    for client in started:
        run_async(client.verifier.close())


@pytest.fixture
def client(launch):
    return launch()


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forgery_is_refused_and_its_twin_accepted(client, case):
    forgery, twin = FORGERIES[case]

    assert client.outcome(make(**forgery)) is RefusedError
    assert isinstance(client.outcome(make(**twin)), Token)


def test_a_good_token_says_who_may_do_what(client):
    assert client.verify(make()) == GOOD


@pytest.mark.parametrize(
    ("kind", "alg"),
    [
        ("RSA", "RS256"),
        ("RSA", "PS256"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("Ed25519", "EdDSA"),
    ],
)
def test_every_algorithm_of_the_table_verifies(provider, launch, kind, alg):
    provider.keys = [public(kind, alg)]

    assert launch(algorithms={alg}).verify(make(kind=kind, alg=alg)) == GOOD


def test_an_issuer_cannot_speak_for_another(provider, launch):
    name = "https://other.example.com"
    other = Issuer(issuer=name, audience=AUDIENCE, jwks=provider.address + "/other")
    provider.other_keys = [public("P-256", "ES256", kid="other")]
    client = launch(other)
    signed = {"header": {"kid": "other"}, "kind": "P-256", "alg": "ES256"}

    assert client.verify(make(**signed, claims={"iss": name})).issuer == name
    assert client.outcome(make(**signed)) is RefusedError


def test_scopes_of_an_issuer_bound_what_its_tokens_claim(launch):
    google = {"types": ["JWT"], "requires_nbf": False, "subjects": ["ada"]}
    client = launch(scopes=["contacts.read"], **google)
    like_google = {"nbf": ABSENT, "scope": ABSENT}

    assert client.verify(make({"typ": "JWT"}, like_google)).scopes == {"contacts.read"}
    assert client.verify(make({"typ": "JWT"})).scopes == {"contacts.read"}
    assert client.verify(make({"typ": "JWT"}, {"scope": "other"})).scopes == set()
    assert client.outcome(make()) is RefusedError
    # Of Google, anybody can have a token for any audience.
    assert client.outcome(make({"typ": "JWT"}, like_google | {"sub": "eve"})) is RefusedError
    with pytest.raises(ValidationError, match="granted by this table: name the subjects"):
        launch(scopes=["contacts.read"])


def test_an_issuer_may_send_no_typ_and_no_nbf_where_the_table_says_so(client, launch):
    lenient = launch(requires_typ=False, requires_nbf=False)
    token = make({"typ": ABSENT}, {"nbf": ABSENT})

    assert client.outcome(token) is RefusedError
    assert lenient.verify(token) == GOOD
    assert lenient.verify(make()) == GOOD
    assert lenient.outcome(make({"typ": "JWT"})) is RefusedError
    assert lenient.outcome(make({"typ": None})) is RefusedError
    assert lenient.outcome(make(claims={"nbf": None})) is RefusedError


def test_all_refusals_read_the_same(client, caplog):
    caplog.set_level(logging.DEBUG)
    seen, reasons = set(), set()
    forged = [make(**forgery) for forgery, _ in FORGERIES.values()]

    for token in forged:
        with pytest.raises(RefusedError) as raised:
            client.verify(token)
        seen.add(str(raised.value))
        reasons.add(raised.value.reason)

    assert seen == {"the credentials are not accepted"}
    assert {"token: signature", "token: exp", "token: aud"} <= reasons
    parts = {part for token in forged for part in token.split(".") if len(part) > 8}
    told = caplog.text + "".join(reasons)
    assert [part for part in parts if part in told] == []


def test_no_changed_bit_is_accepted(client):
    good = make()
    assert client.verify(good) == GOOD

    @settings(deadline=None, max_examples=500)
    @given(st.integers(0, len(good) - 1), st.integers(0, 6))
    def holds(position, bit):
        wrong = chr(ord(good[position]) ^ (1 << bit))
        assert client.outcome(good[:position] + wrong + good[position + 1 :]) is RefusedError

    holds()


def test_whatever_a_token_is_it_is_refused_and_nothing_else(client):
    @settings(deadline=None)
    @given(st.text() | st.from_regex(tokens.THREE_PARTS))
    def holds(token):
        assert client.outcome(token) is RefusedError

    holds()


def test_whatever_an_issuer_signs_is_a_token_or_refused(client):
    @settings(deadline=None)
    @given(st.sampled_from(sorted(CLAIMS)), JSON)
    def holds(name, value):
        outcome = client.outcome(make(claims={name: value}, alg="ES256", kind="P-256"))
        assert outcome is RefusedError or outcome.subject.isprintable()

    holds()


def test_a_remembered_token_is_refused_when_it_expires(client):
    token = make()
    assert client.verify(token) == GOOD

    client.clock.now = GOOD.expires + 29.9
    assert client.verify(token) == GOOD

    client.clock.now = GOOD.expires + 30
    assert client.outcome(token) is RefusedError


def test_a_remembered_token_is_not_verified_again(client, monkeypatch):
    token = make()
    assert client.verify(token) == GOOD
    monkeypatch.setattr(tokens, "JWS", None)

    assert client.verify(token) == GOOD


def test_only_so_many_tokens_are_remembered(client, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_REMEMBERED", 3)

    for number in range(10):
        client.verify(make(claims={"sub": f"user-{number}"}))

    assert len(client.verifier._remembered) == 3


def test_refused_tokens_are_not_remembered(client):
    for forgery, _ in FORGERIES.values():
        client.outcome(make(**forgery))

    assert client.verifier._remembered == {}


def test_a_new_key_is_fetched_when_a_token_names_it(client, provider):
    assert client.verify(make()) == GOOD
    provider.keys.append(public("P-256", "ES256", kid="new"))
    new = make({"kid": "new"}, kind="P-256", alg="ES256")

    client.monotonic.now += COOLDOWN_S

    assert client.verify(new) == GOOD
    assert provider.fetches == 2


def test_tokens_of_a_removed_key_are_refused_within_the_refresh_time(client, provider):
    token, other = make(), make(kind="other RSA")
    assert client.verify(token) == client.verify(other) == GOOD
    del provider.keys[0]

    client.monotonic.now += REFRESH_S - 1
    assert client.verify(token) == GOOD
    client.monotonic.now += 1

    assert client.outcome(token) is RefusedError
    assert client.verify(other) == GOOD


def test_a_removed_key_is_noticed_by_all_calls_at_once(client, provider, run_async):
    calls = [make(claims={"sub": f"user-{number}"}) for number in range(10)]
    assert {type(client.outcome(token)) for token in calls} == {Token}
    del provider.keys[0]
    client.monotonic.now += REFRESH_S

    async def all_at_once():
        return await asyncio.gather(*map(client.verifier.verify, calls), return_exceptions=True)

    assert {type(error) for error in run_async(all_at_once())} == {RefusedError}
    assert provider.fetches == 2


def test_issuers_can_be_replaced(client, provider, run_async):
    """Those that stay keep their keys; tokens that were verified before are not remembered."""
    issuer, _ = client.verifier._issuers[ISSUER]
    assert client.verify(make()) == GOOD

    def replaced(*issuers):
        run_async(client.verifier.replace(issuers))
        return client.outcome(make())

    other = issuer.model_copy(update={"issuer": "https://another.example.com"})
    assert replaced(other, issuer) == GOOD
    assert provider.fetches == 1
    assert replaced(issuer.model_copy(update={"audience": "another"})) is RefusedError
    assert replaced() is RefusedError
    assert replaced(issuer) == GOOD


def test_an_exchanged_key_of_the_same_name_is_noticed(client, provider):
    token = make()
    assert client.verify(token) == GOOD
    provider.keys[0] = public("other RSA", "RS256", kid="RSA")

    client.monotonic.now += REFRESH_S

    assert client.outcome(token) is RefusedError
    assert client.verify(make({"kid": "RSA"}, kind="other RSA")) == GOOD


def test_an_issuer_may_withdraw_all_its_keys(client, provider):
    assert client.verify(make()) == GOOD
    provider.keys.clear()

    client.monotonic.now += REFRESH_S

    assert client.outcome(make()) is RefusedError


def test_hundreds_of_unknown_keys_cost_one_fetch_per_cooldown(client, provider, run_async):
    data = make({"kid": "unknown"}).split(".", 1)[1]
    strangers = [
        f"{encode({'alg': 'RS256', 'kid': f'stranger-{number}', 'typ': 'at+jwt'})}.{data}"
        for number in range(400)
    ]

    async def all_at_once():
        return await asyncio.gather(*map(client.verifier.verify, strangers), return_exceptions=True)

    for fetches in (1, 2):
        for _ in range(2):
            assert {type(error) for error in run_async(all_at_once())} == {RefusedError}
            assert provider.fetches == fetches
        client.monotonic.now += COOLDOWN_S


def test_callers_who_wait_for_a_slow_issuer_keep_out_no_known_one(
    client, provider, run_async, monkeypatch
):
    monkeypatch.setattr(jwks, "MAX_WAITING", 5)
    assert client.outcome(make()) == GOOD
    release = asyncio.Event()

    async def slow(_request):
        await release.wait()
        return web.json_response({"keys": provider.keys})

    provider.answer = slow
    client.monotonic.now += COOLDOWN_S

    async def all_at_once():
        strangers = [
            asyncio.create_task(client.verifier.verify(make({"kid": f"made-up-{number}"})))
            for number in range(8)
        ]
        refused, waiting = await asyncio.wait(strangers, return_when=asyncio.FIRST_EXCEPTION)
        while len(refused) < 3:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            refused |= done
        known = await client.verifier.verify(make(claims={"jti": "another"}))
        release.set()
        others = await asyncio.gather(*waiting, return_exceptions=True)
        return known, [task.exception() for task in refused], others

    known, refused, others = run_async(all_at_once())

    assert known == GOOD
    assert [type(error) for error in refused] == [OverloadedError] * 3
    assert [type(error) for error in others] == [RefusedError] * 5


def test_an_unknown_issuer_is_not_asked(client, provider):
    assert client.outcome(make(claims={"iss": provider.address})) is RefusedError
    assert provider.fetches == 0


def test_many_calls_at_once_share_one_fetch(client, provider, run_async):
    many = [
        make(claims={"sub": f"user-{number}"}, kind="P-256", alg="ES256") for number in range(50)
    ]

    async def all_at_once():
        return await asyncio.gather(*map(client.verifier.verify, many))

    assert len({token.subject for token in run_async(all_at_once())}) == 50
    assert provider.fetches == 1


def test_a_caller_that_leaves_does_not_end_the_fetch_of_others(client, provider, run_async):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request):
        asked.set()
        await go_on.wait()
        return web.json_response({"keys": provider.keys})

    async def work():
        first = asyncio.create_task(client.verifier.verify(make()))
        await asked.wait()
        second = asyncio.create_task(client.verifier.verify(make()))
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()
        return await second

    provider.answer = slow
    assert run_async(work()) == GOOD
    assert provider.fetches == 1


async def failing(_request):
    return web.Response(status=500)


async def elsewhere(_request):
    raise web.HTTPFound("/keys")


async def silent(_request):
    await asyncio.Event().wait()


async def pieces(request, piece, pause):
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(piece)
            await asyncio.sleep(pause)
    except ConnectionError:
        return response


async def endless(request):
    return await pieces(request, b" " * 10_000, 0)


async def dripping(request):
    return await pieces(request, b" ", 0.01)


def body(content, **headers):
    async def answer(_request):
        return web.Response(body=content, headers=headers)

    return answer


def document():
    return json.dumps({"keys": [public("RSA", "RS256")]}).encode()


HOSTILE = {
    "failing": failing,
    "elsewhere": elsewhere,
    "silent": silent,
    "endless": endless,
    "dripping": dripping,
    "huge": body(document() + b" " * MAX_BYTES),
    "compressed": body(gzip.compress(document()), **{"Content-Encoding": "gzip"}),
    "empty": body(b""),
    "no JSON": body(b"<html>"),
    "not UTF-8": body(b"\xff\xfe"),
    "deep": body(b"[" * 50_000),
    "a list": body(b"[]"),
    "no keys": body(b"{}"),
    "keys no list": body(b'{"keys": {}}'),
    "keys no objects": body(b'{"keys": ["RSA"]}'),
    "says it twice": body(b'{"keys": [], "keys": []}'),
    "many keys": body(json.dumps({"keys": [{}] * 101}).encode()),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_keys_that_cannot_be_had_are_unavailable_until_they_can(
    client, provider, monkeypatch, case
):
    provider.answer = HOSTILE[case]
    with monkeypatch.context() as patch:
        patch.setattr(jwks, "TIMEOUT_S", 0.5)
        for _ in range(3):
            assert client.outcome(make()) is KeysUnavailableError
    assert provider.fetches <= 1

    provider.answer = body(document())
    client.monotonic.now += COOLDOWN_S

    assert client.verify(make()) == GOOD


@pytest.mark.parametrize("case", HOSTILE)
def test_known_keys_are_kept_for_an_hour(client, provider, monkeypatch, case):
    assert client.verify(make()) == GOOD
    monkeypatch.setattr(jwks, "TIMEOUT_S", 0.5)
    provider.answer = HOSTILE[case]

    client.monotonic.now += REFRESH_S
    assert client.verify(make()) == GOOD
    client.monotonic.now += KEPT_S - REFRESH_S - 1
    assert client.verify(make()) == GOOD
    client.monotonic.now += COOLDOWN_S

    assert client.outcome(make()) is KeysUnavailableError


def test_an_issuer_that_is_down_holds_up_no_call_whose_key_is_known(client, provider, monkeypatch):
    assert client.verify(make()) == GOOD
    provider.answer = failing
    client.monotonic.now += REFRESH_S
    assert client.verify(make()) == GOOD

    provider.answer = silent
    monkeypatch.setattr(jwks, "TIMEOUT_S", 10 * WAIT)
    client.monotonic.now += COOLDOWN_S

    assert client.verify(make()) == GOOD
    assert client.verify(make(kind="other RSA")) == GOOD


def test_nobody_listening_is_unavailable(client, provider, run_async):
    run_async(provider.stop(None))

    assert client.outcome(make()) is KeysUnavailableError


RSA = public("RSA", "RS256")
LARGE = encode(((1 << 8_200) + 1).to_bytes(1_026, "big"))
KEYS = {
    "private": ({"d": "AAAA"}, {"n": RSA["n"]}),
    "a prime of it": ({"p": "AAAA"}, {}),
    "symmetric": ({"kty": "oct", "k": "AAAA"}, {"kty": "RSA"}),
    "unknown type": ({"kty": "XYZ"}, {"kty": "RSA"}),
    "type a list": ({"kty": ["RSA"]}, {"kty": "RSA"}),
    "no type": ({"kty": ABSENT}, {}),
    "no id": ({"kid": ABSENT}, {}),
    "id a number": ({"kid": 1}, {}),
    "for encryption": ({"use": "enc"}, {"use": ABSENT}),
    "for signing": ({"key_ops": ["sign"]}, {"key_ops": ["sign", "verify"]}),
    "operations no list": ({"key_ops": 1}, {"key_ops": ["verify"]}),
    "operations a string": ({"key_ops": "verify"}, {"key_ops": ["verify"]}),
    "for another algorithm": ({"alg": "RS512"}, {"alg": ABSENT}),
    "for none": ({"alg": "none"}, {"alg": "RS256"}),
    "large": ({"n": LARGE}, {}),
    "small": ({"n": "AQAB"}, {}),
    "n a number": ({"n": 1}, {}),
    "no n": ({"n": ABSENT}, {}),
    "no base64": ({"n": "!"}, {}),
    "even exponent": ({"e": "Ag"}, {}),
    "exponent 1": ({"e": "AQ"}, {}),
    "exponent 0": ({"e": ""}, {}),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_bad_key_is_left_out_and_its_twin_taken(case):
    bad, twin = KEYS[case]
    other = public("P-256", "ES256")

    left = read_keys({"keys": [changed(RSA, bad), other]}, {"RS256", "ES256"})
    taken = read_keys({"keys": [changed(RSA, twin), other]}, {"RS256", "ES256"})

    assert set(left) == {("P-256", "ES256")}
    assert set(taken) == {("P-256", "ES256"), ("RSA", "RS256")}


def test_1024_bits_are_too_few():
    document = {"keys": [public("weak RSA", "RS256")]}

    assert read_keys(document, {"RS256"}) == {}


def test_a_curve_must_fit_its_algorithm():
    document = {"keys": [public("P-256", "ES256") | {"alg": "ES384"}, public("P-384", "ES384")]}

    assert set(read_keys(document, {"ES256", "ES384"})) == {("P-384", "ES384")}


def test_keys_that_share_an_id_are_all_left_out():
    twins = [public("RSA", "RS256"), public("other RSA", "RS256", kid="RSA")]

    assert set(read_keys({"keys": twins[:1]}, {"RS256"})) == {("RSA", "RS256")}
    assert read_keys({"keys": twins}, {"RS256"}) == {}


def test_whatever_keys_arrive_they_are_taken_or_left_out():
    algorithms = ["RS256", "ES256", "EdDSA"]
    good = [public("RSA", "RS256"), public("P-256", "ES256"), public("Ed25519", "EdDSA")]

    @settings(deadline=None)
    @given(st.sampled_from(good), st.sampled_from(sorted({*good[0], *good[1], "key_ops"})), JSON)
    def holds(key, name, value):
        assert len(read_keys({"keys": [key | {name: value}]}, algorithms)) <= 1

    holds()


LINE = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": "https://issuer.example.com/jwks"}
MISTAKES = {
    "plain http": ({"jwks": "http://issuer.example.com"}, {"jwks": "http://127.0.0.1:80/jwks"}),
    "a name for loopback": ({"jwks": "http://localhost/jwks"}, {"jwks": "http://[::1]/jwks"}),
    "a file": ({"jwks": "file:///etc/passwd"}, {}),
    "no host": ({"jwks": "https://"}, {}),
    "a password": ({"jwks": "https://a:b@issuer.example.com"}, {}),
    "brackets": ({"jwks": "https://["}, {}),
    "symmetric": ({"algorithms": ["HS256"]}, {"algorithms": ["EdDSA"]}),
    "none": ({"algorithms": ["none"]}, {}),
    "no algorithm": ({"algorithms": []}, {}),
    "no type": ({"types": []}, {"types": ["JWT"]}),
    "no issuer": ({"issuer": ""}, {}),
    "no audience": ({"audience": ABSENT}, {}),
    "a lifetime of nothing": ({"max_lifetime": 0}, {"max_lifetime": 1}),
    "an unknown field": ({"audiences": []}, {}),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_table_is_said(case):
    mistake, twin = MISTAKES[case]
    table = TypeAdapter(Issuers)

    with pytest.raises(ValidationError) as raised:
        table.validate_json(json.dumps([changed(LINE, mistake)]))

    assert [error["loc"][:2] for error in raised.value.errors()] == [(0, next(iter(mistake)))]
    assert len(table.validate_json(json.dumps([changed(LINE, twin)]))) == 1


def test_the_table_is_a_setting(monkeypatch):
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="CONTACTS_")
        issuers: Issuers = ()

    monkeypatch.setenv("CONTACTS_ISSUERS", json.dumps([LINE]))

    assert Settings().issuers == (Issuer(**LINE),)


def test_an_issuer_stands_in_the_table_once():
    with pytest.raises(ValidationError, match=f"{ISSUER} is listed more than once"):
        TypeAdapter(Issuers).validate_python([LINE, LINE])
    with pytest.raises(ValueError, match=f"{ISSUER} is listed more than once"):
        Verifier([Issuer(**LINE), Issuer(**LINE)])
