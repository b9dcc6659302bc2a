"""A certificate authority for development, and certificates: good ones, and some to be refused.

Run it:

    python -m production.development.certificates build/certs

A deployment gets them from its platform: cert-manager, SPIRE, a cloud's private CA.
"""

import argparse
import datetime
import ipaddress
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes as Key,
)
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes as PublicKey,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from production.contacts.access import TRUST_DOMAIN
from production.serving.security.tls import role_prefix

ROLE = role_prefix(TRUST_DOMAIN)
Purpose = ExtendedKeyUsageOID
DAY = datetime.timedelta(days=1)
LOCAL = ("localhost", "127.0.0.1", "::1")


class Leaf(NamedTuple):
    """The content of a certificate. begins and ends are in days from now."""

    hosts: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    common_name: str = ""
    purpose: x509.ObjectIdentifier | None = Purpose.CLIENT_AUTH
    begins: float = -0.1  # Clocks differ.
    ends: float = 7  # Short, because nobody checks a revocation list.


SERVER = Leaf(hosts=LOCAL, purpose=Purpose.SERVER_AUTH)
OPERATOR = Leaf(uris=(f"{ROLE}operator",))
LEAVES = {
    "server": SERVER,
    "server-expired": SERVER._replace(begins=-9, ends=-1),
    "server-not-yet-valid": SERVER._replace(begins=1),
    "server-wrong-host": SERVER._replace(hosts=("elsewhere.example.com",)),
    "operator": OPERATOR,
    "auditor": Leaf(uris=(f"{ROLE}auditor",)),
    "gateway": Leaf(uris=(f"{ROLE}gateway",)),
    "operator-for-servers": OPERATOR._replace(purpose=Purpose.SERVER_AUTH),
}
FOREIGN_LEAVES = {"foreign-server": SERVER, "foreign-operator": OPERATOR}
"""The same, signed by an authority that neither server nor clients trust."""


class Authority:
    """A certificate and the key that signs others."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def make(cls, common_name: str) -> Self:
        """Makes an authority that is valid for a year."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _builder(common_name, common_name, key.public_key(), -1, 365)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Reads the authority in NAME.pem and NAME.key. Raises OSError or ValueError."""
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{folder / name}.key is not an elliptic curve key")
        return cls(certificate, key)

    def save(self, folder: Path, name: str) -> None:
        """Writes NAME.pem and NAME.key."""
        _write(folder, name, _pem(self.certificate), _key_pem(self._key))

    def issue(
        self, leaf: Leaf, key: Key | None = None, *extensions: x509.ExtensionType
    ) -> tuple[bytes, bytes]:
        """Makes a certificate and its key, both as PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        names = [
            *map(_host, leaf.hosts),
            *map(x509.UniformResourceIdentifier, leaf.uris),
            *map(x509.RFC822Name, leaf.emails),
        ]
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(leaf.common_name, str(issuer), key.public_key(), leaf.begins, leaf.ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(signer, critical=False)
        )
        if names:
            # It replaces the subject if there is none (RFC 5280, 4.2.1.6).
            alternatives = x509.SubjectAlternativeName(names)
            builder = builder.add_extension(alternatives, critical=not leaf.common_name)
        if leaf.purpose:
            builder = builder.add_extension(x509.ExtendedKeyUsage([leaf.purpose]), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key)


def make(folder: Path, trust_domain: str = TRUST_DOMAIN) -> list[str]:
    """Makes all certificates, and the authorities if they are missing; returns the names.

    trust_domain is that of the roles that client certificates name.
    Raises OSError if the folder cannot be written, ValueError for damaged files in it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, leaves in (("ca", LEAVES), ("foreign-ca", FOREIGN_LEAVES)):
        if not (folder / f"{name}.key").exists():
            Authority.make(f"{name} for development").save(folder, name)
        authority = Authority.load(folder, name)
        for leaf_name, leaf in leaves.items():
            uris = tuple(uri.replace(ROLE, role_prefix(trust_domain)) for uri in leaf.uris)
            _write(folder, leaf_name, *authority.issue(leaf._replace(uris=uris)))
    return [*LEAVES, *FOREIGN_LEAVES]


def _builder(
    subject: str, issuer: str, key: PublicKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
    )


def _name(common_name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    return x509.Name(attributes)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(folder: Path, name: str, certificate: bytes, key: bytes) -> None:
    """Replaces each file atomically. Readers must check that the two belong together."""
    for path, content in ((folder / f"{name}.key", key), (folder / f"{name}.pem", certificate)):
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:  # Mode 0600.
            file.write(content)
        Path(file.name).replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make certificates for development.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--trust-domain", default=TRUST_DOMAIN, help="of roles (default: %(default)s)"
    )
    args = parser.parse_args()
    try:
        names = make(args.folder, args.trust_domain)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {args.folder}: {error}")
    print(f"made an authority and {len(names)} certificates in {args.folder}")


if __name__ == "__main__":
    main()
