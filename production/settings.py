"""What an operator may set: by environment variables that begin with CONTACTS_, or by flags."""

import argparse
import ipaddress
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from production import logs
from production.tokens import Issuers

ADDRESS = r"^.+:[0-9]{1,5}$"


class Settings(BaseSettings):
    """Every setting has a default for trying things out on one machine."""

    model_config = SettingsConfigDict(env_prefix="CONTACTS_", extra="forbid")

    address: str = Field(
        "127.0.0.1:50051",
        pattern=ADDRESS,
        description="HOST:PORT to listen on; port 0: any free one",
    )
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    plaintext: bool = Field(False, description="no TLS; on a loopback address only")
    certificate: Path = Field(Path("build/certs/server.pem"), description="the server's, as PEM")
    key: Path = Field(Path("build/certs/server.key"), description="of the certificate")
    client_ca: Path | None = Field(
        None, description="who signs clients' certificates, which are then required"
    )
    issuers: Annotated[Issuers, Field(min_length=1)] | None = Field(
        None, description="of tokens: a JSON list of tables"
    )
    audience: str = Field(
        "https://contacts.example.com", description="what signatures are made for: this service"
    )
    api_keys: Path | None = Field(None, description="the file of keys that sign calls")
    metrics_address: str | None = Field(
        None, pattern=ADDRESS, description="HOST:PORT for GET /metrics; keep strangers away from it"
    )
    health_address: str | None = Field(
        None, pattern=ADDRESS, description="HOST:PORT for health alone, in plaintext, for a kubelet"
    )
    channelz_address: str | None = Field(
        None, pattern=ADDRESS, description="HOST:PORT for channelz, on a loopback address only"
    )
    database: str = Field("sqlite:///build/contacts.db", description="an SQLAlchemy URL")
    connections: int = Field(8, ge=1, le=100, description="to the database, and threads for them")
    max_calls: int = Field(100, ge=1, description="calls at a time; further ones are refused")
    max_watches: int = Field(1_000, ge=1, description="watches at a time, counted apart")
    default_deadline: float = Field(10, gt=0, description="seconds, for calls that name none")
    max_deadline: float = Field(60, gt=0, description="seconds a call may take at most")
    drain_pause: float = Field(
        1, ge=0, description="seconds between NOT_SERVING and refusing calls, for balancers to see"
    )
    grace: float = Field(10, ge=0, description="seconds calls in flight have to finish")
    log_secret: str = Field("", description="what makes callers' pseudonyms; default: at random")
    log_level: logs.Level = Field("info", description="debug or info; SIGUSR1 switches")
    log: Literal["console", "json"] = Field("console", description="how log lines look")

    @model_validator(mode="after")
    def _check(self) -> Self:
        """No plaintext for strangers, and no server that would let nobody in."""
        if self.plaintext and self.client_ca:
            raise ValueError("CONTACTS_PLAINTEXT and CONTACTS_CLIENT_CA exclude each other")
        if self.plaintext and not is_loopback(self.address):
            raise ValueError("CONTACTS_PLAINTEXT: only on 127.0.0.1, [::1] or localhost")
        if self.channelz_address and not is_loopback(self.channelz_address):
            raise ValueError("CONTACTS_CHANNELZ_ADDRESS: only on 127.0.0.1, [::1] or localhost")
        if not (self.plaintext or self.client_ca or self.issuers or self.api_keys):
            raise ValueError(
                "nobody could call: set CONTACTS_ISSUERS, CONTACTS_API_KEYS or CONTACTS_CLIENT_CA"
            )
        return self


def is_loopback(address: str) -> bool:
    """Whether an address HOST:PORT can be reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(**flags: Any) -> Settings:
    """The settings in the environment, and in flags, which come first.

    Raises ValueError, with one line for each mistake.
    """
    unknown = [
        f"{name}: there is no such setting"
        for name in sorted(os.environ)
        if name.startswith("CONTACTS_") and name[9:].lower() not in Settings.model_fields
    ]
    if unknown:
        raise ValueError("\n".join(unknown))
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise ValueError("\n".join(map(_line, error.errors()))) from None
    except SettingsError as error:  # Not JSON where JSON must be.
        raise ValueError(f"{error}: {error.__cause__}") from None


def from_command_line() -> tuple[Settings, argparse.Namespace]:
    """The settings, and the flags they were given by. Ends the program when they are not right."""
    lines = (
        f"  CONTACTS_{name.upper():18}{field.description} (default: {field.default})"
        for name, field in Settings.model_fields.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m production.contacts_server",
        description="Serve ContactService. Flags come before the environment.",
        epilog="environment:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--address", help="HOST:PORT to listen on")
    parser.add_argument("--plaintext", action="store_true", help="no TLS, on loopback only")
    parser.add_argument("--workers", type=int, help="processes that share the port")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    flags = {name: value for name, value in vars(args).items() if value and name != "worker"}
    try:
        return load(**flags), args
    except ValueError as error:
        sys.exit(f"error: {error}")


def _line(mistake: ErrorDetails) -> str:
    path = ".".join(str(part) for part in mistake["loc"][1:])
    name = f"CONTACTS_{mistake['loc'][0]}".upper() + ": " if mistake["loc"] else ""
    return f"{name}{path + ': ' if path else ''}{mistake['msg'].removeprefix('Value error, ')}"
