"""What an operator may set: by environment variables that begin with CONTACTS_."""

from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting has a default for trying things out on one machine."""

    model_config = SettingsConfigDict(env_prefix="CONTACTS_", extra="forbid")

    address: str = Field(
        "127.0.0.1:50051",
        pattern=r"^.+:[0-9]{1,5}$",
        description="HOST:PORT to listen on; port 0: any free one",
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
    log: Literal["console", "json"] = Field("console", description="how log lines look")


def load() -> Settings:
    """The settings in the environment. Raises ValueError, with one line for each mistake."""
    try:
        return Settings()
    except ValidationError as error:
        lines = (
            f"CONTACTS_{mistake['loc'][0]}".upper() + f": {mistake['msg']}"
            for mistake in error.errors()
        )
        raise ValueError("\n".join(lines)) from None
