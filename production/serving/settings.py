"""Settings of a service, from environment variables that begin with a prefix and from flags."""

import argparse
import os
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from production.calling import addresses
from production.serving import environment, settings_table
from production.serving.observability import logs
from production.serving.security.documents import parse_json
from production.serving.security.issuers import Issuers
from production.serving.security.secret_files import warn_if_exposed


def _check_address(value: str) -> str:
    return str(addresses.parse(value))


def _parse_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value.encode())
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


DOMAIN = "^[a-z0-9._-]*$"
# Their text is what the table of settings calls the values.
HostPort = Annotated[str, AfterValidator(_check_address), "HOST:PORT"]
Url = Annotated[str, "URL"]
Seconds = Annotated[float, "seconds", Field(le=7 * 24 * 3600)]
"""gRPC counts some of them as milliseconds in 32 bits."""
Bytes = Annotated[int, "bytes"]


class Settings(BaseSettings):
    """The settings of any service. The defaults are for trying things out on one machine.

    A service's own class sets `env_prefix` and `known_scopes`, and adds settings of its own. An
    empty variable counts as unset.
    """

    model_config = SettingsConfigDict(extra="forbid", env_ignore_empty=True)
    known_scopes: ClassVar[frozenset[str]] = frozenset()
    """The scopes that a token issuer may be trusted with."""
    doors: ClassVar[frozenset[str]] = frozenset({"client_ca", "issuers", "api_keys"})
    """The settings that keep callers out. If one of them is empty, it is an error."""
    in_files: ClassVar[frozenset[str]] = frozenset({"database", "issuers", "log_secret"})
    """The settings whose value may be in a file, which NAME_FILE names."""
    reloaded: ClassVar[frozenset[str]] = frozenset({"issuers"})
    """The settings that a running server takes from `reload`."""
    _flags: dict[str, Any] = PrivateAttr(default_factory=dict)

    address: HostPort = Field(
        "127.0.0.1:50051", description="where to listen; port 0 takes any free one"
    )
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    plaintext: bool | Literal["sidecar"] = Field(
        False, description="no TLS: true on loopback only, sidecar behind a proxy that ends TLS"
    )
    certificate: Path = Field(
        Path("build/certs/server.pem"), description="the server's certificate, PEM"
    )
    key: Path = Field(
        Path("build/certs/server.key"), description="private key of the certificate, PEM"
    )
    client_ca: Path | None = Field(
        None, description="CA of client certificates, which are then required"
    )
    trust_domain: str = Field(
        "", pattern=DOMAIN, description="SPIFFE trust domain of client certificates"
    )
    issuers: Annotated[
        Annotated[Issuers, Field(min_length=1)] | None,
        NoDecode,
        BeforeValidator(_parse_text),
        "JSON",
    ] = Field(None, description="token issuers, a list of objects")
    audience: str = Field("", description="this service, as signatures name it")
    api_keys: Path | None = Field(None, description="file of the API keys that sign calls")
    metrics_address: HostPort | None = Field(None, description="for GET /metrics; do not expose it")
    health_address: HostPort | None = Field(
        None, description="for health checks only, in plaintext, for a kubelet"
    )
    channelz_address: HostPort | None = Field(
        None, description="for channelz, on a loopback address only"
    )
    database: Url = Field("sqlite:///build/service.db", description="SQLAlchemy's URL")
    connections: int = Field(
        8, ge=1, le=100, description="database connections, and threads to use them"
    )
    max_calls: int = Field(
        400, ge=1, description="concurrent calls; one caller gets half of them at most"
    )
    max_watches: int = Field(1_000, ge=1, description="concurrent watches, shared in the same way")
    max_uploads: int = Field(8, ge=1, description="concurrent uploads, shared in the same way")
    default_deadline: Seconds = Field(10, gt=0, description="for calls without a deadline")
    max_deadline: Seconds = Field(60, gt=0, description="the longest that a call may take")
    connection_age: Seconds = Field(
        1_800, ge=1, description="age of a connection when its client must open a new one"
    )
    drain_pause: Seconds = Field(
        1, ge=0, description="between NOT_SERVING and refusing calls, for load balancers"
    )
    grace: Seconds = Field(10, ge=0, description="for calls in flight to finish")
    log_secret: str = Field(
        "", description="key for the caller pseudonyms in the log; random by default"
    )
    log_level: logs.Level = Field("info", description="SIGUSR1 switches between the two")
    log: Literal["console", "json"] = Field("console", description="format of log lines")

    @classmethod
    def prefix(cls) -> str:
        """Returns the prefix of the environment variables."""
        return str(cls.model_config["env_prefix"])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns where settings come from: flags, then the environment and its files."""
        return init_settings, environment.Environment(settings_cls)

    def listens_on(self) -> list[str]:
        """Returns all addresses of the server."""
        names = ("address", "metrics_address", "health_address", "channelz_address")
        return [address for name in names if (address := getattr(self, name))]

    def warn_of_exposed_secrets(self) -> None:
        """Logs a warning for each secret in a file that others can read."""
        for name in sorted(self.in_files - self.doors):
            if file := os.environ.get(f"{self.prefix()}{name.upper()}_FILE"):
                warn_if_exposed(Path(file))

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuses plaintext except on loopback, and a server that could authenticate no caller."""
        prefix = self.prefix()
        if self.plaintext and self.client_ca:
            raise ValueError(f"{prefix}PLAINTEXT and {prefix}CLIENT_CA are mutually exclusive")
        if self.plaintext is True and not addresses.parse(self.address).is_loopback:
            raise ValueError(
                f"{prefix}PLAINTEXT: only on 127.0.0.1, [::1] or localhost "
                '(set it to "sidecar" behind a proxy that ends TLS)'
            )
        if self.channelz_address and not addresses.parse(self.channelz_address).is_loopback:
            raise ValueError(f"{prefix}CHANNELZ_ADDRESS: only on 127.0.0.1, [::1] or localhost")
        for place in self.listens_on():
            if self.listens_on().count(place) > 1 and addresses.parse(place).port:
                raise ValueError(f"{place} is the address of two servers")
        if not (self.plaintext is True or self.client_ca or self.issuers or self.api_keys):
            also = "" if self.plaintext else f" or {prefix}CLIENT_CA"
            raise ValueError(
                "no way to authenticate callers: "
                f"set {prefix}ISSUERS{',' if also else ' or'} {prefix}API_KEYS{also}"
            )
        for issuer in self.issuers or ():
            if unknown := issuer.named_scopes - self.known_scopes:
                raise ValueError(f"{prefix}ISSUERS: there is no scope {min(unknown)}")
        return self


ServiceSettings = TypeVar("ServiceSettings", bound=Settings)


def load(kind: type[ServiceSettings], **flags: Any) -> ServiceSettings:
    """Returns the settings from the environment and from flags, which override it.

    Raises ValueError with one line for each mistake.
    """
    prefix = kind.prefix()
    mistakes = environment.mistakes(prefix, kind.model_fields, kind.in_files, kind.doors)
    if lines := "\n".join(mistakes):
        raise ValueError(lines)
    try:
        loaded = kind(**flags)
    except ValidationError as error:
        raise ValueError("\n".join(_line(prefix, each) for each in error.errors())) from None
    except SettingsError as error:  # Of a file.
        raise ValueError(str(error.__cause__)) from None
    loaded._flags = flags
    return loaded


def reload(current: ServiceSettings) -> tuple[ServiceSettings, list[str]]:
    """Returns the settings of now, and the names of those that have changed.

    Raises ValueError as load does.
    """
    fresh = load(type(current), **current._flags)
    changed = [
        name
        for name in type(current).model_fields
        if getattr(fresh, name) != getattr(current, name)
    ]
    return fresh, changed


def from_command_line(
    kind: type[ServiceSettings], program: str, description: str
) -> tuple[ServiceSettings, argparse.Namespace]:
    """Returns the settings, and the flags. Ends the program with an error if they are not valid."""
    lines = settings_table.lines(kind.prefix(), kind.model_fields)
    files = ", ".join(f"{kind.prefix()}{name.upper()}_FILE" for name in sorted(kind.in_files))
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=f"{description} Flags override the environment.",
        epilog="\n".join((f"environment ({files} name files with the value):", *lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--address", help="HOST:PORT to listen on")
    parser.add_argument(
        "--plaintext", action="store_const", const=True, help="no TLS, on loopback only"
    )
    parser.add_argument("--workers", type=int, help="processes that share the port")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    flags = {
        name: value for name, value in vars(args).items() if value is not None and name != "worker"
    }
    try:
        return load(kind, **flags), args
    except ValueError as error:
        sys.exit(f"error: {error}")


JSON_TYPES = {
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
}
"""What pydantic calls by Python's names, by its types of mistakes."""


def _line(prefix: str, mistake: ErrorDetails) -> str:
    """Formats a mistake, for example CONTACTS_ISSUERS: 0.audience: Field required."""
    setting, *path = map(str, mistake["loc"] or [""])
    name = f"{prefix}{setting}".upper() if setting else ""
    what = JSON_TYPES.get(mistake["type"]) or mistake["msg"].removeprefix("Value error, ")
    parts = [name, ".".join(path), what]
    return ": ".join(filter(None, parts))
