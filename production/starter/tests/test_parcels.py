"""The rules of parcels, on each kind of database, without a server."""

import threading
import uuid

import pytest

from production.serving.resources import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    PositionExpiredError,
    QuotaError,
)
from production.serving.storage import writes
from production.serving.storage.writes import position_to_watch
from production.serving.validation import InvalidError
from production.starter import parcels as module
from production.starter.database import TABLES, connect, prepare
from production.starter.parcels import Parcels
from production.starter.v1.parcels_pb2 import (
    CreateParcelRequest,
    DeleteParcelRequest,
    ListParcelsRequest,
    Parcel,
    UpdateParcelRequest,
    WatchParcelsResponse,
)

ME, OTHER = "me", "other"
CHANGED, DELETED = WatchParcelsResponse.KIND_CHANGED, WatchParcelsResponse.KIND_DELETED


@pytest.fixture
def database(migrated):
    database = connect(migrated)
    yield database
    database.close()


@pytest.fixture
def parcels(database):
    return Parcels(database, most=20)


def create(parcels, display_name="Any", parcel_id="", owner=ME, **more):
    parcel = Parcel(display_name=display_name)
    return parcels.create(owner, CreateParcelRequest(parcel=parcel, parcel_id=parcel_id, **more))


def update(parcels, parcel, *paths, **more):
    request = UpdateParcelRequest(parcel=parcel, **more)
    request.update_mask.paths.extend(paths)
    return parcels.update(ME, request)


def delete(parcels, parcel, **more):
    return parcels.delete(ME, DeleteParcelRequest(name=parcel.name, **more))


def listed(parcels, owner=ME, **request):
    """The names on all pages."""
    names, token = [], ""
    while True:
        page = parcels.page(owner, ListParcelsRequest(page_token=token, **request))
        names += [parcel.name for parcel in page.parcels]
        token = page.next_page_token
        if not token:
            return names


def test_a_parcel_is_what_was_created(parcels):
    created = create(parcels, "Ada's", "abcd-1")

    assert (created.name, created.display_name) == ("parcels/abcd-1", "Ada's")
    assert created.create_time == created.update_time
    assert parcels.get(ME, "parcels/abcd-1") == created


def test_the_tables_have_the_columns_that_the_statements_use(database):
    prepare(database)
    database.check(TABLES, "")


def test_an_id_is_taken_once_and_free_after_a_deletion(parcels):
    created = create(parcels, parcel_id="abcd-1")
    with pytest.raises(AlreadyExistsError, match="parcels/abcd-1"):
        create(parcels, parcel_id="abcd-1")
    delete(parcels, created)

    assert create(parcels, "again", "abcd-1").display_name == "again"


def test_nobody_sees_the_parcels_of_another(parcels):
    name = create(parcels).name

    assert listed(parcels, OTHER) == []
    with pytest.raises(NotFoundError):
        parcels.get(OTHER, name)
    with pytest.raises(NotFoundError):
        parcels.delete(OTHER, DeleteParcelRequest(name=name))


def test_all_mistakes_of_a_request_are_found(parcels):
    with pytest.raises(InvalidError) as raised:
        create(parcels, " ", "A", request_id="x")

    assert [violation.field for violation in raised.value.violations] == [
        "parcel.display_name",
        "parcel_id",
        "request_id",
    ]


@pytest.mark.parametrize("name", ["", "parcels/", "others/abcd-1", "parcels/ABCD"])
def test_other_names_are_refused(parcels, name):
    with pytest.raises(InvalidError, match=r"parcels/\{parcel_id\}"):
        parcels.get(ME, name)


def test_pages_cover_the_list_once_in_order(parcels):
    names = sorted(create(parcels).name for _ in range(5))
    create(parcels, owner=OTHER)

    assert listed(parcels) == listed(parcels, page_size=2) == names
    with pytest.raises(InvalidError, match="page_size"):
        listed(parcels, page_size=-1)


def test_a_page_token_is_its_owners(parcels):
    for owner in (ME, ME, OTHER):
        create(parcels, owner=owner)
    token = parcels.page(ME, ListParcelsRequest(page_size=1)).next_page_token

    for owner, wrong in ((OTHER, token), (ME, "x"), (ME, token[:-8])):
        with pytest.raises(InvalidError, match="page_token"):
            parcels.page(owner, ListParcelsRequest(page_token=wrong))


def test_an_update_changes_what_its_mask_names(parcels):
    created = create(parcels, "before")
    given = Parcel(name=created.name, display_name="after", description="more")

    assert update(parcels, given, "description").display_name == "before"
    assert update(parcels, given).display_name == "after"
    assert update(parcels, Parcel(name=created.name), "description").description == ""
    with pytest.raises(InvalidError, match="update_mask"):
        update(parcels, given, "owner")
    with pytest.raises(InvalidError, match="display_name"):
        update(parcels, Parcel(name=created.name), "display_name")


def test_of_two_changes_from_one_state_one_wins(parcels):
    before = create(parcels, "before")
    after = update(parcels, Parcel(name=before.name, etag=before.etag, display_name="after"))

    for change in (update, lambda parcels, parcel: delete(parcels, parcel, etag=parcel.etag)):
        with pytest.raises(ConflictError) as raised:
            change(parcels, before)
        assert raised.value.etag == after.etag


def test_writers_at_the_same_time_lose_no_change(parcels):
    name = create(parcels, "0").name

    def count():
        done = 0
        while done < 5:
            parcel = parcels.get(ME, name)
            parcel.display_name = str(int(parcel.display_name) + 1)
            try:
                update(parcels, parcel, "display_name")
                done += 1
            except ConflictError:
                pass

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert parcels.get(ME, name).display_name == "20"


def test_a_request_that_is_sent_again_is_carried_out_once(parcels):
    ids = [str(uuid.uuid4()) for _ in range(3)]
    created = create(parcels, request_id=ids[0])
    given = Parcel(name=created.name, etag=created.etag, display_name="after")
    updated = update(parcels, given, request_id=ids[1])

    assert create(parcels, request_id=ids[0]) == updated
    assert update(parcels, given, request_id=ids[1].upper()) == updated
    with pytest.raises(InvalidError, match="was used for another request"):
        create(parcels, "another", request_id=ids[0])
    for _ in range(2):
        delete(parcels, created, request_id=ids[2])
    with pytest.raises(NotFoundError):
        create(parcels, request_id=ids[0])
    assert listed(parcels) == []


def test_an_owner_has_a_quota(parcels):
    names = [create(parcels).name for _ in range(20)]

    with pytest.raises(QuotaError, match="20 parcels"):
        create(parcels)
    create(parcels, owner=OTHER)
    delete(parcels, Parcel(name=names[0]))
    create(parcels)


def test_a_watcher_sees_each_parcel_as_it_is(parcels, database):
    start = position_to_watch(database, ME, "")
    first, second = create(parcels, "first"), create(parcels, "second")
    create(parcels, owner=OTHER)
    update(parcels, Parcel(name=first.name, display_name="changed"))
    delete(parcels, second)

    changes = parcels.changes(ME, start)
    assert [(change.kind, change.parcel.name) for change in changes] == [
        (CHANGED, first.name),
        (DELETED, second.name),
    ]
    assert changes[0].parcel.display_name == "changed"
    assert changes[1].parcel == Parcel(name=second.name)
    assert parcels.changes(ME, int(changes[0].position)) == changes[1:]
    assert position_to_watch(database, ME, "") == int(changes[1].position)


def test_nothing_but_the_id_is_left_of_a_deleted_parcel(parcels, database):
    delete(parcels, create(parcels, "a secret"))

    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM parcels").mappings().all()
        requests = connection.exec_driver_sql("SELECT * FROM requests").mappings().all()
    assert rows[0]["is_deleted"] == 1
    assert "a secret" not in f"{rows}{requests}"


def test_a_watcher_that_was_away_for_too_long_hears_of_it(parcels, database, monkeypatch):
    for used in (writes, module):
        monkeypatch.setattr(used, "KEPT_CHANGES", 3)
    delete(parcels, create(parcels))
    for _ in range(3):
        delete(parcels, create(parcels))

    with pytest.raises(PositionExpiredError):
        parcels.changes(ME, 1)
    assert [change.kind for change in parcels.changes(ME, 5)] == [DELETED, DELETED]
    with pytest.raises(InvalidError, match="position"):
        position_to_watch(database, ME, "1000")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM parcels").scalar_one() <= 3
