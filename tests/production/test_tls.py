"""Certificates that no client could use are refused: the verdict is that of a real connection."""

import os

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from production.development.certificates import SERVER, Authority, Purpose
from production.serving.security import secret_files
from production.serving.security.tls import CertificateError, CertificateFiles
from tests.conftest import wait_until

PLAIN = SERVER._replace(purpose=None)
USAGES = "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
USAGES += " key_cert_sign crl_sign encipher_only decipher_only"


def rsa_key():
    return rsa.generate_private_key(65_537, 2_048)


def usage(name):
    return x509.KeyUsage(**{each: each == name for each in USAGES.split()})


KINDS = {
    "RSA": lambda: (SERVER, rsa_key()),
    "P-256": lambda: (SERVER, ec.generate_private_key(ec.SECP256R1())),
    "P-384": lambda: (SERVER, ec.generate_private_key(ec.SECP384R1())),
    "P-521": lambda: (SERVER, ec.generate_private_key(ec.SECP521R1())),
    "P-224": lambda: (SERVER, ec.generate_private_key(ec.SECP224R1())),
    "Ed25519": lambda: (SERVER, ed25519.Ed25519PrivateKey.generate()),
    "Ed448": lambda: (SERVER, ed448.Ed448PrivateKey.generate()),
    "expired": lambda: (SERVER._replace(begins=-2, ends=-1),),
    "not yet valid": lambda: (SERVER._replace(begins=1),),
    "for clients": lambda: (SERVER._replace(purpose=Purpose.CLIENT_AUTH),),
    "for anything": lambda: (SERVER._replace(purpose=Purpose.ANY_EXTENDED_KEY_USAGE),),
    "for no purpose": lambda: (PLAIN,),
    "to sign": lambda: (PLAIN, None, usage("digital_signature")),
    "to encipher": lambda: (PLAIN, rsa_key(), usage("key_encipherment")),
    "to agree": lambda: (PLAIN, None, usage("key_agreement")),
}


@pytest.fixture
def files(tmp_path):
    """files(content, ...) writes certificate and key."""

    def files(certificate, key):
        (tmp_path / "server.pem").write_bytes(certificate)
        (tmp_path / "server.key").write_bytes(key)
        (tmp_path / "server.key").chmod(0o600)
        return CertificateFiles(tmp_path / "server.pem", tmp_path / "server.key", None)

    return files


def accepts(certificate, key, authority):
    """Whether a server of gRPC starts with it and a client of gRPC connects."""
    server = grpc.server(None)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    try:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    except RuntimeError:
        return False
    server.start()
    states = []
    channel = grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority))
    channel.subscribe(states.append, try_to_connect=True)
    last = {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}
    wait_until(lambda: last & set(states))
    channel.close()
    server.stop(None).wait()
    return grpc.ChannelConnectivity.READY in states


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_is_refused_if_no_client_would_connect(files, certs, kind):
    pair = Authority.load(certs, "ca").issue(*KINDS[kind]())
    try:
        files(*pair).load()
    except CertificateError:
        is_loaded = False
    else:
        is_loaded = True

    assert is_loaded == accepts(*pair, (certs / "ca.pem").read_bytes())


def test_a_short_rsa_key_is_refused_because_other_clients_refuse_it(files, certs):
    short = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - on purpose.
    pair = Authority.load(certs, "ca").issue(SERVER, short)

    with pytest.raises(CertificateError, match="use RSA of 2048 bits or more, P-256 or P-384"):
        files(*pair).load()


@pytest.mark.parametrize("kind", ["Ed25519", "expired"])
def test_a_rotation_to_an_unusable_certificate_keeps_the_one_in_use(files, certs, kind, caplog):
    authority = Authority.load(certs, "ca")
    served = files(*authority.issue(SERVER))
    served.load()
    files(*authority.issue(*KINDS[kind]()))

    assert [served.reload(), served.reload()] == [None, None]
    assert caplog.text.count("the certificate in use is kept: ") == 1
    files(*authority.issue(SERVER))
    assert served.reload()


def test_a_certificate_that_becomes_valid_is_then_used(files, certs, monkeypatch):
    """Nothing about its files changes."""
    authority = Authority.load(certs, "ca")
    served = files(*authority.issue(SERVER))
    served.load()
    problems = iter(["is not valid before tomorrow"])
    files(*authority.issue(SERVER))
    monkeypatch.setattr(
        "production.serving.security.tls._date_problem", lambda _certificate: next(problems, "")
    )

    assert served.reload() is None
    assert served.reload()


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o604, 1), (0o640, 1)])
def test_a_private_key_that_others_can_read_is_reported(
    files, certs, tmp_path, caplog, mode, warnings
):
    served = files(*Authority.load(certs, "ca").issue(SERVER))
    (tmp_path / "server.key").chmod(mode)
    if os.geteuid() == 0:
        os.chown(tmp_path / "server.key", 1, 1)
    served.load()

    assert caplog.text.count("holds a secret, and others can read it") == warnings


def test_the_group_may_read_a_secret_of_roots_as_kubernetes_mounts_it(tmp_path):
    secret = tmp_path / "secret"
    secret.touch()
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of root's")
    for mode, exposed in ((0o440, False), (0o640, False), (0o660, True), (0o444, True)):
        secret.chmod(mode)
        assert secret_files.is_exposed(secret) == exposed
