"""Several processes on one port: they share it, are replaced, and end together."""

import asyncio
import os
import signal
import threading
from contextlib import suppress

import grpc
import psutil
import pytest

from production.contacts_client import ContactsClient
from production.v1.contacts_pb2 import Contact
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import WAIT, python, until, wait_until

SERVER = "production.contacts_server"
pytestmark = pytest.mark.slow


@pytest.fixture
def launch(spawn_server, tmp_path):
    """launch() starts a supervisor with two workers; gives its process and address."""

    def launch(**changes):
        environment = os.environ | {
            "TMPDIR": str(tmp_path),  # What a killed supervisor leaves.
            "CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db",
            "CONTACTS_DRAIN_PAUSE": "0.2",
            "CONTACTS_LOG": "json",
        }
        flags = "--plaintext", "--workers", "2", "--address", "127.0.0.1:0"
        return spawn_server("-m", SERVER, *flags, env=environment | changes)

    return launch


class Log:
    """Reads what a process logs while it runs: a full pipe would lose lines."""

    def __init__(self, process):
        self.lines = []
        self._file = process.stderr
        threading.Thread(target=self._read).start()

    def _read(self):
        with suppress(ValueError):  # The test ends, and closes the file.
            for line in self._file:
                self.lines.append(line)

    def count(self, event):
        return sum(f'"event": "{event}"' in line for line in self.lines)


def workers(process):
    return {child.pid for child in psutil.Process(process.pid).children()}


def gone(pids):
    return not any(map(psutil.pid_exists, pids))


def under_load(run_async, address, disturb):
    """Calls all the time while disturb, a coroutine function, works; returns how many calls."""

    async def work():
        calls, going = 0, True

        async def load(client):
            nonlocal calls
            while going:
                contact = await client.create(Contact(person=Person(name="Ada")))
                await client.get(contact.name)
                calls += 2

        async def more():
            await until(lambda enough=calls + 40: calls >= enough, loads)

        async with ContactsClient(address, None) as client:
            loads = [asyncio.create_task(load(client)) for _ in range(4)]
            await more()
            await disturb(more)
            await more()
            going = False
            await asyncio.gather(*loads)  # Raises what any call raised.
        return calls

    return run_async(work())


def test_a_supervisor_has_no_grpc():
    """A process that has loaded gRPC should start no others by fork."""
    program = "import sys, production.serving.supervisor; sys.exit('grpc' in sys.modules)"

    assert python("-c", program).returncode == 0


def test_workers_that_are_killed_are_started_again_and_no_call_is_lost(launch, run_async):
    process, address = launch()
    log, first = Log(process), workers(process)
    assert len(first) == 2

    async def kill(more):
        for number, pid in enumerate(first, 1):
            os.kill(pid, signal.SIGKILL)
            while log.count("worker serves") < 2 + number:
                await more()

    assert under_load(run_async, address, kill) > 100
    wait_until(lambda: len(workers(process) - first) == 2)


def test_sighup_replaces_all_workers_and_no_call_is_lost(launch, run_async):
    process, address = launch()
    first = workers(process)
    Log(process)

    async def hang_up(more):
        process.send_signal(signal.SIGHUP)
        while workers(process) & first:
            await more()

    assert under_load(run_async, address, hang_up) > 100
    wait_until(lambda: len(workers(process)) == 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_workers(launch, number):
    process, _ = launch()
    pids = workers(process)

    process.send_signal(number)
    _, errors = process.communicate(timeout=WAIT)

    assert process.returncode == 0
    assert gone(pids)
    assert errors.count('"event": "stopped"') == 2
    assert "Traceback" not in errors


def test_a_second_signal_ends_workers_that_do_not_end(launch):
    """A watch holds a worker for its grace; nobody has to wait for that."""
    process, address = launch(CONTACTS_DRAIN_PAUSE="60")
    pids = workers(process)
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(WAIT)

    process.send_signal(signal.SIGTERM)
    # The workers say that they drain before anybody presses again.
    log = Log(process)
    wait_until(lambda: log.count("draining") == 2)
    process.send_signal(signal.SIGTERM)

    process.wait(WAIT)
    assert gone(pids)
    channel.close()


def test_a_second_signal_ends_also_a_worker_that_hangs_while_it_is_replaced(launch):
    process, _ = launch()
    log, first = Log(process), workers(process)
    for pid in first:
        os.kill(pid, signal.SIGSTOP)
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: log.count("worker replaced") == 1)

    process.send_signal(signal.SIGTERM)
    wait_until(lambda: log.count("draining") == 1)
    process.send_signal(signal.SIGTERM)

    process.wait(WAIT)
    assert gone(first)


def test_workers_end_when_their_supervisor_is_killed(launch):
    process, _ = launch()
    pids = workers(process)

    process.kill()

    wait_until(lambda: gone(pids))


def test_a_port_that_is_taken_is_said_and_nobody_shares_it(launch):
    _, address = launch()

    second = python("-m", SERVER, "--plaintext", "--workers", "2", "--address", address)

    assert second.returncode == 1
    assert f"error: {address}: Address already in use" in second.stderr.splitlines()


def test_workers_that_cannot_start_are_not_started_for_ever(launch):
    process, _ = launch(CONTACTS_DATABASE="sqlite:////nowhere/contacts.db")

    _, errors = process.communicate(timeout=WAIT)

    assert process.returncode == 1
    assert "unable to open database file" in errors


def test_a_replacement_that_cannot_start_leaves_the_old_ones(launch, tmp_path):
    process, _ = launch()
    first = workers(process)
    for file in tmp_path.glob("contacts.db*"):
        file.rename(tmp_path / f"away-{file.name}")
    (tmp_path / "contacts.db").mkdir()

    process.send_signal(signal.SIGHUP)
    log = Log(process)
    wait_until(lambda: log.count("a new worker cannot serve; the old ones stay"))

    assert workers(process) == first
