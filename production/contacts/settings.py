"""Reads the settings, from environment variables that begin with CONTACTS_ and from flags.

Run it, and it prints their table:

    python -m production.contacts.settings
"""

import argparse
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from production.contacts.access import ACCESS, TRUST_DOMAIN
from production.contacts.quota import NORMAL
from production.serving import settings
from production.serving.settings import Bytes, Url
from production.serving.settings_table import table

PROGRAM = "production.contacts_server"


class Settings(settings.Settings):
    """The settings of any service, with defaults of our own."""

    model_config = SettingsConfigDict(env_prefix="CONTACTS_")
    known_scopes = ACCESS.known_scopes

    trust_domain: str = Field(
        TRUST_DOMAIN,
        pattern=settings.DOMAIN,
        description="SPIFFE trust domain of client certificates",
    )
    audience: str = Field(
        "https://contacts.example.com", description="what signatures are made for: this service"
    )
    max_contacts: int = Field(
        NORMAL.contacts, ge=1, description="contacts that one owner may store"
    )
    max_contact_bytes: Bytes = Field(
        NORMAL.bytes, ge=1, description="bytes that the people in them may take"
    )
    kept_days: Annotated[int, "days"] = Field(
        7, ge=1, le=3_650, description="for which changes are kept for watchers"
    )
    database: Url = Field("sqlite:///build/contacts.db", description="SQLAlchemy's URL")


def from_command_line() -> tuple[Settings, argparse.Namespace]:
    """Returns the settings and the flags. Exits with an error if they are invalid."""
    description = f"Serve ContactService, or work on its database: {PROGRAM} migrate --help."
    return settings.from_command_line(Settings, PROGRAM, description)


def for_commands() -> Settings:
    """Returns the settings of a program that serves nobody. Raises ValueError as load does."""
    return settings.load(Settings, plaintext=True, address="127.0.0.1:0", client_ca=None)


if __name__ == "__main__":
    print(table(Settings.prefix(), Settings.model_fields, Settings.in_files))
