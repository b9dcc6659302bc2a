"""Parcels, kept in a database. Knows no gRPC.

One table holds them and what happened to them: each row has the position of its newest change, and
what is deleted leaves a row with its id alone, for watchers. Every method blocks, and is safe to
call from any thread.
"""

import uuid
from collections.abc import Iterable, Iterator

from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import Connection, Row, text

from production.serving.resources import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    QuotaError,
)
from production.serving.storage.database import Database
from production.serving.storage.page_tokens import PageTokens
from production.serving.storage.secrets import read_secret
from production.serving.storage.writes import KEPT_CHANGES, Write, begin_write, check_kept
from production.serving.unknown_fields import without
from production.serving.validation import (
    InvalidError,
    Violation,
    id_of,
    page_size_violations,
    raise_for,
    request_id_violations,
    resource_id_violations,
    text_violations,
)
from production.starter.database import TABLES
from production.starter.v1.parcels_pb2 import (
    CreateParcelRequest,
    DeleteParcelRequest,
    ListParcelsRequest,
    ListParcelsResponse,
    Parcel,
    UpdateParcelRequest,
    WatchParcelsResponse,
)

DEFAULT_PAGE, MAX_PAGE = 50, 1_000
MAX_CHANGES = 100
"""Changes read at once for a watcher."""
PATTERN = "parcels/{parcel_id}"
WRITABLE = {"display_name", "description"}
"""Fields that callers write."""
NEVER_CHANGED = {"name", "etag", "create_time", "update_time"}
"""Fields that are ignored in a mask: a caller may send back all that it has read (AIP-203)."""
COLUMNS = ", ".join(TABLES["parcels"])
SELECT = f"SELECT {COLUMNS} FROM parcels WHERE owner = :owner"  # noqa: S608 - our own names.

ParcelRow = Row[tuple[object, ...]]


class Parcels:
    """All owners' parcels."""

    def __init__(self, database: Database, most: int = 10_000) -> None:
        """most is how many one owner may have."""
        self._database = database
        self._most = most
        self._tokens: PageTokens | None = None

    def create(self, owner: str, request: CreateParcelRequest) -> Parcel:
        """Adds a parcel. Raises InvalidError, AlreadyExistsError or QuotaError."""
        raise_for(
            _violations(request.parcel),
            resource_id_violations(request.parcel_id, "parcel_id"),
            request_id_violations(request.request_id),
        )

        with begin_write(self._database, owner) as write:

            def work() -> str:
                parcel_id = request.parcel_id or str(uuid.uuid4())
                if _find(write.connection, owner, parcel_id):
                    raise AlreadyExistsError(f"parcels/{parcel_id}")
                live = f"{SELECT} AND is_deleted = 0 LIMIT :most"
                count = write.run(f"SELECT count(*) AS n FROM ({live}) AS live", most=self._most)  # noqa: S608
                if count and count.n == self._most:
                    raise QuotaError(f"{self._most:,} parcels")
                _save(write, parcel_id, request.parcel, write.now_us)
                return parcel_id

            return _existing(write.connection, owner, write.once(request, work))

    def get(self, owner: str, name: str) -> Parcel:
        """Returns the parcel of a name. Raises InvalidError or NotFoundError."""
        with self._database.read() as connection:
            return _existing(connection, owner, id_of(name, PATTERN))

    def page(self, owner: str, request: ListParcelsRequest) -> ListParcelsResponse:
        """Returns a page, ordered by id. Raises InvalidError."""
        raise_for(page_size_violations(request.page_size))
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        with self._database.read() as connection:
            if not self._tokens:
                self._tokens = PageTokens(read_secret(connection, "page_tokens"))
            after = _last_id(self._tokens, request.page_token, owner)
            rows = connection.execute(
                text(
                    f"{SELECT} AND is_deleted = 0 AND parcel_id > :after"
                    " ORDER BY parcel_id LIMIT :limit"
                ),
                {"owner": owner, "after": after, "limit": size + 1},
            ).all()
        page = ListParcelsResponse(parcels=map(_parcel, rows[:size]))
        if len(rows) > size:
            page.next_page_token = self._tokens.write([rows[size - 1].parcel_id], owner)
        return page

    def update(self, owner: str, request: UpdateParcelRequest) -> Parcel:
        """Changes a parcel. Raises InvalidError, NotFoundError or ConflictError."""
        given = without(request.parcel)
        parcel_id = id_of(given.name, PATTERN, "parcel.name")
        paths = set(request.update_mask.paths) or {field.name for field, _ in given.ListFields()}
        paths -= NEVER_CHANGED
        raise_for(_mask_violations(paths), request_id_violations(request.request_id))

        with begin_write(self._database, owner) as write:

            def work() -> str:
                parcel = _unchanged(write, parcel_id, given.etag)
                FieldMask(paths=paths).MergeMessage(given, parcel, True, True)
                raise_for(_violations(parcel))
                _save(write, parcel_id, parcel, parcel.create_time.ToMicroseconds())
                return parcel_id

            return _existing(write.connection, owner, write.once(request, work))

    def delete(self, owner: str, request: DeleteParcelRequest) -> None:
        """Removes a parcel. Raises InvalidError, NotFoundError or ConflictError."""
        parcel_id = id_of(request.name, PATTERN)
        raise_for(request_id_violations(request.request_id))

        with begin_write(self._database, owner) as write:

            def work() -> str:
                _unchanged(write, parcel_id, request.etag)
                _save(write, parcel_id, Parcel(), write.now_us, is_deleted=1)
                write.run(
                    "DELETE FROM parcels WHERE owner = :owner AND is_deleted = 1"
                    " AND position <= :oldest",
                    oldest=write.position - KEPT_CHANGES,
                )
                return parcel_id

            write.once(request, work)

    def changes(self, owner: str, position: int) -> list[WatchParcelsResponse]:
        """Returns what has changed after a position, in order. Raises PositionExpiredError."""
        statement = text(f"{SELECT} AND position > :position ORDER BY position LIMIT :limit")
        parameters = {"owner": owner, "position": position, "limit": MAX_CHANGES}
        with self._database.read() as connection:
            rows = connection.execute(statement, parameters).all()
        check_kept(self._database, owner, position)
        return [_change(row) for row in rows]


def _violations(parcel: Parcel) -> Iterator[Violation]:
    """Yields what is wrong with the fields that callers write."""
    if not parcel.display_name.strip():
        yield Violation("parcel.display_name", "may not be empty")
    yield from text_violations(parcel.display_name, "parcel.display_name")
    yield from text_violations(parcel.description, "parcel.description")


def _mask_violations(paths: Iterable[str]) -> Iterator[Violation]:
    for path in paths:
        if path not in WRITABLE:
            yield Violation("update_mask", f"cannot change {path[:200]!r}")


def _last_id(tokens: PageTokens, token: str, owner: str) -> str:
    """Returns the id with which the previous page ended. Raises InvalidError."""
    try:
        return tokens.read(token, owner)[0] if token else ""
    except ValueError:
        raise InvalidError(Violation("page_token", "was not issued by ListParcels")) from None


def _find(connection: Connection, owner: str, parcel_id: str) -> Parcel | None:
    query = text(f"{SELECT} AND parcel_id = :parcel_id AND is_deleted = 0")
    row = connection.execute(query, {"owner": owner, "parcel_id": parcel_id}).first()
    return _parcel(row) if row else None


def _existing(connection: Connection, owner: str, parcel_id: str) -> Parcel:
    """Returns the parcel of an id. Raises NotFoundError."""
    parcel = _find(connection, owner, parcel_id)
    if not parcel:
        raise NotFoundError(f"parcels/{parcel_id}")
    return parcel


def _unchanged(write: Write, parcel_id: str, etag: str) -> Parcel:
    """Returns the parcel of an id and etag. Raises as _existing, and ConflictError."""
    parcel = _existing(write.connection, write.owner, parcel_id)
    if etag and etag != parcel.etag:
        raise ConflictError(parcel.name, parcel.etag)
    return parcel


def _save(
    write: Write, parcel_id: str, parcel: Parcel, created_us: int, *, is_deleted: int = 0
) -> None:
    """Writes a row, in place of the one with this id, and records the change."""
    parameters = ", ".join(f":{column}" for column in TABLES["parcels"])
    changes = ", ".join(f"{column} = excluded.{column}" for column in TABLES["parcels"])
    write.run(
        f"INSERT INTO parcels ({COLUMNS}) VALUES ({parameters})"  # noqa: S608
        f" ON CONFLICT (owner, parcel_id) DO UPDATE SET {changes}",
        parcel_id=parcel_id,
        position=write.position,
        display_name=parcel.display_name,
        description=parcel.description,
        created_us=created_us,
        updated_us=write.now_us,
        is_deleted=is_deleted,
    )
    write.advance()


def _parcel(row: ParcelRow) -> Parcel:
    parcel = Parcel(
        name=f"parcels/{row.parcel_id}",
        display_name=row.display_name,
        description=row.description,
        etag=f'"{row.position}"',
    )
    parcel.create_time.FromMicroseconds(row.created_us)
    parcel.update_time.FromMicroseconds(row.updated_us)
    return parcel


def _change(row: ParcelRow) -> WatchParcelsResponse:
    position = str(row.position)
    if row.is_deleted:
        gone = Parcel(name=f"parcels/{row.parcel_id}")
        return WatchParcelsResponse(
            kind=WatchParcelsResponse.KIND_DELETED, parcel=gone, position=position
        )
    return WatchParcelsResponse(
        kind=WatchParcelsResponse.KIND_CHANGED, parcel=_parcel(row), position=position
    )
