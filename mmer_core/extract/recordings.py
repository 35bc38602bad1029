"""Stub of the interface; the other worker writes this file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Recording:
    """One utterance, and where it is heard and seen."""

    id: str
    facts: Mapping[str, str] = field(hash=False)
    sound: Path | None = None
    sound_span: tuple[float, float] | None = None
    video: Path | None = None
    video_span: tuple[float, float] | None = None
    half: str = ""


@dataclass(frozen=True)
class Found:
    name: str
    recordings: list[Recording]
    told: list[str]
    classes: list[str] | None = None


def find(source, table=None):
    raise NotImplementedError
