"""Moves calls to a new version step by step, and takes it back at the first error.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.xds.canary

Three times: with a version that works, one that fails, and one that is killed on the way.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration

from production.development.programs import AbsentError
from protos.echo.v1.echo_pb2 import EchoRequest
from scaling.balancing.callers import Callers, Outcome
from scaling.xds.scene import Edits, Program, Scene, scene, wait_until

SHARES = (5, 20, 50, 100)
"""Of 100 calls. A real one stays at each for minutes or hours."""
CALLS = 400
"""At each share, until the next one."""
SETTLED = 100
"""Calls after a change that do not count: some have begun before it."""
REQUEST = EchoRequest(delay=Duration(nanos=5_000_000))
TITLES = {5: "5 %", 20: "20 %", 50: "50 %", 100: "100 %", 0: "taken back"}


class Seen(NamedTuple):
    """What became of the calls while the canary had a share."""

    share: int
    by: Counter[str]

    def __str__(self) -> str:
        ok = self.by["stable"], self.by["canary"]
        columns = (*ok, self.by.total() - sum(ok))
        return f"  {TITLES[self.share]:12}" + "".join(f"{count:8}" for count in columns)


def weights(share: int) -> Edits:
    """Returns the edits of echo.yaml that give the canary a share of 100 calls."""
    return {
        "stable, weight: 80": f"stable, weight: {100 - share}",
        "canary, weight: 0": f"canary, weight: {share}",
    }


def move(
    scene: Scene, callers: Callers, breaks: Callable[[Program], object], at: int
) -> Iterator[Seen]:
    """Gives the canary one share after the other and, as soon as a call is lost, none.

    breaks is called with the canary once it has the share at.
    """
    for share in SHARES:
        started = time.monotonic()
        scene.apply(weights(share))
        if share == at:
            breaks(scene.servers["canary"])
        if watch(callers, started):
            yield Seen(share, by(callers.outcomes()[-CALLS:]))
        else:
            scene.apply(weights(0))
            yield Seen(share, by(callers.outcomes(started)))
            wait_until(lambda: set(by(callers.outcomes()[-CALLS:])) == {"stable"})
            yield Seen(0, by(callers.outcomes()[-CALLS:]))
            return


def watch(callers: Callers, started: float) -> bool:
    """Waits for the calls of a step; returns early, and False, if one is lost."""
    arrived = time.monotonic()

    def is_lost() -> bool:
        return any(each.is_lost for each in callers.outcomes(started))

    wait_until(lambda: is_lost() or len(callers.outcomes(arrived)) >= SETTLED + CALLS)
    return not is_lost()


def by(outcomes: list[Outcome]) -> Counter[str]:
    """Returns how many calls each server has answered, or failed with each code."""
    return Counter(each.by for each in outcomes)


def cases(scene: Scene, callers: Callers) -> Iterator[tuple[str, Iterator[Seen]]]:
    """Yields what to print for a new version that works, that fails, and that is killed."""
    yield "works", move(scene, callers, lambda _: None, 0)
    scene.apply(weights(0))
    yield "fails", move(scene, callers, lambda canary: canary.send(signal.SIGUSR2), SHARES[0])
    scene.servers["canary"].replace()
    yield "is killed at 50 %", move(scene, callers, lambda canary: canary.kill(), 50)


def main() -> None:
    argparse.ArgumentParser(description="Move calls to a new version.").parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with scene() as found, Callers(found.channels["caller"], REQUEST) as callers:
            print(f"the new version{'stable':>8}{'canary':>8}{'lost':>8}")
            for title, steps in cases(found, callers):
                print(title)
                for seen in steps:
                    print(seen, flush=True)
    except (AbsentError, RuntimeError, TimeoutError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
