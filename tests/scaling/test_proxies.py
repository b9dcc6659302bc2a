"""What each way of balancing spreads and loses: the table of scaling/proxies, asserted."""

import os

import pytest

from production.development import certificates
from production.development.programs import INSTALL, AbsentError
from scaling.proxies import compare, rolling_restart
from scaling.proxies.compare import outcome
from scaling.proxies.proxy import ENGINES, render, split
from scaling.proxies.ways import WAYS
from tests.conftest import absent, python


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    certificates.make(folder)
    return folder


def tried(title, certs):
    """The outcome of a way. Skips when its proxy is absent, unless nothing may be."""
    try:
        return outcome(next(way for way in WAYS if way.title == title), certs)
    except AbsentError as error:
        absent(error)


@pytest.mark.slow
@pytest.mark.parametrize("title", ["client, round_robin", "Envoy", "nginx", "HAProxy"])
def test_calls_are_spread_and_calls_in_flight_on_a_dead_backend_are_lost_and_not_run_twice(
    title, certs
):
    seen = tried(title, certs)

    assert sum(seen.spread) == compare.CALLS
    assert max(seen.spread) - min(seen.spread) <= 4
    assert seen.killed_lost == seen.killed_in_flight > 0
    assert seen.run_twice == 0
    # Without health checks a call may arrive in the instant of `server.stop()`.
    assert seen.drained_lost <= (2 if title in {"nginx", "HAProxy"} else 0)


@pytest.mark.slow
@pytest.mark.parametrize("title", ["Envoy, retry_on: reset", "HAProxy, retry all"])
def test_a_proxy_that_is_configured_to_retries_calls_that_had_begun(title, certs):
    seen = tried(title, certs)

    assert seen.run_twice > 0
    assert seen.killed_lost < seen.killed_in_flight


@pytest.mark.slow
def test_nginx_retries_nothing_however_it_is_configured(certs):
    seen = tried("nginx, non_idempotent", certs)

    assert (seen.run_twice, seen.killed_lost) == (0, seen.killed_in_flight)


@pytest.mark.slow
def test_a_balancer_of_connections_pins_a_client_to_a_backend(certs):
    seen = tried("TCP", certs)

    assert seen.spread == [compare.CALLS, 0, 0]
    assert seen.killed_lost == seen.killed_in_flight == compare.IN_FLIGHT


@pytest.mark.slow
def test_connections_that_end_of_age_are_spread(certs):
    seen = tried("TCP, max age 0.2 s", certs)

    assert min(seen.spread) > 0


@pytest.mark.slow
def test_a_rolling_restart_loses_no_calls_of_clients_and_proxies_that_check_health():
    drained, killed, missing = rolling_restart.run()

    if os.environ.get("TOUR_REQUIRE") == "all":
        assert missing == {}
    for way in {"client, round_robin", "Envoy"} - missing.keys():
        assert (way, dict(drained[way].lost)) == (way, {})
    for way, loss in drained.items():
        # The instant of three stops, for each caller, and nothing else.
        assert (way, loss.lost.keys() - {"CANCELLED"}) == (way, set())
        assert loss.lost.total() <= 3 * rolling_restart.CALLERS
        assert loss.calls > 100
    assert sum(loss.lost.total() for loss in killed.values()) > 0


def test_the_program_of_every_proxy_can_be_installed():
    assert {engine.program for engine in ENGINES.values()} <= INSTALL.keys()


def test_a_line_for_a_backend_is_repeated_for_each():
    server = "  server ${BACKEND_NAME} ${BACKEND_ADDRESS} # ${BACKEND_HOST} ${BACKEND_PORT}\n"
    template = "# ${BACKEND_HOST}\nlisten ${PORT}\n" + server

    assert render(template, [("a", 1), ("::1", 2)], PORT=7) == (
        "# ${BACKEND_HOST}\nlisten 7\n  server b1 a:1 # a 1\n  server b2 [::1]:2 # ::1 2\n"
    )


def test_addresses_are_read():
    assert split("localhost:1, [::1]:2") == [("localhost", 1), ("::1", 2)]


@pytest.mark.parametrize("wrong", ["", "localhost", "localhost:", ":1", "a:70000", "a:1,", "a:x"])
def test_bad_addresses_are_refused(wrong):
    ended = python("-m", "scaling.proxies.proxy", "envoy", "--backends", wrong)

    assert ended.returncode == 2
    assert "expected HOST:PORT" in ended.stderr


def test_a_proxy_without_certificates_says_so(tmp_path):
    ended = python("-m", "scaling.proxies.proxy", "envoy", "--backends=a:1", f"--certs={tmp_path}")

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "server.pem" in ended.stderr or "envoy (make engines)" in ended.stderr
