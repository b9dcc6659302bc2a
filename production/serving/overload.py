"""The exception for a server that is full: security and layers raise it."""


class OverloadedError(Exception):
    """There is no room for another call."""

    def __init__(self, limit: str = "server") -> None:
        """limit is what is full: the server, or the share of a caller."""
        super().__init__(f"the {limit} has too many calls at a time")
        self.limit = limit
