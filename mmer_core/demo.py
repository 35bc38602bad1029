"""The demo corpus: synthetic utterances in which the places that carry the label are known.

Every modality of every utterance has exactly two loud segments at random places: a cue and a decoy, or two decoys.
All patterns are rows of one Hadamard matrix, so cues and decoys are equally loud and orthogonal; which decoy sounds has
nothing to do with the class. The rest is noise, and filler words. The label is shown in one of two ways.

*By one cue.* Each class has a cue of its own in one modality (`own` in emotions.csv). The other two hold decoys only.

*By the conjunction of two.* Each class is a cell of a 3 x 3 table: its row is a cue in text, its column a cue in video
and (row + column) mod 3 a cue in audio. Any two of the three single out the class (this one AND that one); one alone
leaves two or three classes possible. Two modalities, drawn at random, hold their cue; the third holds decoys only.

So each modality shows some utterances alone, each pair shows those of both and a third of the conjunctions, and only
all three show everything: tri > bi > uni. `conjunction` says what share of the utterances needs the conjunction.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import PCG64, Generator
from scipy.linalg import hadamard

from mmer_core.arrays import digest
from mmer_core.corpus import MODALITIES, Corpus, Size, open_store
from mmer_core.errors import CorpusError, MmerError
from mmer_core.store import Source, Utterance, write_store

SCHEME = 2  # counts changes of what is generated: part of the name of the source
FOLDS = 5
NOTHING, CUE, DECOY = 0, 1, 2  # what planted_text, planted_video and planted_audio say of a time step

# How each class shows: its utterances in IEMOCAP, of which the demo has the same shares; the modality of its own cue;
# and its row and column in the table of conjunctions.
_TABLE = pd.read_csv(Path(__file__).with_name("emotions.csv"), index_col="emotion")
EMOTIONS = {emotion.Index: emotion for emotion in _TABLE.itertuples()}
OWN = {m: [name for name, e in EMOTIONS.items() if e.own == m] for m in MODALITIES.values()}
SIZES = {"text": Size(10, 16), "video": Size(10, 16), "audio": Size(16, 16)}
SEGMENT = {"text": (1, 2), "video": (2, 3), "audio": (3, 4)}  # shortest and longest cue or decoy, in time steps
SHORTEST = {"text": 4, "video": 6, "audio": 8}  # utterance, in time steps
LOUDNESS = 6.0  # of cues and decoys, each feature; and the standard deviation of noise, or of filler words:
NOISE = {"text": 4.5, "video": 6.6, "audio": 6.2}
AUDIO_SCALE = np.linspace(2, 0.5, 16)  # of the features, from the first to the last: as uneven as raw MFCC, but milder
AUDIO_OFFSET = np.linspace(-32, 8, 16)
FLIPS = 3  # signs by which the vector of a word differs from its pattern: synonyms are alike, and equally loud
GROUPS, DECOYS = 3, 4  # rows (or columns) of the table, and decoy patterns, in each modality

# In the order of the patterns: own cues, cues of the groups, decoys; then fillers, and fillers without a vector.
WORDS: dict[str, str] = pd.read_csv(Path(__file__).with_name("vocabulary.csv"), index_col="group")["words"].to_dict()
FILLER_WORDS, UNKNOWN_WORDS = WORDS.pop("filler"), WORDS.pop("unknown")


def make_demo_corpus(path: str | Path, utterances: int = 700, seed: int = 0, conjunction: float = 0.5) -> Corpus:
    """Open the demo corpus at `path`, after making it if nothing is there.

    Args:
        utterances: how many, 35 or more; a class has at least one for the test part of each fold.
        seed: the same seed gives the same corpus on every machine.
        conjunction: share of the utterances whose class only two modalities together tell, 0 to 1.

    MmerError for settings out of range; CorpusError if no store, another source, or other settings are at `path`.
    """
    if utterances < FOLDS * len(EMOTIONS) or not 0 <= conjunction <= 1:
        raise MmerError(f"utterances are 35 or more, conjunction is a share; got {utterances!r} and {conjunction!r}")
    path = Path(path).resolve()
    source = f"demo scheme={SCHEME} utterances={utterances} seed={seed} conjunction={float(conjunction)}"
    corpus = open_store(path) if path.exists() else write_store(_Demo(source, utterances, seed, conjunction), path)
    if corpus.source != source:
        raise CorpusError(path, f"a free place or the store of {source!r}", f"the store of {corpus.source!r}")
    return corpus


class _Demo(Source):
    """The demo corpus, drawn when it is made."""

    folds = range(1, FOLDS + 1)
    embedding: np.ndarray

    def __init__(self, source: str, utterances: int, seed: int, conjunction: float):
        rng = Generator(PCG64(seed))
        order = rng.permutation(utterances)
        self.label = np.repeat(np.arange(len(EMOTIONS)), class_counts(utterances))[order].astype(np.int64)
        self.part = (np.arange(utterances) % FOLDS)[order]  # dealt out along the classes: every class is in every part
        words, word_pattern, self.embedding = _dictionary(rng)
        self.facts = {"name": "demo", "source": source, "synthetic": True, "classes": list(EMOTIONS), "words": words}
        self.conjunction = conjunction
        pair = rng.permutation(utterances) < round(conjunction * utterances)
        silent = np.where(pair, rng.integers(3, size=utterances), -1)  # the modality that a pair leaves out
        self.arrays, self.lengths = {}, {}
        for m, name in enumerate(MODALITIES.values()):
            cues = np.where(silent == m, -1, cue_patterns(name)[pair.astype(int), self.label])
            self.lengths[name], self.arrays[f"planted_{name}"], pattern = _plant(rng, name, cues)
            if name == "text":
                self.arrays["tokens"] = _transcribe(rng, self.lengths[name], pattern, word_pattern)
            else:
                self.arrays[name] = _record(rng, name, self.lengths[name], pattern)

    def utterances(self) -> Iterator[Utterance]:
        """Part k is the test part of fold k + 1; the next one is dev, the other three are train."""
        names = ("test", "dev", "train", "train", "train")
        for i, (label, part) in enumerate(zip(self.label, self.part, strict=True)):
            places = [(k, names[(part - k + 1) % FOLDS]) for k in self.folds]
            lengths = {m: int(n[i]) for m, n in self.lengths.items()}
            yield Utterance(f"demo/{i:04d}", places, label, lengths, {name: x[i] for name, x in self.arrays.items()})

    def digests(self, rows: list[bytes]) -> list[bytes]:
        """An older recipe, which ledgers know: without lengths, and the words of an utterance as vectors."""
        text, video, audio = self.embedding[self.arrays["tokens"]], self.arrays["video"], self.arrays["audio"]
        return [digest(*one) for one in zip(self.label, text, video, audio, strict=True)]

    def findings(self, counts: list[str], overlaps: list[str]) -> list[str]:
        scheme = f"{self.conjunction:.0%} of the utterances show their class only by the conjunction of two modalities."
        return ["This corpus is synthetic: its numbers say nothing about people.", scheme]


def class_counts(utterances: int) -> np.ndarray:
    """Utterances of each class: the shares of IEMOCAP, rounded so that they add up, and at least one for each fold."""
    share = np.array([e.utterances for e in EMOTIONS.values()], float)
    exact = np.maximum(share / share.sum() * utterances, FOLDS)
    counts = np.floor(exact).astype(int)
    while (missing := utterances - counts.sum()) != 0:
        step = int(np.sign(missing))
        gap = np.where((step > 0) | (counts > FOLDS), step * (exact - counts), -np.inf)
        counts[gap.argmax()] += step
    return counts


def patterns(modality: str) -> np.ndarray:
    """The patterns of one modality, [own cues + 3 + 4, D] of +1 and -1: own cues, cues of the groups, decoys."""
    signs = hadamard(SIZES[modality].dim)[1:]  # without the first row: all ones is what an offset looks like
    return signs[: len(OWN[modality]) + GROUPS + DECOYS].astype(float)


def cue_patterns(modality: str) -> np.ndarray:
    """Rows of `patterns` that are the cues of the classes, [2, 7]: alone (-1: no cue here), and in a conjunction."""
    own = OWN[modality]
    row, column = np.array([(e.row, e.column) for e in EMOTIONS.values()]).T
    alone = [own.index(name) if name in own else -1 for name in EMOTIONS]
    group = {"text": row, "video": column, "audio": (row + column) % GROUPS}
    return np.stack([alone, len(own) + group[modality]])


def _plant(rng: Generator, modality: str, cues: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths [N], what is planted where [N, T] uint8, and the pattern at each step [N, T] (-1: none)."""
    steps, decoy = SIZES[modality].length, len(patterns(modality)) - DECOYS
    length = np.minimum(rng.integers(SHORTEST[modality], 5 * steps // 4, len(cues)), steps)
    planted, pattern = np.zeros((len(cues), steps), np.uint8), np.full((len(cues), steps), -1)
    for i, cue in enumerate(cues):
        kind, loud = [DECOY, DECOY], rng.integers(DECOYS, size=2) + decoy
        if cue >= 0:
            k = rng.integers(2)
            kind[k], loud[k] = CUE, cue
        size = rng.integers(SEGMENT[modality][0], SEGMENT[modality][1] + 1, 2)
        gap = np.sort(rng.integers(length[i] - size.sum() + 1, size=2))
        stops = gap + size.cumsum()
        for start, stop, what, which in zip(stops - size, stops, kind, loud, strict=True):
            planted[i, start:stop], pattern[i, start:stop] = what, which
    return length, planted, pattern


def _record(rng: Generator, modality: str, length: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Features [N, T, D] float32: patterns and noise; audio on the uneven scales of raw MFCC; zero after the end."""
    size = SIZES[modality]
    x = NOISE[modality] * rng.standard_normal((len(length), *size))
    x += LOUDNESS * np.vstack([patterns(modality), np.zeros(size.dim)])[pattern]  # -1: the last, nothing
    if modality == "audio":
        x = x * AUDIO_SCALE + AUDIO_OFFSET
    return _exact(x * (np.arange(size.length) < length[:, None])[..., None])


def _dictionary(rng: Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Words, the pattern of each word (-1: filler, -2: padding), and their vectors [V, D] float32."""
    dim = SIZES["text"].dim
    groups = [group.split() for group in (*WORDS.values(), FILLER_WORDS, UNKNOWN_WORDS)]
    pattern = np.repeat([-2, *range(len(WORDS)), -1, -1], [1, *map(len, groups)])
    signs = patterns("text")[pattern[pattern >= 0]]
    flips = [np.where(rng.permutation(dim) < FLIPS, -1, 1) for _ in signs]
    fillers = NOISE["text"] * rng.standard_normal(((pattern == -1).sum(), dim))
    fillers[-len(groups[-1]) :] = 0  # the unknown words
    return ["", *chain(*groups)], pattern, _exact(np.vstack([np.zeros(dim), LOUDNESS * signs * flips, fillers]))


def _transcribe(rng: Generator, length: np.ndarray, pattern: np.ndarray, word_pattern: np.ndarray) -> np.ndarray:
    """Tokens [N, T] int32: a random word of the pattern at each step, and padding after the end."""
    tokens = np.zeros(pattern.shape, np.int32)
    for p in np.unique(word_pattern[1:]):
        here = (pattern == p) & (np.arange(pattern.shape[1]) < length[:, None])
        tokens[here] = rng.choice(np.flatnonzero(word_pattern == p), here.sum())
    return tokens


def _exact(x: np.ndarray) -> np.ndarray:
    """Rounded to 1/256, so that the last bit of a machine's arithmetic does not show."""
    return (np.round(x * 256) / 256 + 0.0).astype(np.float32)  # + 0.0: no negative zeros
