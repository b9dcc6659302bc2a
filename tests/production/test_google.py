"""The development issuer, and Google's own library as its client, over real HTTP and gRPC."""

import asyncio
import base64
import datetime
import ipaddress
import json
import signal
import urllib.error
import urllib.parse
import urllib.request

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth.exceptions import TransportError

from production.development import issuer as module
from production.development.google_stand_in import EMAIL, JWT_BEARER, TOKEN_URL
from production.development.issuer import CLIENTS
from production.lessons import google_client
from production.serving.security.issuers import Issuer
from production.serving.security.principal import RefusedError
from production.serving.security.tokens import Token, Verifier
from tests.conftest import WAIT

AUDIENCE = "https://contacts.example.com"
METHOD = "/tests.Who/Am"


@pytest.fixture
def issuer(serve):
    started = []

    async def start(address):
        started.append(await module.start(address))
        return started[0]

    serve(start)
    return started[0][0]


@pytest.fixture
def key_file(issuer, tmp_path, monkeypatch):
    path = tmp_path / "service-account.json"
    module.write_secret(path, json.dumps(issuer.google.service_account()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return str(path)


@pytest.fixture
def verifier(issuer, run_async):
    """Knows the issuer, its stand-in for Google and the service account."""
    verifier = Verifier(
        [Issuer.model_validate(line) for line in issuer.table(AUDIENCE)], monotonic=lambda: 0
    )
    yield verifier
    run_async(verifier.close())


@pytest.fixture
def verify(verifier, run_async):
    return lambda token: run_async(verifier.verify(token))


def post(url, authorization=None, **form):
    """The status and JSON of an answer."""
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310
    if authorization:
        request.add_header(
            "Authorization", "Basic " + base64.b64encode(authorization.encode()).decode()
        )
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def ask(issuer, client="editor", secret=None, **changes):
    """Asks for an access token."""
    form = {"grant_type": "client_credentials", "audience": AUDIENCE, "scope": "contacts.read"}
    secret = issuer.secrets[client] if secret is None else secret
    return post(f"{issuer.url}/token", f"{client}:{secret}", **form | changes)


def test_a_client_gets_a_token_that_a_server_accepts(issuer, verify):
    status, answer = ask(issuer)

    token = verify(answer["access_token"])
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 300)
    assert token == Token(issuer.url, "editor", frozenset({"contacts.read"}), token.expires)


def test_a_client_that_names_no_scope_gets_all_that_it_may_have(issuer, verify):
    for client, scopes in CLIENTS.items():
        assert verify(ask(issuer, client, scope="")[1]["access_token"]).scopes == scopes


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"secret": "wrong"}, 401, "invalid_client"),
        ({"secret": ""}, 401, "invalid_client"),
        ({"client": "nobody", "secret": ""}, 401, "invalid_client"),
        ({"client": "viewer", "scope": "contacts.write"}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"audience": ""}, 400, "invalid_request"),
    ],
)
def test_a_request_that_is_not_right_gets_no_token(issuer, change, status, error):
    assert ask(issuer, **change) == (status, {"error": error})


def test_a_request_without_credentials_gets_no_token(issuer):
    assert post(f"{issuer.url}/token") == (401, {"error": "invalid_client"})


def test_rotation_needs_no_pause(issuer, verify):
    for _ in range(2):
        assert verify(ask(issuer)[1]["access_token"]).subject == "editor"
        issuer.rotate()

    # This key was made after the server's last look, within its cooldown.
    with pytest.raises(RefusedError):
        verify(ask(issuer)[1]["access_token"])


def test_a_forged_assertion_gets_no_token(issuer):
    other = module.DevelopmentIssuer()
    claims = {
        "iss": EMAIL,
        "aud": TOKEN_URL,
        "target_audience": AUDIENCE,
        "iat": 1_800_000_000,
        "exp": 4_000_000_000,
    }
    forged = other.google.keys.sign("JWT", claims)

    answer = post(f"{issuer.url}/google/token", grant_type=JWT_BEARER, assertion=forged)

    assert answer == (400, {"error": "invalid_grant"})


def test_the_issuer_serves_this_machine_alone(run_async):
    with pytest.raises(ValueError, match=r"0\.0\.0\.0 is not a loopback address"):
        run_async(module.start("0.0.0.0:0"))


@pytest.fixture(scope="module")
def certificate():
    """A key and its own certificate, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, made.public_bytes(Encoding.PEM)


@pytest.fixture
def who_am_i(serve, verifier, certificate):
    """who_am_i(plugin) gives channel credentials, and the address of a server that says who."""

    async def answer(_request, context):
        authorization = dict(context.invocation_metadata())["authorization"]
        try:
            token = await verifier.verify(authorization.removeprefix("Bearer "))
        except RefusedError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        return f"{token.subject} {' '.join(token.scopes)}".encode()

    async def start(address):
        server = grpc.aio.server()
        handlers = {"Am": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_registered_method_handlers("tests.Who", handlers)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("tests.Who", handlers)]
        )
        port = server.add_secure_port(address, grpc.ssl_server_credentials([certificate]))
        await server.start()
        return server, port

    address = serve(start)
    trusted = grpc.ssl_channel_credentials(certificate[1])
    return lambda plugin: (address, google_client.channel_credentials(trusted, plugin))


def call(address, credentials):
    with grpc.secure_channel(address, credentials) as channel:
        return channel.unary_unary(METHOD)(b"", timeout=WAIT).decode()


async def call_async(address, credentials):
    async with grpc.aio.secure_channel(address, credentials) as channel:
        return (await channel.unary_unary(METHOD)(b"", timeout=WAIT)).decode()


def test_a_server_verifies_what_google_auth_sends(key_file, who_am_i, run_async):
    signs_itself = who_am_i(google_client.self_signed(key_file, AUDIENCE))
    has_google_sign = who_am_i(google_client.id_tokens(AUDIENCE))

    assert call(*signs_itself) == f"{EMAIL} contacts.read"
    assert call(*has_google_sign) == "100000000000000000001 contacts.read"
    assert run_async(call_async(*signs_itself)) == f"{EMAIL} contacts.read"
    assert run_async(call_async(*has_google_sign)) == "100000000000000000001 contacts.read"


@pytest.mark.usefixtures("key_file")
def test_many_first_calls_share_one_id_token(issuer, who_am_i, run_async, monkeypatch):
    made = []
    make = issuer.google.id_token
    monkeypatch.setattr(
        issuer.google, "id_token", lambda audience: made.append(1) or make(audience)
    )
    address, credentials = who_am_i(google_client.id_tokens(AUDIENCE))

    async def work():
        async with grpc.aio.secure_channel(address, credentials) as channel:
            am = channel.unary_unary(METHOD)
            return await asyncio.gather(*(am(b"", timeout=WAIT) for _ in range(20)))

    assert set(run_async(work())) == {b"100000000000000000001 contacts.read"}
    assert len(made) == 1


def test_a_server_refuses_what_google_auth_sends_to_others(key_file, who_am_i):
    for audience in (AUDIENCE + "/", AUDIENCE + "/production.v1.ContactService"):
        with pytest.raises(grpc.RpcError) as raised:
            call(*who_am_i(google_client.self_signed(key_file, audience)))
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.usefixtures("key_file")
def test_an_issuer_that_is_down_is_an_error_before_the_first_call(issuer, run_async):
    run_async(issuer.stop())

    with pytest.raises(TransportError):
        google_client.id_tokens(AUDIENCE)


def test_the_lesson_shows_what_each_credential_sends(key_file, capsys):
    google_client.show(key_file, AUDIENCE)

    assert capsys.readouterr().out.splitlines() == [
        f"self-signed                aud={AUDIENCE} scope=(none)",
        f"ID token                   aud={AUDIENCE} scope=(none)",
        f"default_host               aud={AUDIENCE}/ scope=(none)",
        "on demand                  aud=https://localhost:50051/production.v1.ContactService"
        " scope=(none)",
        "scopes and always_use_jwt  aud=(none) scope=contacts.read",
        "scopes                     opaque: ya29....",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_rotates_and_ends_well(spawn_server, tmp_path, number):
    process, url = spawn_server(
        "-m", "production.development.issuer", "--port", "0", "--folder", tmp_path / "new"
    )

    def key_ids():
        with urllib.request.urlopen(f"{url}/.well-known/jwks.json", timeout=WAIT) as answer:  # noqa: S310
            return [key["kid"] for key in json.load(answer)["keys"]]

    clients = json.loads((tmp_path / "new/clients.json").read_text())
    form = {"grant_type": "client_credentials", "audience": AUDIENCE}
    status, _ = post(f"{url}/token", f"viewer:{clients['viewer']}", **form)
    assert status == 200
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "new/viewer.token").read_text().count(".") == 2

    before = key_ids()
    process.send_signal(signal.SIGHUP)
    while (after := key_ids()) == before:
        pass
    assert after[:-1] == before

    process.send_signal(number)
    assert process.communicate(timeout=WAIT) == ("", "")
    assert process.returncode == 0


def test_an_address_that_is_taken_is_said(issuer, run, tmp_path):
    port = issuer.url.rpartition(":")[2]

    done = run("production.development.issuer", "--port", port, "--folder", tmp_path / "new")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "address already in use" in done.stderr.lower()
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_lesson_says_that_it_needs_a_key_file(run, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)

    done = run("production.lessons.google_client")

    message = "GOOGLE_APPLICATION_CREDENTIALS must name the key file of a service account"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")
