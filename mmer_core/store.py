"""Writing a store: the one way by which any source of utterances becomes a corpus.

`write_store` goes once through the utterances of a `Source`. Each is checked, its lengths are settled, and its content
is hashed; what was not seen before is written at once, so that no corpus has to fit into memory.
"""

import contextlib
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np

from mmer_core.corpus import HOLDS, PARTS, Corpus, check_range, digest, load_array, open_store, write_description
from mmer_core.errors import CorpusError

CHUNK = 64  # utterances read at a time when a whole corpus is gone through
DTYPES = {"tokens": np.int32, "text": np.float32, "video": np.float32, "audio": np.float32}  # in a store
EMPTY = {"text": "text is padding only, taken as one pad token", "audio": "audio length 0, taken as one frame"}
BEYOND = {m: f"{m} length beyond the array, cut to it" for m in ("audio", "video", "text")}
Places = Mapping[tuple[int, str], Sequence[int]]  # (fold, part): rows of the corpus


@dataclass(frozen=True)
class Utterance:
    """One utterance as a source finds it; it may come again in another place."""

    id: str  # such as "fold01/train/12"
    places: Sequence[tuple[int, str]]  # fold and part, such as [(1, "train")]
    label: int
    lengths: Mapping[str, int]  # of each modality: valid time steps, as the files say; 0 of video leaves it out
    arrays: Mapping[str, np.ndarray]  # text [T, D] or tokens [T], video and audio [T, D]; others are kept, not hashed
    files: Mapping[str, object] = field(default_factory=dict)  # by array: what errors name, in place of the id
    row: int = 0  # where it stands in these files
    facts: Mapping[str, Any] = field(default_factory=dict)  # what corpus.json notes of every row, besides the id


class Source:
    """A reader of one format. When it is made it may map files and check their heads; `utterances` reads them."""

    facts: Mapping[str, Any]  # what corpus.json notes of the corpus: name, source, synthetic, classes, words
    folds: Sequence[int]
    embedding: np.ndarray | None = None  # [V, D] float32, the vectors of tokens

    def utterances(self) -> Iterator[Utterance]:
        raise NotImplementedError

    def digests(self, rows: list[bytes]) -> list[bytes]:
        """What the fingerprint is made of, besides the folds."""
        return rows if self.embedding is None else [*rows, digest(self.embedding)]

    def findings(self, counts: list[str], overlaps: list[str]) -> list[str]:
        """What a reader of results has to know of this corpus, in sentences."""
        return [*counts, *overlaps]


def write_store(source: Source, path: str | Path) -> Corpus:
    """Write all utterances of a source into a new store, and open it.

    CorpusError if something is at `path` already, or the source is not what it should be. Nothing is left then.
    """
    with new_store(path) as folder:
        with contextlib.ExitStack() as files:
            intake = _Intake(source, lambda name: files.enter_context(open(folder / f"{name}.npy", "wb")))
            for utterance in source.utterances():
                intake.take(utterance)
            for name in intake.files:
                intake.write_head(name, len(intake.rows))
        if source.embedding is not None:
            np.save(folder / "embedding.npy", source.embedding)
        facts = {**source.facts, **intake.facts, "dropped": intake.dropped, "findings": intake.findings()}
        finish_store(folder, source.digests(list(intake.rows)), intake.places, facts)
        open_store(folder)  # checks it: no store appears that contradicts itself
    return open_store(path)


@contextlib.contextmanager
def new_store(path: str | Path) -> Iterator[Path]:
    """A scratch folder that becomes the store at `path` when the block ends well, and vanishes when it does not."""
    path = Path(path).resolve()
    if path.exists():
        raise CorpusError(path, "a place that is free for a new store", "something there already")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as scratch:
        os.chmod(scratch, 0o755)
        try:
            yield Path(scratch)
            os.replace(scratch, path)
        except OSError as error:
            raise CorpusError(path, "a free place with room for a new store", str(error)) from error


class _Intake:
    """The utterances of a source on their way into a store."""

    def __init__(self, source: Source, new_file: Callable[[str], BinaryIO]):
        self.source, self.new_file = source, new_file
        self.files: dict[str, tuple[BinaryIO, np.ndarray]] = {}  # with the first row of each
        self.form: tuple = ()  # of the first utterance
        self.rows: dict[bytes, int] = {}  # by digest of the whole utterance
        self.gists: list[bytes] = []  # [N] digests of words, label and lengths
        self.unlabelled: list[bytes] = []  # [N] digests of all but the label
        self.facts: dict[str, list] = defaultdict(list)  # [N] what corpus.json notes of every row
        self.places: dict[tuple[int, str], list[int]] = {(k, part): [] for k in source.folds for part in PARTS}
        self.dropped = dict.fromkeys(source.folds, 0)
        self.tally = Counter(dict.fromkeys([*BEYOND.values(), *EMPTY.values()], 0))  # told in this order

    def take(self, utterance: Utterance) -> None:
        """Note where one utterance stands; check and write it if it is new."""
        if utterance.lengths.get("video") == 0:
            for k, _ in utterance.places:
                self.dropped[k] += 1
            return
        arrays = {name: np.asarray(x, DTYPES.get(name)) for name, x in utterance.arrays.items()}
        form = {name: (x.dtype.str, x.shape) for name, x in arrays.items()}, list(utterance.facts)
        self.form = self.form or form
        if form != self.form:
            raise CorpusError(utterance.id, f"arrays and facts like those of the first, {self.form}", f"{form}")
        features = {name: arrays[name] for name in HOLDS if name in arrays}  # in the order of the study
        label, lengths = np.array(utterance.label, np.int64), self._lengths(utterance, features)
        hashed = [x.astype(np.int64) if name == "tokens" else x for name, x in features.items()]
        content = digest(*hashed, label, *lengths.values())
        if content not in self.rows:
            for name, x in features.items():
                if not np.isfinite(x).all():
                    file = utterance.files.get(name, utterance.id)
                    raise CorpusError(file, "finite numbers", f"NaN or infinity in row {utterance.row}")
            if self.source.embedding is not None:
                check_range(utterance.id, "token ids", features["tokens"], 0, len(self.source.embedding) - 1)
            self._write({**arrays, "label": label, **lengths})
            words = hashed[:1] if "length_text" in lengths else []
            self.gists.append(digest(*words, label, *lengths.values()))
            self.unlabelled.append(digest(*hashed, *lengths.values()))
            self.rows[content] = len(self.rows)
            for name, fact in {"ids": utterance.id, **utterance.facts}.items():
                self.facts[name].append(fact)
        for place in utterance.places:
            self.places[place].append(self.rows[content])

    def _lengths(self, utterance: Utterance, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Valid time steps of each modality: at least one, and at most all that there are."""
        lengths = {}
        for name, x in features.items():
            m, length = HOLDS[name], utterance.lengths[HOLDS[name]]
            if length < 0:
                raise CorpusError(utterance.id, f"a length of {m} from 0 on", f"{length}")
            if not 1 <= length <= len(x):
                self.tally[BEYOND[m] if length else EMPTY[m]] += len(utterance.places)
            lengths[f"length_{m}"] = np.array(min(max(length, 1), len(x)), np.int64)
        return lengths

    def _write(self, row: Mapping[str, np.ndarray]) -> None:
        for name, x in row.items():
            if name not in self.files:
                self.files[name] = self.new_file(name), x
                self.write_head(name, 0)
            self.files[name][0].write(np.ascontiguousarray(x).data)

    def write_head(self, name: str, rows: int) -> None:
        """Tell a file how many rows it has: the head has the same length, whatever their number."""
        file, first = self.files[name]
        file.seek(0)
        head = {"descr": first.dtype.str, "fortran_order": False, "shape": (rows, *first.shape)}
        np.lib.format.write_array_header_1_0(file, head)

    def findings(self) -> list[str]:
        twice = sum(len(rows) - len(set(rows)) for rows in self.places.values())
        tally = {"dropped, since they have no video": sum(self.dropped.values()), **self.tally}
        tally["same utterance twice in one part of a fold"] = twice
        counts = [f"{len(self.rows)} different utterances in {len(self.source.folds)} folds."]
        counts += [f"{count} rows (over all folds): {what}." for what, count in tally.items() if count]
        return self.source.findings(counts, list(self._overlaps()))

    def _overlaps(self) -> Iterator[str]:
        """Sentences on utterances that are alike.

        A fold that was scaled by itself holds the gists (words, label, lengths) of another one with other numbers: then
        the corpus has more rows of a gist than the fold that has most of them.
        """
        most: Counter[bytes] = Counter()
        for fold in dict.fromkeys(k for k, _ in self.places):
            most |= Counter(self.gists[row] for (k, _), rows in self.places.items() if k == fold for row in rows)
        if scaled := (Counter(self.gists) - most).total():
            yield (
                f"{scaled} utterances have the words, label and lengths of one in another fold but other numbers "
                "(folds scaled by themselves?): each fold keeps its own copy; whether test parts overlap is unknown."
            )
        tested = Counter(row for (_, part), rows in self.places.items() if part == "test" for row in set(rows))
        if twice := sum(count > 1 for count in tested.values()):
            yield f"{twice} utterances stand in the test parts of more than one fold."
        elif not scaled:
            yield "No two test parts share an utterance."
        if contrary := sum(count > 1 for count in Counter(self.unlabelled).values()):
            yield f"{contrary} utterances occur with the same content and different labels."


def finish_store(folder: Path, digests: Sequence[bytes], places: Places, facts: Mapping[str, Any]) -> None:
    """Write folds, the scale of audio in each fold, the fingerprint and corpus.json beside the arrays in `folder`.

    Args:
        digests: of the content; with the folds they make the fingerprint of the corpus.
        places: rows of the arrays; CorpusError if a part is empty or two parts of one fold share a row.
        facts: what corpus.json is to note, but for what follows from arrays and folds.
    """
    folds = list(dict.fromkeys(k for k, _ in places))
    rows = {f"{k}_{part}": np.asarray(places[k, part], np.int64) for k in folds for part in PARTS}
    for k in folds:
        where = f"{facts['source']} fold {k}"
        for part in PARTS:
            if not len(rows[f"{k}_{part}"]):
                raise CorpusError(f"{where} {part}", "at least one utterance", "none")
        for a, b in combinations(PARTS, 2):
            if len(both := np.intersect1d(rows[f"{k}_{a}"], rows[f"{k}_{b}"])):
                found = f"{len(both)}, the first one {facts['ids'][both[0]]}"
                raise CorpusError(where, f"no utterance in both {a} and {b}", found)
    np.savez(folder / "folds.npz", **rows)  # type: ignore[arg-type]  # no part is called allow_pickle
    content = [*digests, *(x.astype("<i8").tobytes() for x in rows.values())]
    fingerprint = hashlib.blake2b(b"".join(content), digest_size=8).hexdigest()
    if (folder / "audio.npy").is_file():
        audio, length = load_array(folder / "audio.npy"), np.load(folder / "length_audio.npy")
        np.save(folder / "audio_scale.npy", np.stack([frame_scale(audio, length, rows[f"{k}_train"]) for k in folds]))
    write_description(folder, {"dropped": dict.fromkeys(folds, 0), **facts, "fingerprint": fingerprint, "folds": folds})


def frame_scale(x: np.ndarray, length: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of each feature over the valid frames of some utterances: [2, D] float32.

    A feature that does not vary gets the deviation 1, so that dividing by it is harmless.
    """
    total, square, count = np.zeros(x.shape[2]), np.zeros(x.shape[2]), 0
    shift = np.asarray(x[rows[0], 0], np.float64)  # keeps the sums small: E[x^2] - E[x]^2 would lose digits
    for start in range(0, len(rows), CHUNK):
        chunk = np.sort(rows[start : start + CHUNK])
        frames = x[chunk][np.arange(x.shape[1]) < length[chunk, None]].astype(np.float64) - shift
        total, square, count = total + frames.sum(0), square + (frames**2).sum(0), count + len(frames)
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    std[std <= 1e-6 * np.abs(mean + shift)] = 1
    return np.stack([mean + shift, std]).astype(np.float32)
