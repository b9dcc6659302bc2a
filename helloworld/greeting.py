"""Builds greetings. Knows no gRPC, so both servers share it and a test needs no network."""

MAX_NAME_LENGTH = 100
"""The longest name, in characters."""


def greet(name: str) -> str:
    """Returns the greeting for name.

    Raises ValueError if name is blank or longer than MAX_NAME_LENGTH.
    """
    if not name.strip():
        raise ValueError("name is empty")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"name is too long: at most {MAX_NAME_LENGTH} characters are allowed, got {len(name)}"
        )
    return f"Hello, {name}!"
