"""What the machine thought of a picture that it keeps, written into the JPEG itself, and the list of kept pictures.

The note is a comment segment (COM, ITU-T T.81 B.2.4.5), so that it is encrypted, sent and deleted with its picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from myrvm_core.errors import StorageError
from myrvm_core.evidence import Evidence
from myrvm_core.verdict import Verdict

MARK = b"myrvm "  # tells our comment from those of others
START, COMMENT, APPLICATION, SCAN = b"\xff\xd8", 0xFE, range(0xE0, 0xF0), 0xDA
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame; the three are other tables
NOT_SURE = "not_sure"


class Kind(str, Enum):
    """Why a picture is kept."""

    REFUSED = "refused"
    UNSURE = "unsure"
    DISPUTED = "disputed"


class Note(BaseModel):
    """What was thought of the item: `box` is x_min, y_min, x_max, y_max, px; without an item it is None."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str = ""
    class_name: str = ""
    score: float = Field(default=0.0, ge=0.0, le=1.0)
    box: tuple[float, float, float, float] | None = None
    model: str = ""


@dataclass(frozen=True)
class KeptPicture:
    """A picture that is there; `kept_at` is s since the epoch."""

    name: str
    kind: Kind
    kept_at: float
    note: Note


def note_of_verdict(verdict: Verdict) -> Note:
    """The note for a picture that this verdict is about."""
    box, model = verdict.box, verdict.model
    return Note(
        reason=verdict.reason.name.lower(),
        class_name=verdict.class_name,
        score=min(max(verdict.score, 0.0), 1.0),
        box=(box.x_min, box.y_min, box.x_max, box.y_max) if verdict.class_name else None,
        model=f"{model.name}@{model.version}" if model.name else "",
    )


def with_note(jpeg: bytes, note: Note) -> bytes:
    """The picture with a note in it; as it is where it is no JPEG."""
    place = len(START)
    for marker, begin, end in _segments(jpeg):
        if marker in APPLICATION:
            place = end  # JFIF and Exif want to be first
        elif begin >= place:
            break
    else:
        return jpeg
    text = MARK + note.model_dump_json(exclude_defaults=True).encode()
    return b"".join((jpeg[:place], bytes((0xFF, COMMENT)), (len(text) + 2).to_bytes(2, "big"), text, jpeg[place:]))


def note_in(jpeg: bytes) -> Note:
    """The note of a picture, an empty one where it has none."""
    for marker, begin, end in _segments(jpeg):
        text = jpeg[begin + 4 : end]
        if marker == COMMENT and text.startswith(MARK):
            try:
                return Note.model_validate_json(text[len(MARK) :])
            except ValidationError:
                return Note()
    return Note()


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Height and width, px.

    Raises:
        StorageError: this is no JPEG.
    """
    for marker, begin, _ in _segments(jpeg):
        if marker in FRAMES:
            return int.from_bytes(jpeg[begin + 5 : begin + 7], "big"), int.from_bytes(
                jpeg[begin + 7 : begin + 9], "big"
            )
    raise StorageError("a kept picture is no JPEG: it has no start of a frame")


def _segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment up to the picture's data; ends early where it is no JPEG."""
    place = len(START)
    while jpeg.startswith(START) and place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        marker, length = jpeg[place + 1], int.from_bytes(jpeg[place + 2 : place + 4], "big")
        end = place + 2 + length
        if length < 2 or end > len(jpeg):
            return
        yield marker, place, end
        if marker == SCAN:
            return
        place = end


class KeptPictures:
    """The kept pictures of a machine, by the kinds of the data loop; one thread uses it at a time.

    Args:
        data: the data folder.
        key: of encrypted pictures, None: there is none.
    """

    def __init__(self, data: Path, key: bytes | None) -> None:
        self._refused = Evidence(data / "refused", 0, key)
        self._disputed = Evidence(data / "unresolved", 0, key)

    def list(self, kinds: Sequence[Kind] = tuple(Kind), limit: int | None = None) -> list[KeptPicture]:
        """The newest first.

        Args:
            kinds: that are wanted.
            limit: so many at most.

        Raises:
            StorageError: the folder, or a picture in it, cannot be read.
        """
        try:
            there = [(at_s, name, self._refused) for name, at_s in self._refused.kept()]
            there += [(at_s, name, self._disputed) for name, at_s in self._disputed.kept()]
        except OSError as error:
            raise StorageError(f"pictures cannot be read: {error}") from error
        found: list[KeptPicture] = []
        for at_s, name, evidence in sorted(there, key=lambda one: one[0], reverse=True):
            kind = self._kind(name, evidence)
            if limit is not None and len(found) >= limit:
                break
            if kind in kinds and (jpeg := evidence.find(name)) is not None:
                found.append(KeptPicture(name, kind, at_s, note_in(jpeg)))
        return found

    def jpeg(self, picture: KeptPicture) -> bytes | None:
        """The picture itself, None where it is gone meanwhile. Errors as in `list`."""
        return (self._disputed if picture.kind is Kind.DISPUTED else self._refused).find(picture.name)

    def _kind(self, name: str, evidence: Evidence) -> Kind:
        if evidence is self._disputed:
            return Kind.DISPUTED
        return Kind.UNSURE if name.endswith(f"-{NOT_SURE}") else Kind.REFUSED


def as_json(pictures: Sequence[KeptPicture]) -> str:
    """The list for a page: name, kind, kept_at (s since the epoch), reason, class_name, score, box, model of each."""
    rows = [
        {"name": one.name, "kind": one.kind.value, "kept_at": one.kept_at, **one.note.model_dump()} for one in pictures
    ]
    return json.dumps(rows, indent=1)
