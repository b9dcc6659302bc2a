"""Signs tokens with keys that rotate."""

import secrets
from collections import deque
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class SigningKeys:
    """The previous key, the current one and the next. All are published, the current one signs.

    So verifiers know a key before it signs, and until all that it has signed has expired.
    """

    def __init__(self, algorithm: str) -> None:
        """algorithm is ES256 or RS256."""
        self._algorithm = algorithm
        self._keys = deque([self._make(), self._make()], maxlen=3)

    def _make(self) -> tuple[str, PrivateKey]:
        return secrets.token_hex(8), make_key(self._algorithm)

    def rotate(self) -> None:
        """Makes a key, and signs with the one made before."""
        self._keys.append(self._make())

    def sign(self, kind: str, claims: dict[str, Any]) -> str:
        """Returns a token of that type."""
        kid, key = self._keys[-2]
        return jwt.encode(claims, key, self._algorithm, {"kid": kid, "typ": kind})

    def published(self) -> dict[str, Any]:
        """Returns the public keys, as a JWK set."""
        return {"keys": [public_jwk(kid, key, self._algorithm) for kid, key in self._keys]}


def make_key(algorithm: str) -> PrivateKey:
    """Makes a key for ES256 or RS256."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(kid: str, key: PrivateKey, algorithm: str) -> dict[str, Any]:
    """Returns the public half of a key as a JWK."""
    methods = jwt.get_algorithm_by_name(algorithm)
    jwk: dict[str, Any] = methods.to_jwk(key.public_key(), as_dict=True)
    return jwk | {"kid": kid, "alg": algorithm, "use": "sig", "key_ops": ["verify"]}
