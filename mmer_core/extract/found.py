"""What is known of recordings before they are heard or seen."""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Recording:
    """One utterance, and where it is heard and seen."""

    id: str  # as in utterances.csv
    facts: Mapping[str, str] = field(hash=False)  # columns of utterances.csv that are known
    sound: Path | None = None  # a file with its sound, which may be a video; None: there is none
    sound_span: tuple[float, float] | None = None  # seconds in that file; None: all of it
    video: Path | None = None
    video_span: tuple[float, float] | None = None
    half: str = ""  # "left" or "right" half of the picture, where two people share it; "": all of it


@dataclass(frozen=True)
class Found:
    """The recordings of a source."""

    name: str  # of the corpus, fit for a folder
    recordings: list[Recording]
    told: list[str]  # what was counted, left out, or differs from what is published
    classes: list[str] | None = None  # in their order, where the source fixes them


def below(folder: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    """All files with such an ending, by their path below the folder without it; hidden ones (._x of macOS) are not."""
    found = defaultdict(list)
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(place, name)
            if file.suffix.lower() in endings and not name.startswith("."):
                found[file.relative_to(folder).with_suffix("").as_posix()].append(file)
    return dict(found)
