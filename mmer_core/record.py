"""The record of a run, checked once when it is read: nothing else here asks again whether it may be believed."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from mmer_core.corpus import PARTS
from mmer_core.errors import CorpusError
from mmer_core.metrics import METRICS, scores_from
from mmer_core.protocol import Protocol
from mmer_core.variant import Variant

GUARD = ', "digest": "'  # the end of run.json: the digest of what stands before it
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Run:
    """One training: all that decides its result, but the machine. The fields, as plain values, are its identity."""

    corpus: str  # its fingerprint
    variant: Variant
    fold: int
    seed: int
    protocol: Protocol

    @cached_property
    def identity(self) -> str:
        """The fields in one text, the same everywhere."""
        ends = f'"protocol": {_plain(self.protocol)}, "seed": {self.seed}, "variant": {_plain(self.variant)}}}'
        return f'{{"corpus": {json.dumps(self.corpus)}, "fold": {self.fold}, {ends}'

    @cached_property
    def key(self) -> str:
        return hashlib.blake2b(self.identity.encode(), digest_size=6).hexdigest()

    @cached_property
    def folder(self) -> str:
        return f"{self.variant.name}/fold{self.fold}_seed{self.seed}_{self.key}"

    def __str__(self) -> str:
        return f"{self.variant.name} fold {self.fold} seed {self.seed}"


@lru_cache(maxsize=1000)
def _plain(settings: Variant | Protocol) -> str:
    return json.dumps(asdict(settings), sort_keys=True)


class Record:
    """One finished run on disk. Its `brief` may be known from the ledger's index; all else is read when asked for.

    brief: scores, confusion, counts, dev_accuracy, parameters, best_epoch, seconds and the number of epochs.
    CorpusError if run.json is damaged or contradicts itself, as soon as it is read.
    """

    def __init__(self, folder: Path, brief: dict[str, Any] | None = None):
        self.folder = folder
        self.brief = self._brief() if brief is None else brief
        self.scores: dict[str, float] = self.brief["scores"]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """All that run.json says."""
        try:
            summary, intact = guarded((self.folder / "run.json").read_bytes())
            _check(summary)
            if not intact:
                raise ValueError("it was changed after it was written")
            return summary
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = f"{type(error).__name__}: {error}; delete the folder to train this run again"
            raise CorpusError(self.folder / "run.json", "the record of a run", found) from None

    @property
    def curve(self) -> list[dict[str, float]]:
        return self.summary["curve"]

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts [C, C]; rows are labels."""
        return np.array(self.brief["confusion"])

    @property
    def pruned(self) -> bool:
        """Whether its weights were given up to save room."""
        return "pruned" in self.summary

    def _brief(self) -> dict[str, Any]:
        brief = {name: self.summary[name] for name in BRIEF}
        if set(METRICS) - brief["scores"].keys():  # of an older record
            brief["scores"] = scores_from(np.array(brief["confusion"])) | brief["scores"]
        return brief | {"epochs": len(self.summary["curve"])}

    def predictions(self, part: str = "test") -> dict[str, np.ndarray]:
        """ids [N], label [N], logits [N, C] of the part "dev" or "test", in the order of the fold."""
        file, n = self.folder / "predictions.npz", self.summary["counts"][part]
        try:
            data = self._bytes(file)
            with np.load(io.BytesIO(data), allow_pickle=False) as z:
                found = {what: z[f"{part}_{what}"] for what in ("ids", "label", "logits")}
        except Exception as error:  # zipfile and numpy have many
            raise CorpusError(file, f"predictions of the {part} part", f"{error}"[:200]) from None
        if [x.shape for x in found.values()] != [(n,), (n,), (n, len(self.confusion))]:
            raise CorpusError(file, f"{n} predictions of the {part} part", f"{[x.shape for x in found.values()]}")
        return found

    def weights(self) -> dict[str, np.ndarray]:
        """Weights of the best epoch under the published names."""
        file = self.folder / WEIGHTS
        if self.pruned:
            place = "/".join(str(self.summary["run"][part]) for part in ("fold", "seed"))
            again = f"`python -m mmer_core rerun {self.summary['variant']}/{place}` makes them again"
            raise CorpusError(file, "the weights of a run", f"that they were pruned; {again}")
        try:
            return load(self._bytes(file))
        except (OSError, ValueError, SafetensorError) as error:
            raise CorpusError(file, "the weights of a run", str(error)) from None

    def _bytes(self, file: Path) -> bytes:
        """A file of the record; ValueError unless it is as it was written, where an older record does not say."""
        data, noted = file.read_bytes(), self.summary.get("files", {})
        if noted and noted.get(file.name) != digest_of(data):
            raise ValueError("another content than was written; see `status --verify`")
        return data


_NUMBER = (int, float)
_TYPES: dict[str, type | tuple[type, ...]] = {  # of what tables and figures are made of
    **{"scores": dict, "counts": dict, "curve": list, "classes": list, "provenance": dict, "run": dict},
    **{"dev_accuracy": _NUMBER, "seconds": _NUMBER, "parameters": int, "best_epoch": int},
}
BRIEF = ("scores", "confusion", "counts", "dev_accuracy", "parameters", "best_epoch", "seconds")


def _check(summary: dict) -> None:
    """KeyError, TypeError or ValueError if the summary of a run lacks something, or cannot be that of any run."""
    for name, types in _TYPES.items():
        if not isinstance(summary[name], types):
            raise TypeError(f"{name} is {type(summary[name]).__name__}")
    for name, n in [*summary["scores"].items(), *((part, summary["counts"][part]) for part in PARTS)]:
        if type(n) not in _NUMBER or not np.isfinite(n):
            raise TypeError(f"{name} is {n!r}")
    if not all(isinstance(epoch, dict) for epoch in summary["curve"]):
        raise TypeError("curve is no list of epochs")
    _check_counts(summary, _matrix(summary["confusion"], len(summary["classes"])))


def with_guard(summary: dict) -> bytes:
    """run.json, or the index: what it says, and the digest of that."""
    text = json.dumps(summary)
    return f'{text[:-1]}{GUARD}{digest_of(text.encode())}"}}'.encode()


def as_written(data: bytes) -> bytes:
    """run.json as it was before the weights were pruned."""
    summary = json.loads(data)
    if summary.pop("pruned", None) is None:
        return data
    summary.pop("digest")
    return with_guard(summary) if "files" in summary else json.dumps(summary).encode()


def digest_of(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def guarded(data: bytes) -> tuple[dict, bool]:
    """run.json, and whether it is as it was written; an older record does not say, and is taken for it."""
    body, guard, digest = data.rpartition(GUARD.encode())
    summary = json.loads(data)
    expected = (digest_of(body + b"}") + '"}').encode()
    return summary, digest == expected if guard else "files" not in summary


def _check_counts(summary: dict, confusion: np.ndarray) -> None:
    """ValueError if numbers of a record contradict each other, or no run can have them."""
    follow, counts, epochs = scores_from(confusion), summary["counts"], len(summary["curve"])
    odd = [f"{m} {x}" for m, x in summary["scores"].items() if m in follow and abs(x - follow[m]) > 1e-9]
    odd += [f"{part} {counts[part]}" for part in PARTS if type(counts[part]) is not int or counts[part] < 1]
    odd += [] if counts["test"] == confusion.sum() else [f"{confusion.sum()} predictions of {counts['test']}"]
    odd += [] if 1 <= summary["best_epoch"] <= epochs else [f"best epoch {summary['best_epoch']} of {epochs}"]
    odd += [] if 0 <= summary["dev_accuracy"] <= 1 else [f"dev accuracy {summary['dev_accuracy']}"]
    if odd:
        raise ValueError(f"it contradicts itself: {', '.join(odd)}")


def _matrix(rows: object, classes: int) -> np.ndarray:
    """A confusion matrix [C, C] of counts; ValueError if it is none."""
    matrix = np.array(rows)
    if matrix.shape != (classes, classes) or matrix.dtype.kind != "i" or matrix.min() < 0 or matrix.sum() == 0:
        raise ValueError(f"confusion is no matrix of counts for {classes} classes")
    return matrix
