"""Settings that cannot be meant are refused, in one line each."""

import pytest

from production import settings


@pytest.mark.parametrize(
    ("environment", "flags", "message"),
    [
        ({"CLIENT_CAS": "x"}, {}, "CONTACTS_CLIENT_CAS: there is no such setting"),
        ({"ISSUERS": "[]"}, {"plaintext": True}, "CONTACTS_ISSUERS: Value should have at least 1"),
        ({"ISSUERS": "{"}, {"plaintext": True}, "CONTACTS_ISSUERS: Input should be a valid"),
        ({"ISSUERS": '[{"issuer": "a"}]'}, {}, "CONTACTS_ISSUERS: 0.audience: Field required"),
        ({}, {}, "nobody could call"),
        ({"ADDRESS": "0.0.0.0:1"}, {"plaintext": True}, "CONTACTS_PLAINTEXT: only on 127.0.0.1"),
        ({"ADDRESS": "example.com:1"}, {"plaintext": True}, "CONTACTS_PLAINTEXT: only on"),
        ({"CLIENT_CA": "ca.pem"}, {"plaintext": True}, "exclude each other"),
        ({"ADDRESS": "50051"}, {"plaintext": True}, "CONTACTS_ADDRESS: String should match"),
        ({"GRACE": "-1", "LOG": "loud"}, {"plaintext": True}, "CONTACTS_GRACE: .*\nCONTACTS_LOG: "),
        ({"CHANNELZ_ADDRESS": "[::]:1"}, {"plaintext": True}, "CONTACTS_CHANNELZ_ADDRESS: only on"),
        ({}, {"plaintext": True, "workers": 0}, "CONTACTS_WORKERS: Input should be greater"),
    ],
)
def test_a_mistake_is_said_in_one_line(monkeypatch, environment, flags, message):
    for name, value in environment.items():
        monkeypatch.setenv(f"CONTACTS_{name}", value)

    with pytest.raises(ValueError, match=message):
        settings.load(**flags)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.0.0.2:1"])
def test_plaintext_is_for_this_machine(address):
    assert settings.load(plaintext=True, address=address).plaintext
