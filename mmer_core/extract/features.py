"""Features by name: each a small function from a recording to [T, D], with its modality and its frames a second.

`EXTRACTORS` is the list; a recipe (recipes/*.toml) names one for each modality, and its settings are the arguments of
the function that makes it. To add one, write such a function here or in `encoders`.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from jaxtyping import Float

from mmer_core.errors import CorpusError, MmerError
from mmer_core.extract.batches import Encoder
from mmer_core.extract.found import Recording
from mmer_core.extract.media import sound

RATE = 16_000  # samples a second
WINDOW, HOP = 400, 160  # 25 and 10 ms
LONGEST = 10  # seconds of a recording that the study looks at
TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")  # words with what an apostrophe joins, and each sign by itself


@dataclass(frozen=True)
class Features:
    """One set of features: what corpus.toml says of it, and how it is computed."""

    name: str  # of its folder
    modality: str
    compute: Callable[[Recording], Float[np.ndarray, "T D"]]
    made: Mapping[str, Any] = field(default_factory=dict)  # extractor, version, and what else decides the numbers
    rate: float | None = None  # frames a second; None where a step is a word, or the utterance
    told: Callable[[list[Recording]], list[str]] = lambda recordings: []  # what is to be known of all
    encoder: Encoder | None = None  # for many recordings at a time, on a GPU


EXTRACTORS: dict[str, Callable[..., Features]] = {}


def extractor(make: Callable[..., Features]) -> Callable[..., Features]:
    """Enter a function in the list, under its own name."""
    EXTRACTORS[make.__name__] = make
    return make


def build(modality: str, settings: Mapping[str, Any]) -> Features:
    """The features that a table of a recipe asks for; MmerError if it cannot be had."""
    import mmer_core.extract.encoders  # noqa: F401  # enters its own

    name = settings.get("extractor")
    if not isinstance(name, str) or name not in EXTRACTORS:
        raise MmerError(f"recipe: {modality}: an extractor of {', '.join(EXTRACTORS)}; got {name!r}")
    given = {k: v for k, v in settings.items() if k != "extractor"}
    try:
        inspect.signature(EXTRACTORS[name]).bind(**given)
    except TypeError as error:
        known = ", ".join(inspect.signature(EXTRACTORS[name]).parameters) or "no settings"
        raise MmerError(f"recipe: {modality}: {name} takes {known}; {error} (settings are of a recipe file)") from None
    made = EXTRACTORS[name](**given)
    if made.modality != modality:
        raise MmerError(f"recipe: {name} is of {made.modality}; got it for {modality}")
    return made


@extractor
def mfcc() -> Features:
    """The study's audio: 40 MFCC with first and second derivatives, windows of 25 ms (Hamming) every 10 ms, 10 s."""

    def compute(recording: Recording) -> np.ndarray:
        x = sound(recording, RATE)[: LONGEST * RATE]
        x = np.pad(x, (0, max(0, WINDOW - len(x))))
        spectrum: dict[str, Any] = dict(n_fft=WINDOW, hop_length=HOP, window="hamming", n_mels=64)
        base = librosa.feature.mfcc(y=x, sr=RATE, n_mfcc=40, **spectrum)[:, : LONGEST * RATE // HOP]
        slopes = [librosa.feature.delta(base, width=9, order=order, mode="nearest") for order in (1, 2)]
        return np.concatenate([base, *slopes]).T.astype(np.float32)

    return Features("mfcc", "audio", compute, {"extractor": "mfcc", "version": 1, "sampling_rate": RATE}, RATE / HOP)


@extractor
def prosody() -> Features:
    """Of the whole utterance: mean, deviation and range of log pitch, loudness and zero crossings; and its seconds."""

    def compute(recording: Recording) -> np.ndarray:
        x = sound(recording, RATE)
        x = np.pad(x, (0, max(0, 1024 - len(x))))
        pitch = np.log(librosa.yin(x, fmin=60, fmax=500, sr=RATE, frame_length=1024, hop_length=HOP))
        loudness = librosa.amplitude_to_db(librosa.feature.rms(y=x, frame_length=1024, hop_length=HOP)[0], ref=1.0)
        crossings = librosa.feature.zero_crossing_rate(x, frame_length=1024, hop_length=HOP)[0]
        summary = [f(y) for y in (pitch, loudness, crossings) for f in (np.mean, np.std, np.ptp)]
        return np.array([[*summary, len(x) / RATE]], np.float32)

    return Features("prosody", "audio", compute, {"extractor": "prosody", "version": 1, "sampling_rate": RATE})


def tokens(text: str) -> list[str]:
    """Lower-case words and signs."""
    return TOKEN.findall(text.lower().replace("’", "'"))


def _vectors(words: list[str], vector: Callable[[str], np.ndarray], width: int) -> np.ndarray:
    return np.stack([vector(word) for word in words]) if words else np.zeros((1, width), np.float32)


@extractor
def hash(width: int = 64) -> Features:
    """A vector for each word that depends on its letters alone: it needs no file, and knows no meaning."""
    if type(width) is not int or not 0 < width <= 10_000:
        raise MmerError(f"hash: width is a whole number from 1 to 10000; got {width!r}")

    def vector(word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return np.random.Generator(np.random.PCG64(seed)).standard_normal(width).astype(np.float32)

    def compute(recording: Recording) -> np.ndarray:
        return _vectors(tokens(recording.facts.get("text", "")), vector, width)

    return Features("hash", "text", compute, {"extractor": "hash", "version": 1, "width": width})


@extractor
def glove(file: str) -> Features:
    """A row for each word from a text file of vectors (GloVe's or word2vec's form); words that it lacks are zeros."""
    if not isinstance(file, str):
        raise MmerError(f"glove: file is a path; got {file!r}")
    known, width, digest = _word_vectors(Path(file))

    def compute(recording: Recording) -> np.ndarray:
        nothing = np.zeros(width, np.float32)
        return _vectors(tokens(recording.facts.get("text", "")), lambda word: known.get(word, nothing), width)

    def told(recordings: list[Recording]) -> list[str]:
        every = [word for r in recordings for word in tokens(r.facts.get("text", ""))]
        n, different = sum(word in known for word in every), set(every)
        have = len(different & known.keys())
        return [f"{Path(file).name} has {n} of {len(every)} words ({have} of {len(different)} different ones)."]

    made = {"extractor": "glove", "version": 1, "file": Path(file).name, "digest": digest}
    return Features("glove", "text", compute, made, told=told)


def _word_vectors(file: Path) -> tuple[dict[str, np.ndarray], int, str]:
    """The vectors by word, their width, and a digest of the file; CorpusError for a line of another form."""
    known: dict[str, np.ndarray] = {}
    found, width = hashlib.blake2b(digest_size=8), 0
    try:
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                found.update(line)
                word, *numbers = line.decode("utf-8", errors="replace").rstrip().split(" ")
                if number == 1 and len(numbers) == 1:
                    continue  # word2vec's head: how many, how wide
                width = width or len(numbers)
                x = np.array(numbers[-width:], np.float32)  # a few "words" of GloVe hold blanks
                if len(x) != width or not np.isfinite(x).all():
                    raise CorpusError(f"{file} line {number}", f"a word and {width} numbers", f"{len(numbers)}")
                known.setdefault(" ".join([word, *numbers[:-width]]), x)
    except (OSError, ValueError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(file, "a text file of word vectors, a word and its numbers a line", str(error)) from None
    if not known:
        raise CorpusError(file, "a text file of word vectors, a word and its numbers a line", "none")
    return known, width, found.hexdigest()
