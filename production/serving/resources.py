"""What can go wrong with a resource of an owner. layers/resource_errors.py maps it to statuses."""


class NotFoundError(Exception):
    """The owner does not have this resource; the message is its name."""


class AlreadyExistsError(Exception):
    """The owner already has this resource; the message is its name."""


class ConflictError(Exception):
    """The resource has changed since the caller read it."""

    def __init__(self, name: str, etag: str) -> None:
        super().__init__(name)
        self.etag = etag


class QuotaError(Exception):
    """The owner has stored as much as it may; the message says what."""


class PositionExpiredError(Exception):
    """Changes after this position are no longer kept: list, then start a new watch."""
