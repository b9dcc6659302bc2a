"""Uses the Python client that openapi-python-client has generated into contacts_rest/.

Run it, with the gateway's URL in GATEWAY and a bearer token in TOKEN:

    python client.py
"""

import json
import os
from uuid import uuid4

from contacts_rest import AuthenticatedClient
from contacts_rest.api.contact_service import (
    contact_service_create_contact,
    contact_service_delete_contact,
    contact_service_export_contacts,
    contact_service_get_contact,
    contact_service_import_contacts,
    contact_service_list_contacts,
    contact_service_update_contact,
)
from contacts_rest.models import (
    Contact,
    ContactCreate,
    ContactUpdate,
    ExportContactsLine,
    ImportContactsRequest,
    ImportContactsResponse,
    ListContactsResponse,
    Person,
    Problem,
    WatchContactsLine,
)


def main() -> None:
    client = AuthenticatedClient(base_url=os.environ["GATEWAY"], token=os.environ["TOKEN"])

    # The request id makes it safe to try again.
    contact = contact_service_create_contact.sync(
        client=client, body=ContactCreate(person=Person(name="Ada")), request_id=uuid4()
    )
    assert isinstance(contact, Contact)
    print("created", contact.person.name)
    contact_id = contact.name.removeprefix("contacts/")

    contact = contact_service_get_contact.sync(contact_id, client=client)
    assert isinstance(contact, Contact)
    print("read", contact.person.name)

    # A change is made only if nobody else has made one since.
    changed = contact_service_update_contact.sync(
        contact_id,
        client=client,
        body=ContactUpdate(person=Person(email="ada@example.com")),
        if_match=contact.etag,
    )
    assert isinstance(changed, Contact)
    print("updated", changed.person.name, changed.person.email)
    stale = contact_service_update_contact.sync(
        contact_id,
        client=client,
        body=ContactUpdate(person=Person(email="other@example.com")),
        if_match=contact.etag,
    )
    assert isinstance(stale, Problem)
    print("refused", stale.status, stale.reason)

    imported = contact_service_import_contacts.sync(
        client=client,
        body=ImportContactsRequest(people=[Person(name="Grace")], finish=True),
    )
    assert isinstance(imported, ImportContactsResponse)
    print("imported", imported.contact_count)

    page = contact_service_list_contacts.sync(client=client, page_size=10)
    assert isinstance(page, ListContactsResponse)
    print("listed", *(each.person.name for each in page.contacts))

    # The generated function reads the whole stream.
    text = contact_service_export_contacts.sync(client=client)
    assert isinstance(text, str)
    exported = [ExportContactsLine.from_dict(json.loads(line)) for line in text.splitlines()]
    names = sorted(each.person.name for line in exported for each in line.result.contacts)
    print("exported", *names)

    # A watch never ends, so httpx, below the generated code, reads it line by line.
    with client.get_httpx_client().stream("GET", "/v1/contacts:watch") as watch:
        lines = (WatchContactsLine.from_dict(json.loads(line)) for line in watch.iter_lines())
        print("watch", next(lines).result.kind.value)
        contact_service_delete_contact.sync(contact_id, client=client)
        print("watch", next(lines).result.kind.value)

    gone = contact_service_get_contact.sync(contact_id, client=client)
    assert isinstance(gone, Problem)
    print("error", gone.status, gone.code)

    invalid = contact_service_create_contact.sync(
        client=client, body=ContactCreate(person=Person(name=" "))
    )
    assert isinstance(invalid, Problem)
    print("error", invalid.status, *(each.field for each in invalid.violations))


if __name__ == "__main__":
    main()
