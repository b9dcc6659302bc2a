"""TLS on the server: certificates that may be replaced while it runs, and who a peer is."""

import logging
import re
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from production.certificates import ROLE

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """A file is not what TLS needs; the message names it."""


class Files:
    """Certificate, key and the authority of clients, as files that somebody else replaces."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._seen: object = None

    def load(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold. Raises CertificateError unless they fit each other."""
        self._seen = self._state()
        certificate, key = _read(self._certificate), _read(self._key)
        _check_pair(self._certificate, certificate, self._key, key)
        authority = None
        if self._client_ca:
            authority = _read(self._client_ca)
            _parse(self._client_ca, authority)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)

    def reload(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold if they have changed; None keeps what is in use.

        Two files cannot be replaced at the same moment, so a pair that does not fit is not an
        error but, most likely, half a replacement: the next connection looks again.
        """
        if self._state() == self._seen:
            return None
        try:
            configuration = self.load()
        except CertificateError as error:
            log.warning("the certificate in use is kept: %s", error)
            return None
        log.info("a new certificate is in use")
        return configuration

    def _state(self) -> object:
        """Differs when a file has been replaced or written, or has gone."""
        return [_stamp(path) for path in (self._certificate, self._key, self._client_ca) if path]


def server_credentials(
    certificate: Path, key: Path, client_ca: Path | None
) -> grpc.ServerCredentials:
    """TLS 1.2 or newer; gRPC offers nothing older. With client_ca, a client must show a certificate
    that was signed by it. Each new connection sees files that were replaced before it.

    Raises CertificateError.
    """
    files = Files(certificate, key, client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.load(),
        files.reload,  # type: ignore[arg-type]  # Its stub forgets that None is allowed.
        require_client_authentication=client_ca is not None,
    )


class Peer(NamedTuple):
    """What a client's certificate says."""

    role: str
    expires: float
    """In Unix seconds."""


def peer_of(auth_context: Mapping[str, Iterable[bytes]]) -> Peer | None:
    """The role that the peer's certificate names by its only URI; None for any other peer, and when
    the certificate is not of now: a resumed session does not look at it again.

    Not `peer_identities`: it falls back to the common name, and mixes all kinds of names.
    """
    certificates = list(auth_context.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        return None
    role, begins, expires = _read_certificate(certificates[0])
    return Peer(role, expires) if role and begins <= time.time() < expires else None


@lru_cache(maxsize=1_000)
def _read_certificate(pem: bytes) -> tuple[str | None, float, float]:
    """The role, and from when to when, in Unix seconds."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    match = re.fullmatch(re.escape(ROLE) + "([a-z-]+)", uris[0]) if len(uris) == 1 else None
    return (
        match[1] if match else None,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _check_pair(certificate_file: Path, certificate: bytes, key_file: Path, key: bytes) -> None:
    try:
        public_key = _parse(certificate_file, certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{certificate_file} holds no key that can be used") from None
    try:
        private_key = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(f"{key_file} holds no private key that can be used") from None
    if private_key.public_key() != public_key:
        raise CertificateError(f"{key_file} is not the key of {certificate_file}")


def _parse(file: Path, content: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise CertificateError(f"{file} holds no certificate") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror} (make certs makes one)") from None


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
