"""Reads the settings, from variables that begin with PARCELS_ and from flags."""

import argparse

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from production.serving import settings
from production.serving.settings import Url
from production.starter.access import ACCESS, TRUST_DOMAIN

PROGRAM = "production.starter.parcels_server"


class Settings(settings.Settings):
    """The settings of any service, with defaults of our own."""

    model_config = SettingsConfigDict(env_prefix="PARCELS_")
    known_scopes = ACCESS.known_scopes

    trust_domain: str = Field(
        TRUST_DOMAIN,
        pattern=settings.DOMAIN,
        description="SPIFFE trust domain of client certificates",
    )
    audience: str = Field(
        "https://parcels.example.com", description="what signatures are made for: this service"
    )
    database: Url = Field("sqlite:///build/parcels.db", description="SQLAlchemy's URL")
    max_parcels: int = Field(10_000, ge=1, description="parcels that one owner may store")


def from_command_line() -> tuple[Settings, argparse.Namespace]:
    """Returns the settings and the flags. Exits with an error if they are invalid."""
    description = f"Serve ParcelService, or make its tables: {PROGRAM} migrate."
    return settings.from_command_line(Settings, PROGRAM, description)
