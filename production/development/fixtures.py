"""Fixtures of pytest for the tests of any service: conftest.py at the root loads them."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

import pytest
import structlog
from sqlalchemy import create_engine, text

from production.development.postgresql import running
from production.development.programs import AbsentError

T = TypeVar("T")
RunAsync = Callable[[Coroutine[Any, Any, T]], T]
WAIT = 60
"""Seconds that anything may take."""


def absent(what: object) -> NoReturn:
    """Skips the test, because this machine lacks something; fails it if nothing may be absent."""
    if os.environ.get("TOUR_REQUIRE") == "all":
        pytest.fail(f"absent: {what}", pytrace=False)
    pytest.skip(f"absent: {what}")


@pytest.fixture(scope="session")
def run_async() -> Iterator[RunAsync[Any]]:
    """run_async(coroutine) gives its result. One event loop for all: grpc.aio wants no second."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def log_to_logging() -> None:
    """Log lines go where pytest collects them; a print would race with its capture of stdout."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL of our own, with {} for a database's name."""
    try:
        with running() as url:
            yield url
    except AbsentError as error:
        absent(error)


def new_database(postgresql: str) -> str:
    """Returns the URL of a new, empty database of PostgreSQL."""
    name = f"test_{os.urandom(8).hex()}"
    admin = create_engine(postgresql.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return postgresql.format(name)


@pytest.fixture
def postgresql_url(postgresql: str) -> Iterator[str]:
    """The URL of a new, empty database of PostgreSQL."""
    yield new_database(postgresql)
    gc.collect()  # A connection that was left open fails this test, not a later one.
