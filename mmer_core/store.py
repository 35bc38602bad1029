"""Writing a store: the one way by which any source of utterances becomes a corpus.

`write_store` goes once through the utterances of a `Source`. Each is checked, its lengths are settled, and its content
is hashed; what was not seen before is written at once, so that no corpus has to fit into memory.
"""

import contextlib
import hashlib
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np

from mmer_core.arrays import check_range, digest, frame_scale, frames_digest, load_array, moments, not_finite
from mmer_core.corpus import HOLDS, PARTS, Corpus, Fold, check_folds, open_store, write_description
from mmer_core.errors import CorpusError
from mmer_core.texts import check_unicode
from mmer_core.views import about_tests

DTYPES = {"tokens": np.int32, "text": np.float32, "video": np.float32, "audio": np.float32}  # in a store
EMPTY = {"text": "text is padding only, taken as one pad token", "audio": "audio length 0, taken as one frame"}
AHEAD = 3  # batches at each of two stages while others are read
BATCH = 16  # utterances that one thread reads and hashes at a time
NO_VIDEO = "dropped, since they have no video"
BEYOND = {m: f"{m} length beyond the array, cut to it" for m in ("audio", "video", "text")}
LEFT = {m: f"{m} padded on the left, rolled to the start" for m in ("audio", "video")}
BEHIND = {m: f"{m} holds numbers behind its stated length; masked variants leave them out" for m in ("audio", "video")}
Places = Mapping[tuple[int, str], Sequence[int]]  # (fold, part): rows of the corpus
_Known = tuple[dict[str, np.ndarray], bytes, bytes]  # a row of the store, its content and gist


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
    named = False  # whether each utterance has an id of its own, so that two alike are two

    def utterances(self) -> Iterator[Utterance]:
        raise NotImplementedError

    def batches(self) -> Iterator[Iterable[Utterance]]:
        """All utterances in their order, BATCH at a time; any thread may go through a batch."""
        utterances = self.utterances()
        return iter(lambda: [*islice(utterances, BATCH)], [])

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
    check_unicode(source.facts["source"], source.facts["name"], source.facts["source"], *source.facts["classes"])
    with new_store(path) as folder:
        with contextlib.ExitStack() as files:
            intake = _Intake(source, lambda name: files.enter_context(open(folder / f"{name}.npy", "wb")))
            pool = files.enter_context(ThreadPoolExecutor())
            ready = _ahead(pool, _made_ready, source.batches())
            for rows in _ahead(pool, intake.known, map(intake.new, ready)):
                intake.write(rows)
            if not intake.rows and not source.folds:  # else the part is named
                raise CorpusError(source.facts["source"], "at least one utterance that can be used", "none")
            if len(intake.labels) == 1:
                found = f"{source.facts['classes'][intake.labels.pop()]!r} alone"
                raise CorpusError(source.facts["source"], "utterances of two classes or more", found)
            for name in intake.files:
                intake.write_head(name, len(intake.rows))
        if source.embedding is not None:
            np.save(folder / "embedding.npy", source.embedding)
        facts = {**source.facts, "ids": [], **intake.facts, "dropped": intake.dropped, "findings": intake.findings()}
        finish_store(folder, source.digests(intake.contents), intake.places, facts)
        open_store(folder)  # checks it: no store appears that contradicts itself
    return open_store(path)


@contextlib.contextmanager
def new_store(path: str | Path) -> Iterator[Path]:
    """A scratch folder that becomes the store at `path` when the block ends well, and vanishes when it does not."""
    path = Path(path).resolve()
    if path.exists():
        raise CorpusError(path, "a place that is free for a new store", "something there already")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as scratch:
            os.chmod(scratch, 0o755)
            yield Path(scratch)
            os.replace(scratch, path)
    except OSError as error:
        raise CorpusError(path, "a free place with room for a new store", str(error)) from error


@dataclass(frozen=True)
class _Ready:
    """An utterance with all that can be known of it without the others."""

    utterance: Utterance
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)  # the valid frames first, wherever the padding was
    label: np.ndarray = field(default_factory=lambda: np.array(0))
    lengths: Mapping[str, np.ndarray] = field(default_factory=dict)
    key: bytes = b""  # what tells it from the others in this process
    notes: Sequence[str] = ()  # what is odd about it


def _made_ready(utterance: Utterance) -> _Ready:
    if utterance.lengths.get("video") == 0:
        return _Ready(utterance, notes=[NO_VIDEO])
    with np.errstate(over="ignore"):  # infinity is refused later
        arrays = {name: np.asarray(x, DTYPES.get(name)) for name, x in utterance.arrays.items()}
    lengths, notes = {}, []
    key = hashlib.sha1(usedforsecurity=False)  # twice as fast as BLAKE2, which tells utterances apart for ever
    for name in (name for name in HOLDS if name in arrays):
        m, length, steps = HOLDS[name], utterance.lengths[HOLDS[name]], len(arrays[name])
        if length < 0:
            raise CorpusError(utterance.id, f"a length of {m} from 0 on", f"{length}")
        if not 1 <= length <= steps:
            notes.append(BEYOND[m] if length else EMPTY[m])
        n = min(max(length, 1), steps)  # at least one time step, and at most all that there are
        lengths[f"length_{m}"] = np.array(n, np.int64)
        behind = bool(arrays[name][n:].any())
        if m in BEHIND and length and behind:  # text has its length from its words
            left = not arrays[name][:-n].any()
            notes.append(LEFT[m] if left else BEHIND[m])
            arrays[name], behind = np.roll(arrays[name], n * left, axis=0), not left
        key.update(bytes([behind]))
        key.update(np.ascontiguousarray(arrays[name][: None if behind else n]).data)
    key.update(repr((utterance.label, *map(int, lengths.values()))).encode())
    return _Ready(utterance, arrays, np.array(utterance.label, np.int64), lengths, key.digest(), notes)


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Any], Any], batches: Iterator[Iterable]) -> Iterator[list]:
    """What work makes of the items of batches, in their order, on all cores and ahead of who takes it."""
    waiting: deque = deque()
    for batch in batches:
        waiting.append(pool.submit(lambda some: [*map(work, some)], batch))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _Intake:
    """The utterances of a source on their way into a store."""

    def __init__(self, source: Source, new_file: Callable[[str], BinaryIO]):
        self.source, self.new_file = source, new_file
        self.files: dict[str, tuple[BinaryIO, np.ndarray]] = {}  # with the first row of each
        self.form: tuple = ()  # of the first utterance
        self.rows: dict[bytes, int] = {}  # by key
        self.labels: set[int] = set()
        self.named: set[str] = set()
        self.contents: list[bytes] = []  # [N] digests of the whole utterance, without its id
        self.gists: list[bytes] = []  # [N] digests of words, label and lengths
        self.unlabelled: list[bytes] = []  # [N] digests of all but the label
        self.facts: dict[str, list] = defaultdict(list)  # [N] what corpus.json notes of every row
        self.places: dict[tuple[int, str], list[int]] = {(k, part): [] for k in source.folds for part in PARTS}
        self.dropped = dict.fromkeys(source.folds, 0)
        told = [NO_VIDEO, *BEYOND.values(), *EMPTY.values(), *LEFT.values(), *BEHIND.values()]
        self.tally = Counter(dict.fromkeys(told, 0))  # in this order

    def new(self, batch: list[_Ready]) -> list[_Ready]:
        """Note where each utterance stands; those that were not there before are handed on."""
        new = []
        for ready in batch:
            utterance = ready.utterance
            self.tally.update(dict.fromkeys(ready.notes, len(utterance.places) or 1))
            if NO_VIDEO in ready.notes:
                for k, _ in utterance.places:
                    self.dropped[k] += 1
                continue
            self._check_form(ready)
            key = ready.key + utterance.id.encode(errors="replace") if self.source.named else ready.key
            if key not in self.rows:
                self._check_name(utterance.id)
                self.rows[key] = len(self.rows)
                self.labels.add(int(ready.label))
                for name, fact in {"ids": utterance.id, **utterance.facts}.items():
                    self.facts[name].append(fact)
                new.append(ready)
            for place in utterance.places:
                self.places[place].append(self.rows[key])
        return new

    def _check_form(self, ready: _Ready) -> None:
        form = {name: (x.dtype.str, x.shape) for name, x in ready.arrays.items()}, list(ready.utterance.facts)
        self.form = self.form or form
        if form != self.form:
            raise CorpusError(ready.utterance.id, f"arrays and facts like those of the first, {self.form}", f"{form}")

    def _check_name(self, name: str) -> None:
        check_unicode(name, name)
        if self.source.named and name in self.named:
            raise CorpusError(name, "an id of its own for each utterance", "another one with it")
        self.named.add(name)

    def known(self, ready: _Ready) -> _Known:
        """A row of the store with what other folds, and other formats, ask of it.

        CorpusError if numbers are not finite, or words have no vectors.
        """
        utterance, lengths, embedding = ready.utterance, ready.lengths, self.source.embedding
        features = {name: ready.arrays[name] for name in HOLDS if name in ready.arrays}
        for name, x in features.items():
            if step := not_finite(x):
                found = f"NaN or infinity in {'' if self.source.named else f'row {utterance.row}, '}{step}"
                raise CorpusError(utterance.files.get(name, utterance.id), "finite numbers", found)
        if embedding is not None:
            check_range(utterance.id, "token ids", features["tokens"], 0, len(embedding) - 1)
        vectors = {name: embedding[x] if name == "tokens" else x for name, x in features.items()}  # type: ignore[index]
        frames = {HOLDS[name]: x[: lengths[f"length_{HOLDS[name]}"]] for name, x in vectors.items()}
        known = {"digest": frames_digest(frames)}
        known |= {"moments": moments(frames["audio"])} if "audio" in frames else {}
        hashed = [x.astype(np.int64) if name == "tokens" else x for name, x in features.items()]
        words = hashed[:1] if "length_text" in lengths else []
        content, gist = (digest(*some, ready.label, *lengths.values()) for some in (hashed, words))
        return {**ready.arrays, "label": ready.label, **lengths, **known}, content, gist

    def write(self, rows: list[_Known]) -> None:
        for row, content, gist in rows:
            self.contents.append(content)
            self.gists.append(gist)
            self.unlabelled.append(row["digest"].tobytes())
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
        tally = {**self.tally, "same utterance twice in one part of a fold": twice}
        counts = [f"{len(self.rows)} different utterances{f' in {n} folds' if (n := len(self.source.folds)) else ''}."]
        counts += [f"{count} rows (over all folds): {what}." for what, count in tally.items() if count]
        classes = enumerate(self.source.facts["classes"])
        counts += [f"No utterance has the label {name!r}." for k, name in classes if k not in self.labels]
        return self.source.findings(counts, list(self._overlaps()))

    def _overlaps(self) -> Iterator[str]:
        """Sentences on utterances that are alike.

        A fold that was scaled by itself holds the gists (words, label, lengths) of another one with other numbers: then
        the corpus has more rows of a gist than the fold that has most of them.
        """
        folds, most = dict.fromkeys(k for k, _ in self.places), Counter[bytes]()
        for fold in folds:
            most |= Counter(self.gists[row] for (k, _), rows in self.places.items() if k == fold for row in rows)
        scaled = (Counter(self.gists) - most).total() if len(folds) > 1 and not self.source.named else 0
        if scaled:
            yield (
                f"{scaled} utterances have the words, label and lengths of one in another fold but other numbers "
                "(folds scaled by themselves?): each fold keeps its own copy; whether test parts overlap is unknown."
            )
        parts = {k: Fold(*(np.array(self.places[k, part], np.int64) for part in PARTS)) for k in folds}
        yield from (told for told in about_tests(parts) if not scaled or "share" not in told)
        alike = {whole: bare for whole, bare in zip(self.contents, self.unlabelled, strict=True)}
        if contrary := sum(count > 1 for count in Counter(alike.values()).values()):
            yield f"{contrary} utterances occur with the same content and different labels."
        if more := len(self.contents) - len(alike):
            yield f"{more} utterances have the frames and label of another one, under an id of their own."


def finish_store(folder: Path, digests: Sequence[bytes], places: Places, facts: Mapping[str, Any]) -> None:
    """Write folds, the scale of audio in each fold, the fingerprint and corpus.json beside the arrays in `folder`.

    Args:
        digests: of the content; with the folds they make the fingerprint of the corpus.
        places: rows of the arrays; CorpusError if a part is empty or two parts of one fold share a row.
        facts: what corpus.json is to note, but for what follows from arrays and folds.
    """
    numbers = list(dict.fromkeys(k for k, _ in places))
    folds = {k: Fold(*(np.asarray(places[k, part], np.int64) for part in PARTS)) for k in numbers}
    check_folds(facts["source"], folds, len(facts["ids"]), facts["ids"])
    rows = {f"{k}_{part}": x for k, fold in folds.items() for part, x in zip(PARTS, fold, strict=True)}
    np.savez(folder / "folds.npz", **rows)  # type: ignore[arg-type]  # no part is called allow_pickle
    content = [*digests, *(x.astype("<i8").tobytes() for x in rows.values())]
    fingerprint = hashlib.blake2b(b"".join(content), digest_size=8).hexdigest()
    if folds and (folder / "audio.npy").is_file():
        known, length = folder / "moments.npy", np.load(folder / "length_audio.npy")
        frames = (x[:n] for x, n in zip(load_array(folder / "audio.npy"), length, strict=True))
        each = np.load(known) if known.is_file() else np.stack([moments(x) for x in frames])
        scales = [frame_scale(each[fold.train], length[fold.train]) for fold in folds.values()]
        np.save(folder / "audio_scale.npy", np.stack(scales))
    noted = {"dropped": dict.fromkeys(numbers, 0), **facts, "fingerprint": fingerprint, "folds": numbers}
    write_description(folder, noted)
