"""Writing a store: the one way by which any source of utterances becomes a corpus."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmer_core.corpus import FORMAT, Fold, load_array
from mmer_core.errors import CorpusError

CHUNK = 64  # utterances read at a time when a whole corpus is gone through


@contextlib.contextmanager
def new_store(path: str | Path) -> Iterator[Path]:
    """A scratch folder that becomes the store at `path` when the block ends well, and vanishes when it does not."""
    path = Path(path).resolve()
    if path.exists():
        raise CorpusError(path, "a place that is free for a new store", "something there already")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        raise CorpusError(path, "a free place with room for a new store", str(error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def finish_store(
    folder: Path,
    digests: Sequence[bytes],
    folds: Mapping[int, Fold],
    *,
    name: str,
    source: str,
    synthetic: bool,
    classes: Sequence[str],
    ids: Sequence[str],
    words: Sequence[str] | None,
    findings: Sequence[str],
    dropped: Mapping[int, int] | None = None,
) -> None:
    """Write folds, the scale of audio in each fold, the fingerprint and corpus.json beside the arrays in `folder`.

    Args:
        digests: one for each utterance, from `digest`; with the folds they make the fingerprint of the corpus.
        folds: rows of the arrays; the parts of one fold must not share a row.
        findings: what the source has to tell, in sentences.
        dropped: by fold, how many utterances were left out because they have no video; none by default.

    Raises:
        CorpusError: if a part is empty or two parts of one fold share an utterance.
    """
    fingerprint = hashlib.blake2b(b"".join(digests), digest_size=8)
    for k, fold in folds.items():
        for part, rows in fold._asdict().items():
            if len(rows) == 0:
                raise CorpusError(f"{source} fold {k} {part}", "at least one utterance", "none")
            fingerprint.update(np.asarray(rows, "<i8").tobytes())
        for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
            both = np.intersect1d(getattr(fold, a), getattr(fold, b))
            if len(both):
                raise CorpusError(
                    f"{source} fold {k}",
                    f"no utterance in both {a} and {b}",
                    f"{len(both)}, the first one {ids[both[0]]}",
                )
    np.savez(
        folder / "folds.npz",
        **{f"{k}_{p}": np.asarray(r, np.int64) for k, f in folds.items() for p, r in f._asdict().items()},
    )
    audio, length = load_array(folder / "audio.npy"), np.load(folder / "length_audio.npy")
    np.save(folder / "audio_scale.npy", np.stack([frame_scale(audio, length, fold.train) for fold in folds.values()]))

    arrays = {file.stem: load_array(file) for file in sorted(folder.glob("*.npy"))}
    text = arrays["text"].shape[1:] if "text" in arrays else (arrays["tokens"].shape[1], arrays["embedding"].shape[1])
    manifest = {
        "format": FORMAT,
        "name": name,
        "source": source,
        "synthetic": synthetic,
        "fingerprint": fingerprint.hexdigest(),
        "classes": list(classes),
        "sizes": {"text": list(text), "video": list(arrays["video"].shape[1:]), "audio": list(audio.shape[1:])},
        "folds": [int(k) for k in folds],
        "findings": list(findings),
        "dropped": {str(k): int((dropped or {}).get(k, 0)) for k in folds},
        "arrays": {k: [list(a.shape), str(a.dtype)] for k, a in arrays.items()},
        "ids": list(ids),
        "words": None if words is None else list(words),
    }
    (folder / "corpus.json").write_text(json.dumps(manifest), encoding="utf-8")


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


def digest(*arrays: np.ndarray) -> bytes:
    """A fingerprint of the content of one utterance (16 bytes): the same numbers give the same digest everywhere."""
    h = hashlib.blake2b(digest_size=16)
    for a in arrays:
        h.update(np.ascontiguousarray(a).data)
    return h.digest()
