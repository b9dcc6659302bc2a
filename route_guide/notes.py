"""Notes left at points, for later visitors. Does not know gRPC."""

from collections import OrderedDict, deque
from threading import Lock

from route_guide.geography import Point

MAX_LENGTH = 1_000
"""In characters."""
NOTES_PER_POINT = 10
MAX_POINTS = 1_000


class NoteBoard:
    """Keeps the newest notes at each of the most recently used points, and forgets older ones.

    It never holds more than MAX_POINTS * NOTES_PER_POINT notes of MAX_LENGTH characters: 40 MB if
    every character takes four bytes. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._notes: OrderedDict[Point, deque[str]] = OrderedDict()

    def leave(self, point: Point, note: str) -> list[str]:
        """Leaves a note at a point; returns the earlier ones there, oldest first.

        Raises ValueError if the note is longer than MAX_LENGTH.
        """
        if len(note) > MAX_LENGTH:
            raise ValueError(
                f"at most {MAX_LENGTH} characters are allowed in a note, got {len(note)}"
            )
        with self._lock:
            notes = self._notes.setdefault(point, deque(maxlen=NOTES_PER_POINT))
            earlier = list(notes)
            notes.append(note)
            self._notes.move_to_end(point)
            if len(self._notes) > MAX_POINTS:
                self._notes.popitem(last=False)
        return earlier
