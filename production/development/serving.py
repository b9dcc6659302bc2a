"""Serves until Ctrl-C or SIGTERM: the ending of chapters 2 and 3, in one place from here on.

Their servers keep a copy each, because those steps are part of their lesson.
"""

import signal
import sys
from collections.abc import Callable, Mapping

import grpc

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def serve_until_signal(
    start: Callable[[str], tuple[grpc.Server, int]],
    address: str,
    grace: float,
    *,
    before_stop: Callable[[], object] = lambda: None,
    on: Mapping[signal.Signals, Callable[[], object]] | None = None,
) -> None:
    """Starts a server, prints its address, and stops it on SIGINT or SIGTERM.

    Calls in flight have grace seconds to finish. A second signal ends the process at once. The
    signals in on do not stop the server: their functions are called. Exits with an error if the
    server does not start.
    """
    on = on or {}
    # Block the signals before any thread starts, so that only sigwait, below, receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | on.keys())
    try:
        server, port = start(address)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {address.rpartition(':')[0]}:{port}", flush=True)
    while (received := signal.sigwait(STOP_SIGNALS | on.keys())) not in STOP_SIGNALS:
        on[signal.Signals(received)]()
    # In this order: a second Ctrl-C between the two would be a KeyboardInterrupt otherwise.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    before_stop()
    server.stop(grace).wait(grace + 1)  # Bounded, so that a broken client cannot keep us.
