"""Signed calls: what is refused beside a twin that is accepted, and replays everywhere."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from production.calling.channel_credentials import channel_credentials
from production.calling.signing import SigningPlugin, load_plugin, sign
from production.contacts import api_keys
from production.contacts.access import SIGNATURE
from production.contacts.database import connect
from production.contacts.settings import Settings
from production.serving.security import signatures
from production.serving.security.nonces import MARGIN_S, WINDOW_S, use_nonce
from production.serving.security.principal import RefusedError
from production.serving.security.signatures import ApiKey, verify
from production.v1.contacts_pb2 import CreateContactRequest, ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from tests.conftest import ROOT, WAIT
from tests.production.conftest import channel
from tests.production.tokens import AUDIENCE, bearer

Code = grpc.StatusCode
TIMEOUT = 30
SCOPES = Settings.known_scopes

NOW = 1_800_000_000
METHOD = "/production.v1.ContactService/GetContact"
LIST = "/production.v1.ContactService/ListContacts"
SECRET, OTHER = b"a" * 32, b"b" * 32
NONCE = "0123456789abcdef" * 2
KEYS = {
    "laptop": ApiKey.model_construct(secret=SECRET, principal="ada", scopes=frozenset()),
    "phone": ApiKey.model_construct(secret=OTHER, principal="eve", scopes=frozenset()),
}


def good(key="laptop", secret=SECRET, method=METHOD, now=NOW, nonce=NONCE):
    return sign(key, secret, method, now, nonce)


@pytest.mark.parametrize(
    ("forged", "twin"),
    [
        (good("phone"), good("phone", OTHER)),
        (good("tablet"), good()),
        (good(method=METHOD + "s"), good()),
        (good(method=METHOD.lower()), good()),
        (good(now=NOW - 61), good(now=NOW - 60)),
        (good(now=NOW + 61), good(now=NOW + 60)),
        (good().replace(NONCE, NONCE[::-1]), good(nonce=NONCE[::-1])),
        (good().replace(str(NOW), str(NOW + 1)), good(now=NOW + 1)),
        (good().replace(f".{NOW}", f".0{NOW}"), good()),
        (good().replace("v1.", "v2."), good()),
        (good()[:-1], good()),
        (good() + "0", good()),
        (good() + "\n", good()),
        (good().upper(), good()),
        (good().replace("laptop", "phone"), good()),
        (good(now=10**11), good()),
        (good(nonce="ab"), good()),
        (good().rpartition(".")[0] + "." + "0" * 64, good()),
        (good().replace("1", "١"), good()),
        ("", good()),
    ],
)
def test_a_forged_signature_is_refused_and_its_twin_accepted(forged, twin):
    with pytest.raises(RefusedError):
        verify(forged, METHOD, KEYS, NOW)
    assert verify(twin, METHOD, KEYS, NOW).nonce


@given(st.integers(0, len(good()) - 1), st.characters())
def test_no_changed_character_is_accepted(place, character):
    signature = good()
    changed = signature[:place] + character + signature[place + 1 :]
    if changed != signature:
        with pytest.raises(RefusedError):
            verify(changed, METHOD, KEYS, NOW)


@pytest.mark.usefixtures("database")
def test_a_nonce_is_good_once_for_all_processes_and_after_a_restart(url):
    verified = verify(good(), METHOD, KEYS, NOW)

    def use(_):
        own = connect(url)
        try:
            use_nonce(own, verified.key, verified.nonce, NOW, NOW)
        except RefusedError:
            return "refused"
        finally:
            own.close()
        return "used"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(use, range(8)))

    assert sorted(outcomes) == ["refused"] * 7 + ["used"]
    assert use(None) == "refused"


def test_nonces_are_each_keys_own(database):
    for key, secret in (("laptop", SECRET), ("phone", OTHER)):
        verified = verify(good(key, secret), METHOD, KEYS, NOW)
        use_nonce(database, verified.key, verified.nonce, verified.signed, NOW)
        with pytest.raises(RefusedError):
            use_nonce(database, verified.key, verified.nonce, verified.signed, NOW)


def test_a_nonce_outlives_its_signature_on_servers_whose_clocks_differ(database):
    """Whatever their clocks say, to the margin, none forgets it while another takes it."""
    ahead, behind = NOW + WINDOW_S + MARGIN_S, NOW - WINDOW_S
    use_nonce(database, "laptop", NONCE, NOW, behind)
    use_nonce(database, "laptop", NONCE[::-1], NOW, ahead)  # This server's clock is an hour ahead.

    with pytest.raises(RefusedError):
        use_nonce(database, "laptop", NONCE, NOW, NOW + WINDOW_S)
    use_nonce(database, "laptop", NONCE, NOW, ahead + 1)  # Forgotten at last.


@pytest.fixture
def keys(tmp_path):
    """A server's file of keys with the key `laptop`, and the client's file."""
    files = tmp_path / "keys.json", tmp_path / "laptop.json"
    api_keys.add_key(files[0], "laptop", "ada", ["contacts.read"], AUDIENCE, files[1])
    return files


class Recorded(grpc.AuthMetadataPlugin):
    """A plugin that keeps what it sent."""

    def __init__(self, plugin):
        self.sent, self._plugin = [], plugin

    def __call__(self, context, callback):
        self._plugin(
            context, lambda added, error: (self.sent.extend(added), callback(added, error))
        )


def listed(opened, metadata=()):
    try:
        ContactServiceStub(opened).ListContacts(
            ListContactsRequest(), timeout=TIMEOUT, metadata=metadata
        )
    except grpc.RpcError as error:
        return error.code()
    return Code.OK


def test_a_signed_call_is_let_in_and_its_replay_is_not(serve_tls, certs, keys, touched):
    address = serve_tls(api_keys=keys[0])
    plugin = Recorded(load_plugin(keys[1], SIGNATURE))
    signing = channel_credentials(certs / "ca.pem", None, None, plugin)

    with grpc.secure_channel(address, signing) as opened:
        assert [listed(opened), listed(opened)] == [Code.OK, Code.OK]
    assert len(touched) == 2

    with channel(address, certs) as opened:
        for sent in plugin.sent:
            assert listed(opened, [sent]) == Code.UNAUTHENTICATED
    with channel(serve_tls(api_keys=keys[0]), certs) as another_server:
        assert listed(another_server, plugin.sent[:1]) == Code.UNAUTHENTICATED
        assert len(touched) == 2
        fresh = sign("laptop", secret_of(keys[1]), AUDIENCE + LIST, time.time(), NONCE)
        assert listed(another_server, [(SIGNATURE, fresh)]) == Code.OK


def secret_of(file):
    plugin = load_plugin(file, SIGNATURE)
    return plugin._secret


def test_both_channels_sign(serve_tls, certs, keys, run_async):
    address = serve_tls(api_keys=keys[0])
    credentials = channel_credentials(certs / "ca.pem", None, None, load_plugin(keys[1], SIGNATURE))

    async def call():
        async with grpc.aio.secure_channel(address, credentials) as opened:
            return await ContactServiceStub(opened).ListContacts(ListContactsRequest())

    assert not run_async(call()).contacts


@pytest.mark.parametrize(
    ("claims", "shows_signature", "wanted"),
    [
        ({}, True, Code.OK),
        ({}, False, Code.OK),
        (None, True, Code.OK),
        (None, False, Code.UNAUTHENTICATED),
        ({"aud": "https://elsewhere.example.com"}, True, Code.UNAUTHENTICATED),
        ({"scope": "contacts.write"}, True, Code.PERMISSION_DENIED),
    ],
)
def test_with_a_token_both_must_be_good(
    serve_tls, certs, issuers, keys, claims, shows_signature, wanted
):
    address = serve_tls(api_keys=keys[0], issuers=issuers)
    metadata = bearer(**claims) if claims is not None else []
    if shows_signature:
        signature = sign("laptop", secret_of(keys[1]), AUDIENCE + LIST, time.time(), NONCE)
        metadata.append((SIGNATURE, signature))

    with channel(address, certs) as opened:
        assert listed(opened, metadata) == wanted
        if shows_signature and claims is not None:
            assert listed(opened, [*metadata, metadata[-1]]) == Code.UNAUTHENTICATED


def test_a_signature_for_another_service_is_refused(serve_tls, certs, keys):
    address = serve_tls(api_keys=keys[0], audience="https://elsewhere.example.com")
    for audience, wanted in (
        (AUDIENCE, Code.UNAUTHENTICATED),
        ("https://elsewhere.example.com", Code.OK),
    ):
        signature = sign("laptop", secret_of(keys[1]), audience + LIST, time.time(), NONCE)
        with channel(address, certs) as opened:
            assert listed(opened, [(SIGNATURE, signature)]) == wanted


def test_a_call_that_is_not_allowed_uses_up_no_nonce(serve_tls, certs, keys):
    address = serve_tls(api_keys=keys[0])
    target = AUDIENCE + "/production.v1.ContactService/CreateContact"
    signature = sign("laptop", secret_of(keys[1]), target, time.time(), NONCE)
    with channel(address, certs) as opened:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as raised:
                ContactServiceStub(opened).CreateContact(
                    CreateContactRequest(), timeout=TIMEOUT, metadata=[(SIGNATURE, signature)]
                )
            assert raised.value.code() == Code.PERMISSION_DENIED


def test_a_key_may_do_no_more_than_its_scopes(serve_tls, certs, keys):
    address = serve_tls(api_keys=keys[0])
    signing = channel_credentials(certs / "ca.pem", None, None, load_plugin(keys[1], SIGNATURE))
    with grpc.secure_channel(address, signing) as opened, pytest.raises(grpc.RpcError) as raised:
        opened.unary_unary("/production.v1.ContactService/CreateContact")(b"", timeout=TIMEOUT)

    assert raised.value.code() == Code.PERMISSION_DENIED


def test_the_command_adds_keys_that_only_their_owner_can_read(run, tmp_path):
    server, client = tmp_path / "keys.json", tmp_path / "laptop.json"

    def add(key, *options):
        return run(
            "production.contacts.api_keys",
            "add",
            str(server),
            key,
            "--client",
            str(client),
            *options,
        )

    first = add("laptop", "--scopes", "contacts.read")
    assert first.stdout == f"added laptop to {server}; the client's part is in {client}\n"
    assert {file.stat().st_mode & 0o777 for file in (server, client)} == {0o600}
    assert signatures.load_keys(server, SCOPES)["laptop"].scopes == {"contacts.read"}
    assert add("laptop").stderr == f"error: {server} already has a key laptop\n"
    assert add("La.ptop").returncode == 2
    assert set(json.loads(server.read_text())) == {"laptop"}


def test_keys_that_are_added_at_once_are_all_added(tmp_path):
    file, keys = tmp_path / "keys.json", [f"laptop-{number}" for number in range(6)]
    command = [sys.executable, "-m", "production.contacts.api_keys", "add", str(file)]
    adding = [
        subprocess.Popen(
            [*command, key, "--client", str(tmp_path / key)], stdout=subprocess.DEVNULL, cwd=ROOT
        )
        for key in keys
    ]

    for each in adding:
        each.wait(WAIT)

    assert [each.returncode for each in adding] == [0] * 6
    assert set(signatures.load_keys(file, SCOPES)) == set(keys)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["keys.json", *keys])


def test_the_file_of_the_server_cannot_be_the_clients_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "keys.json"
    (tmp_path / "link").symlink_to(file)

    for client in (Path("keys.json"), tmp_path / "x/../keys.json", tmp_path / "link"):
        with pytest.raises(ValueError, match="is the server's file; the client's part needs one"):
            api_keys.add_key(file, "laptop", "ada", ["contacts.read"], AUDIENCE, client)
    assert not file.exists()


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("{}", 0o644, "holds secrets, and others can read it: chmod 600"),
        ("{", 0o600, "Expecting property name"),
        ("{}", 0o600, "keys.json: holds no key, so nobody could call"),
        ("[" * 100_000, 0o600, "keys.json: is nested too deeply"),
        ('{"a": {"secret": "YQ==", "principal": "a", "scopes": []}}', 0o600, "a.secret: "),
        ('{"a": {"secret": "*", "principal": "a", "scopes": []}}', 0o600, "a.secret: "),
        ('{"a": {"principal": "a", "scopes": []}}', 0o600, "a.secret: Field required"),
        ('{"A": {}}', 0o600, "A.*: String should match pattern"),
        ('{"a": 1, "a": 2}', 0o600, "twice|more than once|duplicate"),
    ],
)
def test_a_file_of_keys_that_is_not_right_is_refused_in_one_line(tmp_path, content, mode, message):
    file = tmp_path / "keys.json"
    file.write_text(content)
    file.chmod(mode)

    with pytest.raises(ValueError, match=message) as raised:
        signatures.load_keys(file, SCOPES)

    assert len(str(raised.value).splitlines()) == 1


def test_a_plugin_signs_each_attempt_anew():
    """gRPC asks it again for a retry, whose nonce is then another."""

    class Context(grpc.AuthMetadataContext):
        service_url = "https://localhost:50051/production.v1.ContactService"
        method_name = "ListContacts"

    sent = []
    plugin = SigningPlugin("laptop", SECRET, AUDIENCE, SIGNATURE)
    for _ in range(2):
        plugin(Context(), lambda added, _error: sent.extend(added))

    keys = {"laptop": KEYS["laptop"]}
    found = [verify(value, AUDIENCE + LIST, keys, time.time()) for _, value in sent]
    assert found[0].nonce != found[1].nonce
