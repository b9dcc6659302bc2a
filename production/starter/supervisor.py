"""Runs several workers of the server. The server executes it if there is more than one.

Run it:

    python -m production.starter.parcels_server --plaintext --workers 2

It is a module of its own because a process that supervises others must not have loaded gRPC.
"""

from production.serving import supervisor
from production.starter.settings import PROGRAM, from_command_line


def main() -> None:
    chosen, _ = from_command_line()
    supervisor.run(chosen, PROGRAM)


if __name__ == "__main__":
    main()
