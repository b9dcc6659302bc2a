"""Notes that people leave at points, for whoever comes by later. Knows no gRPC."""

from collections import OrderedDict, deque
from threading import Lock

from route_guide.geography import Point

MAX_LENGTH = 1_000
"""The longest note, in characters."""
NOTES_PER_POINT = 10
MAX_POINTS = 1_000


class NoteBoard:
    """Keeps the newest notes at each of the points used last; older ones are forgotten.

    However many people write for however long, it holds at most MAX_POINTS * NOTES_PER_POINT notes
    of MAX_LENGTH characters: 40 MB where every character takes four bytes. Safe for threads.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._notes: OrderedDict[Point, deque[str]] = OrderedDict()

    def leave(self, point: Point, note: str) -> list[str]:
        """Leaves a note at a point; returns those left there earlier, oldest first.

        Raises ValueError when the note is longer than MAX_LENGTH.
        """
        if len(note) > MAX_LENGTH:
            raise ValueError(f"note has {len(note)} characters, {MAX_LENGTH} are allowed")
        with self._lock:
            notes = self._notes.setdefault(point, deque(maxlen=NOTES_PER_POINT))
            earlier = list(notes)
            notes.append(note)
            self._notes.move_to_end(point)
            if len(self._notes) > MAX_POINTS:
                self._notes.popitem(last=False)
        return earlier
