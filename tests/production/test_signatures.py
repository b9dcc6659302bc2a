"""Signed calls: what is refused beside a twin that is accepted, and replays everywhere."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from production import signatures
from production.client_credentials import channel_credentials
from production.database import Database
from production.signatures import SIGNATURE, ApiKey, SigningPlugin, sign, use_nonce, verify
from production.tokens import RefusedError
from production.v1.contacts_pb2 import CreateContactRequest, ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from tests.production import test_security
from tests.production.test_security import TIMEOUT, bearer, channel
from tests.production.test_tokens import AUDIENCE

Code = grpc.StatusCode
certs, issuers, launch, touched = (
    test_security.certs,
    test_security.issuers,
    test_security.launch,
    test_security.touched,
)

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
        own = Database(url)
        try:
            use_nonce(own, verified, NOW)
        except RefusedError:
            return "refused"
        finally:
            own.close()
        return "used"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(use, range(8)))

    assert sorted(outcomes) == ["refused"] * 7 + ["used"]
    assert use(None) == "refused"


def test_nonces_are_each_keys_own_and_forgotten_when_no_longer_needed(database):
    first = verify(good(), METHOD, KEYS, NOW)
    use_nonce(database, first, NOW)
    use_nonce(database, verify(good("phone", OTHER), METHOD, KEYS, NOW), NOW)

    # As long as a signature from a clock that is ahead could still be accepted.
    with pytest.raises(RefusedError):
        use_nonce(database, first, NOW + 2 * signatures.WINDOW_S)
    use_nonce(database, first, NOW + 2 * signatures.WINDOW_S + 2)


@pytest.fixture
def keys(tmp_path):
    """A server's file of keys with the key `laptop`, and the client's file."""
    files = tmp_path / "keys.json", tmp_path / "laptop.json"
    signatures.add_key(files[0], "laptop", "ada", ["contacts.read"], AUDIENCE, files[1])
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


def test_a_signed_call_is_let_in_and_its_replay_is_not(launch, certs, keys, touched):
    address = launch(api_keys=keys[0])
    plugin = Recorded(signatures.load_plugin(keys[1]))
    signing = channel_credentials(certs / "ca.pem", None, None, plugin)

    with grpc.secure_channel(address, signing) as opened:
        assert [listed(opened), listed(opened)] == [Code.OK, Code.OK]
    assert len(touched) == 2

    with channel(address, certs) as opened:
        for sent in plugin.sent:
            assert listed(opened, [sent]) == Code.UNAUTHENTICATED
    with channel(launch(api_keys=keys[0]), certs) as another_server:
        assert listed(another_server, plugin.sent[:1]) == Code.UNAUTHENTICATED
        assert len(touched) == 2
        fresh = sign("laptop", secret_of(keys[1]), AUDIENCE + LIST, time.time(), NONCE)
        assert listed(another_server, [(SIGNATURE, fresh)]) == Code.OK


def secret_of(file):
    plugin = signatures.load_plugin(file)
    return plugin._secret


def test_both_channels_sign(launch, certs, keys, run_async):
    address = launch(api_keys=keys[0])
    credentials = channel_credentials(certs / "ca.pem", None, None, signatures.load_plugin(keys[1]))

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
    launch, certs, issuers, keys, claims, shows_signature, wanted
):
    address = launch(api_keys=keys[0], issuers=issuers)
    metadata = bearer(**claims) if claims is not None else []
    if shows_signature:
        signature = sign("laptop", secret_of(keys[1]), AUDIENCE + LIST, time.time(), NONCE)
        metadata.append((SIGNATURE, signature))

    with channel(address, certs) as opened:
        assert listed(opened, metadata) == wanted
        if shows_signature and claims is not None:
            assert listed(opened, [*metadata, metadata[-1]]) == Code.UNAUTHENTICATED


def test_a_signature_for_another_service_is_refused(launch, certs, keys):
    address = launch(api_keys=keys[0], audience="https://elsewhere.example.com")
    for audience, wanted in (
        (AUDIENCE, Code.UNAUTHENTICATED),
        ("https://elsewhere.example.com", Code.OK),
    ):
        signature = sign("laptop", secret_of(keys[1]), audience + LIST, time.time(), NONCE)
        with channel(address, certs) as opened:
            assert listed(opened, [(SIGNATURE, signature)]) == wanted


def test_a_call_that_is_not_allowed_uses_up_no_nonce(launch, certs, keys):
    address = launch(api_keys=keys[0])
    target = AUDIENCE + "/production.v1.ContactService/CreateContact"
    signature = sign("laptop", secret_of(keys[1]), target, time.time(), NONCE)
    with channel(address, certs) as opened:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as raised:
                ContactServiceStub(opened).CreateContact(
                    CreateContactRequest(), timeout=TIMEOUT, metadata=[(SIGNATURE, signature)]
                )
            assert raised.value.code() == Code.PERMISSION_DENIED


def test_a_key_may_do_no_more_than_its_scopes(launch, certs, keys):
    address = launch(api_keys=keys[0])
    signing = channel_credentials(certs / "ca.pem", None, None, signatures.load_plugin(keys[1]))
    with grpc.secure_channel(address, signing) as opened, pytest.raises(grpc.RpcError) as raised:
        opened.unary_unary("/production.v1.ContactService/CreateContact")(b"", timeout=TIMEOUT)

    assert raised.value.code() == Code.PERMISSION_DENIED


def test_the_command_adds_keys_that_only_their_owner_can_read(run, tmp_path):
    server, client = tmp_path / "keys.json", tmp_path / "laptop.json"

    def add(key, *options):
        return run(
            "production.signatures", "add", str(server), key, "--client", str(client), *options
        )

    first = add("laptop", "--scopes", "contacts.read")
    assert first.stdout == f"added laptop to {server}; the client's part is in {client}\n"
    assert {file.stat().st_mode & 0o777 for file in (server, client)} == {0o600}
    assert signatures.load_keys(server)["laptop"].scopes == {"contacts.read"}
    assert add("laptop").stderr == f"error: {server} has a key laptop already\n"
    assert add("La.ptop").returncode == 2
    assert set(json.loads(server.read_text())) == {"laptop"}


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("{}", 0o644, "holds secrets, and others can read it: chmod 600"),
        ("{", 0o600, "Expecting property name"),
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
        signatures.load_keys(file)

    assert len(str(raised.value).splitlines()) == 1


def test_a_plugin_signs_each_attempt_anew():
    """gRPC asks it again for a retry, whose nonce is then another."""

    class Context(grpc.AuthMetadataContext):
        service_url = "https://localhost:50051/production.v1.ContactService"
        method_name = "ListContacts"

    sent = []
    plugin = SigningPlugin("laptop", SECRET, AUDIENCE)
    for _ in range(2):
        plugin(Context(), lambda added, _error: sent.extend(added))

    keys = {"laptop": KEYS["laptop"]}
    found = [verify(value, AUDIENCE + LIST, keys, time.time()) for _, value in sent]
    assert found[0].nonce != found[1].nonce
