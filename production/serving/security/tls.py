"""The server's TLS: certificates that may be replaced while it runs, and the roles of peers."""

import datetime
import logging
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

from production.serving.observability import metrics
from production.serving.security.secret_files import warn_if_exposed

MIN_RSA_BITS = 2_048
"""gRPC's own clients take shorter keys; OpenSSL's and Go's do not."""
CURVES = (ec.SECP256R1, ec.SECP384R1)

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """A certificate or key file is not usable; the message names it."""


class CertificateFiles:
    """The files of certificate, key and clients' CA, which another program may replace."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._loaded_state: object = None
        self._refused = ""

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Reads the files. Raises CertificateError if no client could connect with them."""
        state = self._state()
        certificate, key = _read(self._certificate), _read(self._key)
        _check_pair(self._certificate, certificate, self._key, key)
        _check_server(self._certificate, certificate)
        authority = None
        if self._client_ca:
            authority = _read(self._client_ca)
            _check_authorities(self._client_ca, authority)
        warn_if_exposed(self._key)
        parsed, file = _parse(self._certificate, certificate)[0], str(self._certificate)
        metrics.CERTIFICATE_BEGINS.labels(file).set(parsed.not_valid_before_utc.timestamp())
        metrics.CERTIFICATE_ENDS.labels(file).set(parsed.not_valid_after_utc.timestamp())
        self._loaded_state, self._refused = state, ""
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)

    def reload(self) -> grpc.ServerCertificateConfiguration | None:
        """Reads the files if they have changed; None keeps the certificate in use.

        Two files cannot be replaced at the same moment, so a key that does not fit is most likely
        half a replacement, not an error: the next connection reads them again.
        """
        if self._state() == self._loaded_state:
            return None
        try:
            configuration = self.load()
        except CertificateError as error:
            if self._refused != str(error):
                log.warning("the certificate in use is kept: %s", error)
            self._refused = str(error)
            return None
        log.info("a new certificate is in use")
        return configuration

    def _state(self) -> object:
        """Returns something that differs once a file was replaced, written or removed."""
        return [_stamp(path) for path in (self._certificate, self._key, self._client_ca) if path]


def server_credentials(
    certificate: Path, key: Path, client_ca: Path | None
) -> grpc.ServerCredentials:
    """Returns credentials for TLS 1.2 or newer; gRPC offers nothing older.

    If client_ca is set, clients need a certificate that it has signed. Each new connection uses the
    files as they are then. Raises CertificateError.
    """
    files = CertificateFiles(certificate, key, client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.load(),
        files.reload,  # type: ignore[arg-type]  # The stub lacks None.
        require_client_authentication=client_ca is not None,
    )


class Peer(NamedTuple):
    """A client, from its certificate."""

    role: str
    expires: float
    """In Unix seconds."""


def role_prefix(trust_domain: str) -> str:
    """Returns the prefix of URIs in client certificates that name a role."""
    return f"spiffe://{trust_domain}/role/"


def peer_of(auth_context: Mapping[str, Iterable[bytes]], prefix: str) -> Peer | None:
    """Returns the role in the only URI of the peer's certificate, which begins with prefix.

    Returns None for other peers, and for a certificate that is not valid now: TLS does not check it
    again when it resumes a session. gRPC's `peer_identities` would not do: they mix all kinds of
    names, and fall back to the common name.
    """
    certificates = list(auth_context.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        return None
    role, begins, expires = _read_certificate(certificates[0], prefix)
    return Peer(role, expires) if role and begins <= time.time() < expires else None


@lru_cache(maxsize=1_000)
def _read_certificate(pem: bytes, prefix: str) -> tuple[str | None, float, float]:
    """Returns the role, and the beginning and end of the certificate in Unix seconds."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    match = re.fullmatch(re.escape(prefix) + "([a-z-]+)", uris[0]) if len(uris) == 1 else None
    return (
        match[1] if match else None,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _check_pair(certificate_file: Path, certificate: bytes, key_file: Path, key: bytes) -> None:
    try:
        public_key = _parse(certificate_file, certificate)[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{certificate_file} holds no usable key") from None
    try:
        private_key = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(f"{key_file} holds no usable private key") from None
    if private_key.public_key() != public_key:
        raise CertificateError(f"{key_file} is not the key of {certificate_file}")


def _check_server(file: Path, content: bytes) -> None:
    """Raises CertificateError for what gRPC's clients refuse, whatever authority has signed it."""
    certificate = _parse(file, content)[0]
    problem = (
        _key_problem(certificate.public_key())
        or _date_problem(certificate)
        or _usage_problem(certificate)
    )
    if problem:
        raise CertificateError(f"{file} {problem}")


def _check_authorities(file: Path, content: bytes) -> None:
    """Raises CertificateError if no certificate of a client could be signed by any of them."""
    problems = [_date_problem(authority) for authority in _parse(file, content)]
    if all(problems):
        raise CertificateError(f"{file} {problems[0]}")


def _key_problem(key: object) -> str:
    match key:
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return ""
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, CURVES):
            return ""
    return f"has a key that clients refuse: use RSA of {MIN_RSA_BITS} bits or more, P-256 or P-384"


def _usage_problem(certificate: x509.Certificate) -> str:
    with suppress(x509.ExtensionNotFound):
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if Purpose.SERVER_AUTH not in purposes:
            return "is not for servers: its extended key usage lacks serverAuth"
    with suppress(x509.ExtensionNotFound):
        if not certificate.extensions.get_extension_for_class(
            x509.KeyUsage
        ).value.digital_signature:
            return "is not for TLS: its key usage lacks digitalSignature"
    return ""


def _date_problem(certificate: x509.Certificate) -> str:
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_after_utc <= now:
        return f"has expired, on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if certificate.not_valid_before_utc > now:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _parse(file: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise CertificateError(f"{file} holds no certificate") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror} (make one with `make certs`)") from None


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
