"""Fails a database over while a client writes, and counts the acknowledged writes that are lost.

The standby is cut off for a moment, and in that moment the primary dies.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.hosts.failover --replication asynchronous
    GRPC_VERBOSITY=NONE python -m scaling.hosts.failover --replication synchronous
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from scaling.hosts import contacts, database
from scaling.hosts.contacts import Writer
from scaling.hosts.database import Database, wait_for
from scaling.hosts.network import Host, enter, host

TIMEOUT_S = 3.0
BEFORE, WHILE_CUT, AFTER = 100, 50, 100
"""Acknowledged writes before the standby is cut off, while it is, and after the failover."""
REPLICATION = {"asynchronous": "", "synchronous": "*"}
"""The values of synchronous_standby_names: the standbys that a commit waits for."""
STANDBY = "SELECT state, sync_state FROM pg_stat_replication"


def replicate(primary: Database, names: str) -> None:
    """Lets commits wait for these standbys, and waits until that holds."""
    primary.rows(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    primary.rows("SELECT pg_reload_conf()")
    wait_for(primary, STANDBY, ["streaming", "sync" if names else "async"])


def fail_over(writer: Writer, primary: Database, standby: Database) -> list[str]:
    """Kills the primary while the standby is cut off; returns what was acknowledged until then."""
    writer.wait_for(lambda: len(writer.acknowledged) >= BEFORE)
    standby.host.cut()
    cut, failed = len(writer.acknowledged), writer.failed.total()
    writer.wait_for(
        lambda: len(writer.acknowledged) >= cut + WHILE_CUT or writer.failed.total() > failed
    )
    primary.process.kill()
    primary.process.wait()
    standby.host.heal()
    acknowledged = list(writer.acknowledged)  # By now, also what was under way.
    standby.promote()
    return acknowledged


def play(kind: str, hosts: tuple[Host, Host], folder: Path) -> None:
    """Prints the counts of one failover."""
    with ExitStack() as stack:
        primary = stack.enter_context(database.running(hosts[0], folder))
        standby = stack.enter_context(database.running(hosts[1], folder, standby_of=primary))
        replicate(primary, REPLICATION[kind])
        stack.enter_context(contacts.serving(database.url(primary, standby)))
        with Writer(TIMEOUT_S) as writer:
            acknowledged = fail_over(writer, primary, standby)
            promoted = len(writer.acknowledged)
            writer.wait_for(lambda: len(writer.acknowledged) >= promoted + AFTER)
        there = {name for (name,) in standby.rows("SELECT contact_id FROM contacts", database.NAME)}
    lost = [name for name in acknowledged if name not in there]
    later = [name for name in writer.acknowledged[len(acknowledged) :] if name not in there]
    print(f"acknowledged by the old primary  {len(acknowledged)}")
    print(f"of these, on the new primary     {len(acknowledged) - len(lost)}")
    print(f"lost                             {len(lost)}")
    print(f"acknowledged by the new primary  {len(writer.acknowledged) - len(acknowledged)}")
    print(f"of these, lost                   {len(later)}")
    print(f"writes that failed               {writer.failures()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Fail a database over, and count.")
    parser.add_argument("--replication", choices=REPLICATION, default="asynchronous")
    args = parser.parse_args()
    enter("scaling.hosts.failover")
    with (
        tempfile.TemporaryDirectory(prefix="pg-") as folder,
        host("primary") as primary,
        host("standby") as standby,
    ):
        play(args.replication, (primary, standby), Path(folder))


if __name__ == "__main__":
    main()
