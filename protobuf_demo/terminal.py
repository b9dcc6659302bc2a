"""Prints text that strangers wrote, on any terminal, and so that it cannot steer the terminal."""

import codecs
import os
import re
import sys
import unicodedata
from collections.abc import Callable

STEERING = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # Control characters: new line, escape sequences.
    r"\u2028\u2029"  # Line and paragraph separator.
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # They change the direction of writing.
    r"\ud800-\udfff]"  # Halves of characters, which UTF-8 cannot encode.
)
NOT_ASCII = re.compile(r"[^\x20-\x7e]")


class OutputError(Exception):
    """Standard output cannot be written: the disk is full, for example."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")


def is_utf8() -> bool:
    """Returns whether standard output can show any character."""
    return sys.stdout is not None and codecs.lookup(sys.stdout.encoding).name == "utf-8"


def as_python(character: str) -> str:
    r"""Returns a character as Python source escapes it: \x1b or \u202e."""
    return ascii(character)[1:-1]


def escaped(text: str, escape: Callable[[str], str] = as_python) -> str:
    """Returns text without what could steer the terminal.

    On a terminal that is not UTF-8, everything outside ASCII is escaped, too.
    """
    unsafe = STEERING if is_utf8() else NOT_ASCII
    return unsafe.sub(lambda match: escape(match[0]), text)


def show(text: str) -> None:
    """Prints text at once. Raises OutputError."""
    try:
        print(text, flush=True)
    except OSError as error:
        discard_output()
        raise OutputError(error) from None


def discard_output() -> None:
    """Sends standard output nowhere: Python would try to write the rest again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def width(text: str) -> int:
    """Returns how many columns text takes: two for a Chinese character, none for an accent."""
    return sum(
        0
        if unicodedata.combining(character)
        else 1 + (unicodedata.east_asian_width(character) in {"W", "F"})
        for character in text
    )


def cut(text: str, columns: int) -> str:
    """Returns text, its end replaced by three dots if it is wider than a number of columns."""
    if width(text) <= columns:
        return text
    text = text[: columns - 3]
    while width(text) > columns - 3:
        text = text[:-1]
    return f"{text}..."


def pad(text: str, columns: int) -> str:
    """Returns text with spaces behind it, so that it takes a number of columns."""
    return text + " " * (columns - width(text))
