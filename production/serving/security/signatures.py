"""Verifies calls that are signed with an API key, as production/calling/signing.py does."""

import hmac
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Base64UrlBytes, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from production.calling.signing import sign
from production.serving.security.documents import parse_json
from production.serving.security.nonces import WINDOW_S
from production.serving.security.principal import RefusedError
from production.serving.security.secret_files import is_exposed

SIGNATURE = re.compile(
    r"v1\.(?P<key>[a-z0-9-]{1,40})\.(?P<time>[0-9]{1,12})\.(?P<nonce>[0-9a-f]{32})\.(?P<mac>[0-9a-f]{64})"
)


class ApiKey(BaseModel):
    """The server's side of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: Annotated[Base64UrlBytes, Field(min_length=32)]
    principal: str = Field(min_length=1)
    """The owner. To change keys, it has two for a while."""
    scopes: frozenset[str]


KeyId = Annotated[str, Field(pattern="^[a-z0-9-]{1,40}$")]
Keys = dict[KeyId, ApiKey]


def load_keys(file: Path, scopes: Collection[str]) -> Keys:
    """Returns the keys in a file by their ids; scopes are those that a key may have.

    Raises OSError, or ValueError with a message of one line.
    """
    if is_exposed(file):
        raise ValueError(f"{file} holds secrets, and others can read it: chmod 600 {file}")
    try:
        keys = TypeAdapter(Keys).validate_python(parse_json(file.read_bytes()))
        for key_id, key in keys.items():
            if unknown := key.scopes.difference(scopes):
                raise ValueError(f"{key_id}.scopes: there is no scope {min(unknown)}")
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file}: {place}: {first['msg']}") from None
    except RecursionError:
        raise ValueError(f"{file}: is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if not keys:
        raise ValueError(f"{file}: holds no key, so nobody could call")
    return keys


class Verified(NamedTuple):
    """A valid signature, whose nonce has not been consumed yet."""

    key: str
    nonce: str
    signed: int
    """When, in Unix seconds by the client's clock."""
    api_key: ApiKey


def verify(signature: str, target: str, keys: Keys, now: float) -> Verified:
    """Verifies the signature of a call to target. Raises RefusedError."""
    form = SIGNATURE.fullmatch(signature)
    api_key = keys.get(form["key"]) if form else None
    if not form or not api_key:
        raise RefusedError("signature: form or key")
    if abs(int(form["time"]) - now) > WINDOW_S:
        raise RefusedError("signature: time")
    expected = sign(form["key"], api_key.secret, target, int(form["time"]), form["nonce"])
    if not hmac.compare_digest(expected, signature):
        raise RefusedError("signature: not of this key, service or method")
    return Verified(form["key"], form["nonce"], int(form["time"]), api_key)
