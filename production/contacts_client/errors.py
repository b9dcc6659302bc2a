"""The errors of the client's calls."""

from production.calling.errors import CallError


class ContactsError(CallError):
    """A call to ContactService failed."""

    @property
    def etag(self) -> str:
        """The contact's current etag, if it has changed since it was read (ABORTED)."""
        return self.metadata.get("etag", "")


class ClosedError(ContactsError):
    """The client is closed, or was closed during the call."""
