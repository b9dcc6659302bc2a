"""The domain: the values a person may have, and the crash-safe file."""

import os
import resource
import signal
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protobuf_demo import address_book
from protobuf_demo.addressbook_pb2 import AddressBook, Person
from tests.protobuf_demo import official

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PHONES = st.builds(
    Person.PhoneNumber, number=TEXT, type=st.integers(min_value=-(2**31), max_value=2**31 - 1)
)
PEOPLE = st.builds(
    Person,
    name=TEXT,
    id=st.integers(min_value=-(2**31), max_value=2**31 - 1),
    email=TEXT,
    phones=st.lists(PHONES, max_size=3),
)


@given(st.lists(PEOPLE, max_size=5))
def test_any_address_book_survives_its_bytes(people):
    book = AddressBook(people=people)

    assert address_book.parse(book.SerializeToString()) == book


@given(st.lists(PEOPLE, max_size=5))
def test_the_official_contract_reads_our_bytes_and_we_read_its(people):
    data = AddressBook(people=people).SerializeToString(deterministic=True)

    theirs = official.AddressBook.FromString(data)

    assert theirs.SerializeToString(deterministic=True) == data
    assert [(p.name, p.id, p.email) for p in theirs.people] == [
        (p.name, p.id, p.email) for p in people
    ]
    assert address_book.parse(theirs.SerializeToString()) == AddressBook(people=people)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_address_book_or_a_value_error(data):
    try:
        book = address_book.parse(data)
    except ValueError:
        return
    assert isinstance(book, AddressBook)


def test_people_are_added_in_order(file):
    people = [Person(name="Ada", id=1), Person(name="林徽因", id=2)]

    for person in people:
        address_book.add(file, person)

    assert address_book.read(file) == AddressBook(people=people)
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_a_taken_id_is_refused(file):
    address_book.add(file, Person(name="Ada", id=1))
    before = file.read_bytes()

    with pytest.raises(address_book.DuplicateIdError, match="id 1 is taken"):
        address_book.add(file, Person(name="Grace", id=1))

    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "data",
    [
        b"Dear diary",
        b"\x0a\x05\x0a\x03Ada\x0a\x05\x0a\x03",  # Cut inside the second person.
        b"\x0a\x03\x0a\x01\xff",  # A name that is not UTF-8.
        b"\x10\x01",  # Field 2, which AddressBook does not define.
    ],
)
def test_a_file_that_is_something_else_is_refused_and_left_as_it_was(file, data):
    file.write_bytes(data)

    with pytest.raises(ValueError, match="not an address book"):
        address_book.add(file, Person(name="Ada", id=1))

    assert file.read_bytes() == data
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_what_a_newer_program_wrote_in_a_person_is_kept(file):
    newer = b"\x0a\x0c\x0a\x03Ada\x10\x01\x32\x03new"  # Field 6 of Person.
    file.write_bytes(newer)

    address_book.add(file, Person(name="B", id=2))

    assert file.read_bytes() == newer + b"\x0a\x05\x0a\x01B\x10\x02"


def test_forty_at_once_lose_nobody(file):
    def add(number):
        address_book.add(file, Person(name=f"Guest {number}", id=number))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(add, range(1, 41)))

    assert sorted(person.id for person in address_book.read(file).people) == list(range(1, 41))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(file):
    address_book.add(file, Person(name="Ada", id=1))
    before = file.read_bytes()
    # A process may limit the size of its files; writing past it fails as a full disk does.
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            address_book.add(file, Person(name="x" * 2000, id=2))
        except OSError:
            os._exit(7)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert file.read_bytes() == before
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_the_file_keeps_its_mode_and_a_link_stays_a_link(file):
    address_book.add(file, Person(name="Ada", id=1))
    file.chmod(0o640)
    link = file.parent / "link"
    link.symlink_to(file.name)

    address_book.add(link, Person(name="Grace", id=2))

    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert len(address_book.read(file).people) == 2


def test_a_new_file_is_for_its_owner_only(file):
    old = os.umask(0)
    try:
        address_book.add(file, Person(name="Ada", id=1))
    finally:
        os.umask(old)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_others_cannot_open_the_new_content_before_its_mode_is_set(file, monkeypatch):
    address_book.add(file, Person(name="Ada", id=1))
    file.chmod(0o644)
    modes = []

    def fchmod(descriptor, mode):
        modes.append((stat.S_IMODE(os.fstat(descriptor).st_mode), stat.S_IMODE(mode)))

    monkeypatch.setattr(os, "fchmod", fchmod)
    address_book.add(file, Person(name="Grace", id=2))

    assert modes == [(0o600, 0o644)]


@pytest.mark.parametrize("special", ["/dev/null", "."])
def test_what_is_not_a_regular_file_is_refused(special, tmp_path):
    with pytest.raises(ValueError, match="not a regular file"):
        address_book.add(tmp_path / special, Person(name="Ada", id=1))


@pytest.mark.parametrize("value", ["1", " 7 ", "007", "2147483647"])
def test_an_id_is_a_positive_int32(value):
    assert address_book.to_id(value) == int(value)


@pytest.mark.parametrize("value", ["0", "-1", "2147483648", "1.0", "1_0", "٣", "x", "", "9" * 5000])
def test_anything_else_is_not_an_id(value):
    with pytest.raises(ValueError, match="an id is a whole number"):
        address_book.to_id(value)


@pytest.mark.parametrize("value", ["Ada", "你好", "می‌خواهم", "👩‍👩‍👧", " Ada "])
def test_a_name_may_be_in_any_script(value):
    assert address_book.to_name(value) == value.strip()


@pytest.mark.parametrize(
    "value", ["", "  ", "a\0b", "a\nb", "\x1b[2J", "a\u2028b", "\x85", "\udcff"]
)
def test_a_name_must_be_one_line_of_text(value):
    with pytest.raises(ValueError, match=r"a name may not be empty|not one line of UTF-8 text"):
        address_book.to_name(value)


def test_a_phone_is_a_type_and_a_number():
    assert address_book.to_phone("Work:+1 (555) 0100:7") == Person.PhoneNumber(
        type=Person.WORK, number="+1 (555) 0100:7"
    )


@pytest.mark.parametrize("value", ["boat:1", "home:", "home", ":1", "", "home: "])
def test_anything_else_is_not_a_phone(value):
    with pytest.raises(ValueError, match="a phone is"):
        address_book.to_phone(value)
