"""Settings that cannot be meant are refused, in one line each."""

import os

import pytest

from production.contacts.settings import Settings
from production.serving import settings
from production.serving.settings_table import table
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("environment", "flags", "message"),
    [
        ({"CLIENT_CAS": "x"}, {}, "CONTACTS_CLIENT_CAS: there is no such setting"),
        ({"METRICS_PORT": "9464"}, {}, "CONTACTS_METRICS_PORT: there is no such setting"),
        ({"DB_SERVICE_HOST": "db"}, {}, "CONTACTS_DB_SERVICE_HOST: there is no such setting"),
        ({"ISSUERS": "[]"}, {"plaintext": True}, "CONTACTS_ISSUERS: Value should have at least 1"),
        ({"ISSUERS": "{"}, {"plaintext": True}, "CONTACTS_ISSUERS: is not JSON: "),
        ({"ISSUERS": "[" * 100_000}, {}, "CONTACTS_ISSUERS: is nested too deeply$"),
        ({"ISSUERS": ""}, {"plaintext": True}, "CONTACTS_ISSUERS: is empty; unset it"),
        ({"ISSUERS_FILE": ""}, {"plaintext": True}, "CONTACTS_ISSUERS_FILE: is empty; unset it"),
        ({"CLIENT_CA": " "}, {}, "CONTACTS_CLIENT_CA: is empty; unset it"),
        ({"API_KEYS": ""}, {}, "CONTACTS_API_KEYS: is empty; unset it"),
        ({"DATABASE_FILE": "/nowhere"}, {}, "^CONTACTS_DATABASE_FILE: /nowhere: No such file or d"),
        ({"DATABASE_FILE": os.devnull}, {}, "^CONTACTS_DATABASE_FILE: /dev/null is empty$"),
        (
            {"DATABASE_FILE": "x", "DATABASE": "y"},
            {},
            "CONTACTS_DATABASE_FILE: CONTACTS_DATABASE is",
        ),
        ({"ADDRESS_FILE": "x"}, {}, "CONTACTS_ADDRESS_FILE: there is no such setting"),
        ({"ISSUERS": '[{"issuer": "a"}]'}, {}, "CONTACTS_ISSUERS: 0.audience: Field required"),
        ({}, {}, "no way to authenticate callers"),
        ({"ADDRESS": "0.0.0.0:1"}, {"plaintext": True}, "CONTACTS_PLAINTEXT: only on 127.0.0.1"),
        ({"ADDRESS": "example.com:1"}, {"plaintext": True}, "CONTACTS_PLAINTEXT: only on"),
        ({"CLIENT_CA": "ca.pem"}, {"plaintext": True}, "are mutually exclusive"),
        ({"PLAINTEXT": "sidecar"}, {}, "callers: set CONTACTS_ISSUERS or CONTACTS_API_KEYS$"),
        ({}, {"plaintext": True, "address": ""}, "CONTACTS_ADDRESS: expected HOST:PORT, "),
        (
            {"HEALTH_ADDRESS": "127.0.0.1:70000"},
            {"plaintext": True},
            "CONTACTS_HEALTH_ADDRESS: exp",
        ),
        ({"METRICS_ADDRESS": "127.0.0.1:50051"}, {"plaintext": True}, "is the address of two serv"),
        (
            {"TRUST_DOMAIN": "a/b"},
            {"plaintext": True},
            "CONTACTS_TRUST_DOMAIN: String should match",
        ),
        ({"GRACE": "-1", "LOG": "loud"}, {"plaintext": True}, "CONTACTS_GRACE: .*\nCONTACTS_LOG: "),
        ({"CONNECTION_AGE": "1e9"}, {"plaintext": True}, "CONTACTS_CONNECTION_AGE: Input should"),
        ({"DRAIN_PAUSE": "inf"}, {"plaintext": True}, "CONTACTS_DRAIN_PAUSE: Input should be l"),
        ({"KEPT_DAYS": "100000000"}, {"plaintext": True}, "CONTACTS_KEPT_DAYS: Input should be l"),
        ({"CHANNELZ_ADDRESS": "[::]:1"}, {"plaintext": True}, "CONTACTS_CHANNELZ_ADDRESS: only on"),
        ({}, {"plaintext": True, "workers": 0}, "CONTACTS_WORKERS: Input should be greater"),
    ],
)
def test_a_mistake_is_said_in_one_line(monkeypatch, environment, flags, message):
    for name, value in environment.items():
        monkeypatch.setenv(f"CONTACTS_{name}", value)

    with pytest.raises(ValueError, match=message):
        settings.load(Settings, **flags)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.0.0.2:1"])
def test_plaintext_is_for_this_machine(address):
    assert settings.load(Settings, plaintext=True, address=address).plaintext


@pytest.mark.parametrize("service", ["CONTACTS", "CONTACTS_DB", "CONTACTS_METRICS_2"])
def test_kubernetes_links_to_services_are_no_misspelt_settings(monkeypatch, service):
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "50051",
        "SERVICE_PORT_GRPC_WEB": "50051",
        "PORT": "tcp://10.0.0.1:50051",
        "PORT_50051_TCP": "tcp://[fd00::1]:50051",
        "PORT_50051_TCP_PROTO": "tcp",
        "PORT_50051_TCP_PORT": "50051",
        "PORT_50051_TCP_ADDR": "fd00::1",
        "PORT_53_UDP": "udp://10.0.0.1:53",
    }
    for name, value in links.items():
        monkeypatch.setenv(f"{service}_{name}", value)

    assert settings.load(Settings, plaintext=True).address == "127.0.0.1:50051"


def test_no_setting_has_the_name_of_a_link():
    """Kubernetes would set it."""
    assert [name for name in Settings.model_fields if name.endswith(("port", "service_host"))] == []


def test_an_empty_variable_is_unset(monkeypatch):
    for name in Settings.model_fields.keys() - Settings.doors:
        monkeypatch.setenv(f"CONTACTS_{name.upper()}", "")
    monkeypatch.setenv("CONTACTS_DATABASE_FILE", "")

    loaded = settings.load(Settings, plaintext=True)
    assert loaded.model_dump() == Settings(plaintext=True).model_dump()


def test_a_secret_may_be_in_a_file(monkeypatch, tmp_path):
    file = tmp_path / "database"
    file.write_text("postgresql+psycopg://me:secret@host/contacts\n")
    monkeypatch.setenv("CONTACTS_DATABASE_FILE", str(file))

    assert settings.load(Settings, plaintext=True).database == file.read_text().strip()


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o604, 1)])
def test_a_secret_in_a_file_that_others_can_read_is_reported(
    monkeypatch, tmp_path, caplog, mode, warnings
):
    file = tmp_path / "secret"
    file.write_text("x")
    file.chmod(mode)
    monkeypatch.setenv("CONTACTS_LOG_SECRET_FILE", str(file))

    settings.load(Settings, plaintext=True).warn_of_exposed_secrets()

    assert caplog.text.count("holds a secret, and others can read it") == warnings


def test_a_proxy_that_ends_tls_makes_plaintext_possible_on_any_address(monkeypatch):
    monkeypatch.setenv("CONTACTS_PLAINTEXT", "sidecar")
    monkeypatch.setenv("CONTACTS_API_KEYS", "keys.json")

    assert settings.load(Settings, address="[::]:50051").plaintext == "sidecar"


def test_the_page_has_the_table_of_all_settings():
    """Print it by `python -m production.contacts.settings`."""
    page = ROOT / "production/operations/settings/README.md"

    wanted = table(Settings.prefix(), Settings.model_fields, Settings.in_files)
    assert wanted in page.read_text()
