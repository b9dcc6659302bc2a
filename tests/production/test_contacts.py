"""The domain and its storage, on both databases."""

import base64
import io
import json
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from production.contacts import contacts as module
from production.contacts.changes import Changes
from production.contacts.contacts import Contacts
from production.contacts.database import connect
from production.contacts.import_buffer import Import, gathering
from production.serving.resources import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    PositionExpiredError,
)
from production.serving.validation import InvalidError
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ImportContactsRequest,
    ListContactsRequest,
    UpdateContactRequest,
    WatchContactsResponse,
)
from protobuf_demo.addressbook_pb2 import Person

ME, OTHER = "me", "somebody else"


def person(name="Ada", **fields):
    return Person(name=name, **fields)


def create(contacts, name="Ada", owner=ME, **fields):
    request = CreateContactRequest(contact=Contact(person=person(name)), **fields)
    return contacts.create(owner, request)


def names(contacts, owner=ME, **fields):
    """All names of a list, page after page."""
    found, request = [], ListContactsRequest(**fields)
    while True:
        page = contacts.page(owner, request)
        found += [contact.person.name for contact in page.contacts]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def violations(raised):
    return [tuple(violation) for violation in raised.value.violations]


def test_a_contact_is_kept_as_it_was_given(contacts):
    given = person("林徽因", id=-7, email="a%_b@example.org")
    given.phones.add(number="1", type=Person.WORK)
    given.last_updated.seconds = -1

    created = contacts.create(ME, CreateContactRequest(contact=Contact(person=given)))

    assert created.person == given
    assert str(uuid.UUID(created.name.removeprefix("contacts/"))) in created.name
    assert created.etag == '"1"'
    assert created.create_time == created.update_time
    assert contacts.get(ME, created.name) == created


def test_the_number_of_violations_is_limited():
    people = [Person()] * 100_000

    with gathering() as gathered, pytest.raises(InvalidError) as raised:
        gathered.add(ImportContactsRequest(people=people))

    assert len(raised.value.violations) == 100


def test_a_caller_may_choose_the_id_once(contacts):
    assert create(contacts, contact_id="ada-1").name == "contacts/ada-1"

    with pytest.raises(AlreadyExistsError, match="contacts/ada-1"):
        create(contacts, contact_id="ada-1")

    assert create(contacts, contact_id="ada-1", owner=OTHER).name == "contacts/ada-1"


def test_another_owners_contact_does_not_exist(contacts, changes):
    name = create(contacts).name

    with pytest.raises(NotFoundError):
        contacts.get(OTHER, name)
    with pytest.raises(NotFoundError):
        contacts.update(OTHER, UpdateContactRequest(contact=Contact(name=name, person=person())))
    with pytest.raises(NotFoundError):
        contacts.delete(OTHER, DeleteContactRequest(name=name))
    assert names(contacts, OTHER) == []
    assert list(contacts.export(OTHER)) == []
    assert changes.position(OTHER) == 0
    assert changes.after(OTHER, 0) == []


def test_all_violations_are_reported_at_once(contacts):
    wrong = person(" \0", email="x" * 201, phones=[Person.PhoneNumber()] * 21)

    with pytest.raises(InvalidError) as raised:
        contacts.create(
            ME,
            CreateContactRequest(contact=Contact(person=wrong), contact_id="A", request_id="1"),
        )

    assert violations(raised)[:3] == [
        ("contact.person.name", "may not contain control characters"),
        ("contact.person.email", "must have at most 200 characters, got 201"),
        ("contact.person.phones", "must have at most 20 entries, got 21"),
    ]
    assert [field for field, _ in violations(raised)[3:]] == [
        *(f"contact.person.phones[{index}].number" for index in range(20)),
        "contact_id",
        "request_id",
    ]
    assert names(contacts) == []


@pytest.mark.parametrize(
    "request_id",
    [
        "0" * 32,
        "+" + "1" * 31,
        "0x" + "1" * 30,
        " {}",
        "{}\n",
        "{{{}}}",
        "urn:uuid:{}",
        "{}0",
        "٦d8d1a5e-9f55-4f6b-8f0c-2a4e6c1b7d90",
        "6d8d1a5e9-f55-4f6b-8f0c-2a4e6c1b7d90",
        "6d8d1a5g-9f55-4f6b-8f0c-2a4e6c1b7d90",
        "6d8d1a5e–9f55–4f6b–8f0c–2a4e6c1b7d90",
    ],
)
def test_a_request_id_is_a_uuid_in_its_one_form(contacts, request_id):
    good = "6d8d1a5e-9f55-4f6b-8f0c-2a4e6c1b7d90"

    with pytest.raises(InvalidError) as raised:
        create(contacts, request_id=request_id.format(good))

    assert [field for field, _ in violations(raised)] == ["request_id"]
    assert create(contacts, request_id=good).name


@pytest.mark.parametrize(
    "name", ["", "contacts/", "ada", "contacts/a/b", "contacts/A", "x/y", "\0"]
)
def test_a_name_that_can_be_none_is_refused(contacts, name):
    with pytest.raises(InvalidError) as raised:
        contacts.get(ME, name)

    assert violations(raised) == [("name", "must be contacts/{contact_id}")]


@pytest.mark.parametrize("page_size", [0, 1, 2, 3, 1000, 2**31 - 1])
def test_pages_give_every_contact_once_in_order_of_names(contacts, page_size):
    given = ["b", "B", "a", "Ä", "ä", "中", "𝒳", "z", "A", "_", "%"]
    for name in random.sample(given, len(given)):
        create(contacts, name)

    found = names(contacts, page_size=page_size)

    assert sorted(found) == sorted(given)
    folded = [name.casefold() for name in found]
    assert folded == sorted(folded)


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["%x", "Ada", "ADELE", "a_b", "Straße", "e\u0301t\u00e9", "中国", "\U0010ffff!"]),
        ("a", ["Ada", "ADELE", "a_b"]),
        ("AD", ["Ada", "ADELE"]),
        ("a_", ["a_b"]),
        ("%", ["%x"]),
        ("STRASSE", ["Straße"]),
        ("\u00e9", ["e\u0301t\u00e9"]),
        ("中", ["中国"]),
        ("\U0010ffff", ["\U0010ffff!"]),
        ("zz", []),
        ("\ud7ff", []),
    ],
)
def test_a_prefix_is_plain_text_in_any_case_and_any_normal_form(contacts, prefix, found):
    for name in ["Ada", "ADELE", "a_b", "%x", "Straße", "e\u0301t\u00e9", "中国", "\U0010ffff!"]:
        create(contacts, name)

    assert sorted(names(contacts, name_prefix=prefix)) == sorted(found)
    assert sorted(names(contacts, name_prefix=prefix, page_size=1)) == sorted(found)


def token(*content):
    """As the release before wrote them."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(
    "made_up",
    ["x", "AAAA", token(), token("", "a"), token("", "ada", "ada-1"),
     token("other", "a", "b"), token("", 1, 2), "Ä",
     token("", "a\0", "b"), token("", "\ud800", "b"), "=" * 50, token("a" * 30_000),
     base64.b64encode(b"[" * 20_000).decode()],
)  # fmt: skip
def test_a_page_token_made_up_is_refused(contacts, made_up):
    with pytest.raises(InvalidError) as raised:
        contacts.page(ME, ListContactsRequest(page_token=made_up))

    assert [field for field, _ in violations(raised)] == ["page_token"]


def test_a_page_token_belongs_to_its_owner_and_prefix(contacts):
    for name in "abc":
        create(contacts, name)
    create(contacts, "secret", OTHER)
    page_token = contacts.page(ME, ListContactsRequest(page_size=1)).next_page_token

    with pytest.raises(InvalidError):
        contacts.page(ME, ListContactsRequest(page_token=page_token, name_prefix="a"))
    with pytest.raises(InvalidError):
        contacts.page(OTHER, ListContactsRequest(page_token=page_token))
    assert names(contacts, page_token=page_token) == ["b", "c"]


def test_a_page_token_hides_the_name_and_is_good_in_every_process(contacts, url):
    for name in ("Ada Lovelace", "Grace Hopper"):
        create(contacts, name)
    page_token = contacts.page(ME, ListContactsRequest(page_size=1)).next_page_token

    opaque = base64.urlsafe_b64decode(page_token)
    assert b"ada" not in opaque.lower()
    another = connect(url)
    assert names(Contacts(another), page_token=page_token) == ["Grace Hopper"]
    another.close()
    for index in range(len(opaque)):
        changed = bytearray(opaque)
        changed[index] ^= 1
        with pytest.raises(InvalidError):
            names(contacts, page_token=base64.urlsafe_b64encode(changed).decode())


def test_a_page_and_a_chunk_have_a_largest_size_in_bytes(contacts, monkeypatch):
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 300)
    for number in range(7):
        create(contacts, f"{number}" + "x" * 150)

    page = contacts.page(ME, ListContactsRequest())

    assert len(page.contacts) == 1
    assert len(names(contacts)) == 7
    assert [len(batch) for batch in contacts.export(ME)] == [1] * 7


def test_a_negative_page_size_is_refused(contacts):
    with pytest.raises(InvalidError) as raised:
        contacts.page(ME, ListContactsRequest(page_size=-1))

    assert violations(raised) == [("page_size", "may not be negative")]


def update(contacts, name, wanted, *paths, etag="", owner=ME, request_id=""):
    request = UpdateContactRequest(
        contact=Contact(name=name, person=wanted, etag=etag), request_id=request_id
    )
    request.update_mask.paths.extend(paths)
    return contacts.update(owner, request)


def test_an_update_changes_what_the_mask_names(contacts):
    before = create(contacts)
    wanted = person("Grace", email="g@example.org", phones=[Person.PhoneNumber(number="1")])

    after = update(contacts, before.name, wanted, "person.email", "person.phones")
    assert after.person == person("Ada", email="g@example.org", phones=wanted.phones)
    assert after.etag != before.etag
    assert after.create_time == before.create_time
    assert contacts.get(ME, before.name) == after

    after = update(contacts, before.name, person("Ada"), "person.phones")
    assert after.person == person("Ada", email="g@example.org")
    assert update(contacts, before.name, wanted).person == wanted
    assert update(contacts, before.name, person("Bo"), "person").person == person("Bo")
    assert names(contacts, name_prefix="bo") == ["Bo"]


def test_a_mask_may_name_all_that_was_read_and_changes_the_person_alone(contacts):
    before = create(contacts)
    read = ["name", "person.email", "etag", "create_time", "update_time"]

    after = update(contacts, before.name, person("x", email="g@example.org"), *read)
    assert after.person == person("Ada", email="g@example.org")
    assert (after.name, after.create_time) == (before.name, before.create_time)

    # Nothing that can be changed is not everything.
    assert update(contacts, before.name, person("x"), "etag").person == after.person


@pytest.mark.parametrize("path", ["names", "person.shoe", "", "person.", "person.name.x"])
def test_a_mask_names_only_what_can_be_changed(contacts, path):
    before = create(contacts)

    with pytest.raises(InvalidError) as raised:
        update(contacts, before.name, person(), path)

    assert violations(raised) == [("update_mask", f"cannot change {path!r}")]
    assert contacts.get(ME, before.name) == before


def test_an_update_may_not_leave_a_contact_invalid(contacts):
    before = create(contacts)

    with pytest.raises(InvalidError) as raised:
        update(contacts, before.name, person("x", email="a\nb"), "person.email")

    assert violations(raised) == [("contact.person.email", "may not contain control characters")]
    assert contacts.get(ME, before.name) == before


def test_an_old_etag_is_a_conflict_that_tells_the_current_one(contacts):
    old = create(contacts)
    current = update(contacts, old.name, person("Grace"))

    with pytest.raises(ConflictError) as raised:
        update(contacts, old.name, person("Bo"), etag=old.etag)
    assert raised.value.etag == current.etag
    with pytest.raises(ConflictError):
        contacts.delete(ME, DeleteContactRequest(name=old.name, etag=old.etag))
    with pytest.raises(ConflictError):
        update(contacts, old.name, person("Bo"), etag="made up")

    assert contacts.get(ME, old.name) == current
    update(contacts, old.name, person("Bo"), etag=current.etag)


def test_an_etag_is_not_given_again_after_delete_and_create(contacts):
    first = create(contacts, contact_id="same")
    contacts.delete(ME, DeleteContactRequest(name=first.name))

    assert create(contacts, contact_id="same").etag != first.etag


def test_of_concurrent_updates_with_one_etag_one_wins(contacts):
    created = create(contacts)

    def change(number):
        try:
            return update(contacts, created.name, person(str(number)), etag=created.etag)
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [winner for winner in pool.map(change, range(8)) if winner]

    assert [contacts.get(ME, created.name)] == winners


def test_concurrent_read_modify_writes_lose_nothing(url):
    """Eight workers, each with a database of its own as in eight processes, count together."""
    database = connect(url)
    database.migrate()
    name = create(Contacts(database), "0").name
    database.close()

    def count(_):
        database = connect(url)
        contacts = Contacts(database)
        done = 0
        while done < 10:
            read = contacts.get(ME, name)
            try:
                update(contacts, name, person(str(int(read.person.name) + 1)), etag=read.etag)
                done += 1
            except ConflictError:
                pass
        database.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))

    database = connect(url)
    assert Contacts(database).get(ME, name).person.name == "80"
    database.close()


def test_a_deleted_contact_is_gone(contacts):
    name = create(contacts).name

    contacts.delete(ME, DeleteContactRequest(name=name))

    with pytest.raises(NotFoundError):
        contacts.get(ME, name)
    with pytest.raises(NotFoundError):
        contacts.delete(ME, DeleteContactRequest(name=name))


def test_a_repeated_request_id_gives_the_first_answer(contacts, url):
    key = str(uuid.uuid4())
    first = create(contacts, request_id=key)
    update(contacts, first.name, person("Grace"))

    assert create(contacts, request_id=key) == first
    assert create(contacts, request_id=key.upper()) == first
    restarted = connect(url)
    assert create(Contacts(restarted), request_id=key) == first
    restarted.close()
    assert names(contacts) == ["Grace"]


def test_a_request_id_covers_updates_and_deletes(contacts):
    name = create(contacts).name
    keys = [str(uuid.uuid4()) for _ in range(2)]

    first = update(contacts, name, person("Grace"), request_id=keys[0])
    update(contacts, name, person("Bo"))
    assert update(contacts, name, person("Grace"), request_id=keys[0]) == first
    assert names(contacts) == ["Bo"]

    request = DeleteContactRequest(name=name, request_id=keys[1])
    assert contacts.delete(ME, request) == contacts.delete(ME, request)


def test_a_request_id_used_for_another_request_is_refused(contacts):
    key = str(uuid.uuid4())
    created = create(contacts, request_id=key)

    with pytest.raises(InvalidError) as raised:
        create(contacts, "Grace", request_id=key)
    assert violations(raised) == [("request_id", "was used for another request")]
    with pytest.raises(InvalidError):
        contacts.delete(ME, DeleteContactRequest(name=created.name, request_id=key))
    assert create(contacts, "Grace", OTHER, request_id=key).person.name == "Grace"


def test_a_failed_request_is_not_remembered(contacts):
    key = str(uuid.uuid4())
    create(contacts, contact_id="taken")

    with pytest.raises(AlreadyExistsError):
        create(contacts, contact_id="taken", request_id=key)
    contacts.delete(ME, DeleteContactRequest(name="contacts/taken"))

    assert create(contacts, contact_id="taken", request_id=key).name == "contacts/taken"


def test_an_import_adds_all_or_nothing(contacts, changes):
    people = [person(f"Guest {number}", id=number) for number in range(1500)]
    with gathering() as gathered:
        gathered.add(ImportContactsRequest(people=people, finish=True))
        assert contacts.import_people(ME, gathered).contact_count == 1500
    assert sorted(names(contacts, page_size=1000)) == sorted(p.name for p in people)
    exported = [contact.person for batch in contacts.export(ME) for contact in batch]
    assert sorted(p.id for p in exported) == list(range(1500))

    class CutOff(Import):
        def people(self):
            yield person("one more")
            raise RuntimeError("cut off")

    cut_off = CutOff(io.BytesIO())
    cut_off.add(ImportContactsRequest(finish=True))
    with pytest.raises(RuntimeError):
        contacts.import_people(ME, cut_off)
    assert len(names(contacts, page_size=1000)) == 1500
    assert changes.position(ME) == 1500


def test_every_change_is_noted_in_order(contacts, changes):
    created = create(contacts)
    updated = update(contacts, created.name, person("Grace"))
    gone = create(contacts, "Gone")
    seen = changes.after(ME, 0)
    contacts.delete(ME, DeleteContactRequest(name=gone.name))
    seen += changes.after(ME, 3)

    kind = WatchContactsResponse
    assert seen == [
        kind(kind=kind.KIND_CREATED, contact=created, position="1"),
        kind(kind=kind.KIND_UPDATED, contact=updated, position="2"),
        kind(kind=kind.KIND_CREATED, contact=gone, position="3"),
        kind(kind=kind.KIND_DELETED, contact=Contact(name=gone.name), position="4"),
    ]
    assert changes.after(ME, 0) == [seen[0], seen[1], seen[3]]
    assert [change.position for change in changes.after(ME, 1)] == ["2", "4"]
    assert [change.position for change in changes.after(ME, 0, limit=1)] == ["1"]
    assert (changes.position(ME), changes.position(ME, "2")) == (4, 2)


@pytest.mark.parametrize("made_up", ["1", "-1", "x", "9" * 30, "1.0", "٣"])
def test_a_position_made_up_is_refused(changes, made_up):
    with pytest.raises(InvalidError) as raised:
        changes.position(ME, made_up)

    assert violations(raised) == [("position", "was not issued by WatchContacts")]


def test_changes_are_kept_for_a_while(contacts, changes, monkeypatch):
    for place in ("transaction", "changes"):
        monkeypatch.setattr(f"production.contacts.{place}.KEPT_CHANGES", 3)
    for number in range(5):
        create(contacts, str(number))

    assert [change.position for change in changes.after(ME, 2)] == ["3", "4", "5"]
    assert changes.position(ME, "2") == 2
    with pytest.raises(PositionExpiredError):
        changes.position(ME, "1")
    with pytest.raises(PositionExpiredError):
        changes.after(ME, 1)


def test_a_watcher_that_goes_by_positions_misses_nothing(url):
    """Writers of one owner on databases of their own; a watcher reads while they write."""
    database = connect(url)
    database.migrate()
    changes, seen, done = Changes(database), [], threading.Event()

    def watch():
        after = 0
        while not (done.is_set() and after == changes.position(ME)):
            for change in changes.after(ME, after):
                after = int(change.position)
                seen.append(change.contact.name)

    def write(_):
        own = connect(url)
        made = [create(Contacts(own), str(number)).name for number in range(20)]
        own.close()
        return made

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        made = [name for names in pool.map(write, range(4)) for name in names]
    done.set()
    watcher.join()

    assert sorted(seen) == sorted(made)
    database.close()
