"""Commands for operators, which work on the database instead of serving.

Run it:

    python -m production.contacts_server migrate
"""

import argparse
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from production.contacts import retention
from production.contacts.database import connect
from production.contacts.settings import PROGRAM, for_commands
from production.serving.security.principal import pseudonym
from production.serving.storage.backup import back_up
from production.serving.storage.database import Database

Command = Callable[[Database, argparse.Namespace], None]


def migrate(database: Database, _args: argparse.Namespace) -> None:
    """Bring the tables up to date; the role needs the right to make and change them."""
    print(f"the database has schema version {database.migrate()}")


def backup(database: Database, args: argparse.Namespace) -> None:
    """Copy an SQLite file while it is in use, check the copy, and sync it to disk."""
    if database.kind != "sqlite":
        raise ValueError("use pg_dump for PostgreSQL")
    back_up(Path(make_url(for_commands().database).database or ""), args.file)
    print(f"wrote {args.file}")


def owners(database: Database, args: argparse.Namespace) -> None:
    """List the names of all owners."""
    secret = for_commands().log_secret
    if args.pseudonyms and not secret:
        raise ValueError("--pseudonyms needs the CONTACTS_LOG_SECRET of the servers")
    for owner in retention.owners(database):
        print(f"{pseudonym(owner, secret)}  {owner}" if args.pseudonyms else owner)


def erase(database: Database, args: argparse.Namespace) -> None:
    """Remove all that is stored of an owner."""
    _print_counts(database, args.owner)
    if args.yes:
        retention.erase(database, args.owner)
    print("erased" if args.yes else "nothing was erased; to do it, add --yes")


def rename(database: Database, args: argparse.Namespace) -> None:
    """Give all that is stored of an owner to a new one."""
    _print_counts(database, args.owner)
    if args.yes:
        retention.rename(database, args.owner, args.new)
    print("renamed" if args.yes else "nothing was renamed; to do it, add --yes")


def _print_counts(database: Database, owner: str) -> None:
    counts = retention.count(database, owner)
    print(", ".join(f"{number} {table}" for table, number in counts.items() if table != "owners"))


COMMANDS: dict[str, Command] = {
    "migrate": migrate,
    "backup": backup,
    "owners": owners,
    "erase": erase,
    "rename": rename,
}


def run(arguments: Sequence[str]) -> None:
    """Runs a command. Exits with an error if it fails."""
    args = _parser().parse_args(arguments)
    try:
        with closing(connect(for_commands().database)) as database:
            args.command(database, args)
    except (DBAPIError, OSError, RuntimeError, ValueError, sqlite3.Error) as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")
    except retention.OwnerError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Work on the database that CONTACTS_DATABASE names.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    parsers = {}
    for name, command in COMMANDS.items():
        about = (command.__doc__ or "").rstrip(".")
        parsers[name] = commands.add_parser(name, help=about, description=about)
        parsers[name].set_defaults(command=command)
    parsers["backup"].add_argument("file", type=Path, help="where to write it; is replaced")
    parsers["owners"].add_argument(
        "--pseudonyms", action="store_true", help="with what the log calls each"
    )
    for name in ("erase", "rename"):
        parsers[name].add_argument("owner", type=_owner, help="as `owners` prints it")
        parsers[name].add_argument("--yes", action="store_true", help="do it; else only count")
    parsers["rename"].add_argument("new", type=_owner, help="the new name")
    return parser


def _owner(value: str) -> str:
    """Returns the name as it is stored: authentication.py makes it from a JSON list."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return json.dumps(parsed) if isinstance(parsed, list) else value
