"""What a greeting is. No gRPC here, so both servers share it and a test needs no network."""

MAX_NAME_LENGTH = 100
"""The longest name, in characters."""


def greet(name: str) -> str:
    """The greeting for name.

    Raises ValueError when name is blank or longer than MAX_NAME_LENGTH.
    """
    if not name.strip():
        raise ValueError("name is empty")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"name has {len(name)} characters, {MAX_NAME_LENGTH} are allowed")
    return f"Hello, {name}!"
