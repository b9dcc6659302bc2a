"""Runs several workers of the server. The server executes it if there is more than one.

Run it:

    python -m production.contacts_server --plaintext --workers 2

It is a module of its own because a process that supervises others must not have loaded gRPC.
"""

from production.contacts.settings import PROGRAM, from_command_line
from production.serving import supervisor


def main() -> None:
    chosen, _ = from_command_line()
    supervisor.run(chosen, PROGRAM)


if __name__ == "__main__":
    main()
