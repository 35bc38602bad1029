"""The demo corpus is what its docstring says: an oracle that knows the scheme reads the planted cues back."""

import itertools
import json

import numpy as np
import pytest

from mmer_core import demo
from mmer_core.corpus import MODALITIES
from mmer_core.demo import CUE, DECOY, EMOTIONS, FOLDS, NOTHING, SEGMENT, make_demo_corpus
from mmer_core.errors import CorpusError, MmerError
from mmer_core.training import Protocol, train
from mmer_core.variant import Variant

FINGERPRINT = "fabc3b873248a62f"  # of the default settings: the same on every machine
NAMES = tuple(MODALITIES.values())
# The scheme, written down once more: the class of (row, column), and which class each modality shows alone.
TABLE = [[None, "happy", "excited"], ["neutral", None, "sad"], ["angry", "frustrated", "surprise"]]
ALONE = {"text": ["frustrated", "surprise"], "video": ["happy", "neutral"], "audio": ["angry", "excited", "sad"]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_demo_corpus(tmp_path_factory.mktemp("demo") / "demo")


def planted(corpus, name):
    return np.asarray(corpus.arrays[f"planted_{name}"])


def segments(mask):
    """(kind, start, stop) of the segments of one utterance; touching ones of one kind come out as one."""
    stops = [0, *(np.flatnonzero(np.diff(mask.astype(int))) + 1), len(mask)]
    return [(mask[a], a, b) for a, b in itertools.pairwise(stops) if mask[a] != NOTHING]


def scores(corpus, name, kind):
    """Mean over the planted steps [N, D], in units in which a pattern is +1 and -1; NaN where there is no such step."""
    x = corpus.features(name, range(len(corpus)))
    if name == "audio":
        x = (x - demo.AUDIO_OFFSET) / demo.AUDIO_SCALE
    here = (planted(corpus, name) == kind)[..., None]
    with np.errstate(invalid="ignore"):
        return (x * here).sum(1) / here.sum(1) / demo.LOUDNESS


def heard(corpus, name):
    """The nearest cue pattern of each utterance: 0.. the cues alone, then the three groups; -1 without a cue."""
    cues = demo.patterns(name)[: len(ALONE[name]) + 3]
    x = scores(corpus, name, CUE)
    return np.where(np.isnan(x[:, 0]), -1, (np.nan_to_num(x) @ cues.T).argmax(1))


def test_the_same_on_every_machine(corpus, tmp_path):
    assert corpus.fingerprint == FINGERPRINT
    assert corpus.fingerprint == make_demo_corpus(tmp_path / "again").fingerprint
    assert corpus.fingerprint != make_demo_corpus(tmp_path / "other", seed=1).fingerprint
    for x in (corpus.arrays["video"], corpus.arrays["audio"], corpus.arrays["embedding"]):
        assert x.dtype == np.float32 and (x * 256 == np.round(x * 256)).all()


def test_a_synthetic_corpus_of_the_same_form(corpus):
    assert corpus.synthetic and "synthetic" in corpus.title
    assert len(corpus) == 700 and len(set(corpus.ids)) == 700 and corpus.ids[1] == "demo/0001"
    counts = np.bincount(corpus.label)
    share = np.array([e.utterances for e in EMOTIONS.values()])
    assert share.sum() == 7487 and corpus.classes == list(EMOTIONS)
    assert np.abs(counts - 700 * share / 7487).max() < 1
    for name in NAMES:
        length, (steps, _) = corpus.lengths[name], getattr(corpus.sizes, name)
        x = corpus.features(name, range(len(corpus)))
        assert length.min() >= 3 and length.max() == steps and len(set(length)) > 4
        padding = np.arange(steps) >= length[:, None]
        assert (x[padding] == 0).all()
    tokens = corpus.arrays["tokens"]
    assert ((tokens > 0) == (np.arange(corpus.sizes.text.length) < corpus.lengths["text"][:, None])).all()
    assert tokens.dtype == np.int32 and (corpus.arrays["embedding"][0] == 0).all()


def test_words(corpus):
    assert len(set(corpus.words)) == len(corpus.words) == len(corpus.arrays["embedding"]) and corpus.words[0] == ""
    silent = {w for w, vector in zip(corpus.words, corpus.arrays["embedding"], strict=True) if not vector.any()}
    assert silent == {"", *demo.UNKNOWN_WORDS.split()}
    row = int(np.flatnonzero((planted(corpus, "text") == CUE).any(1) & (corpus.label == 4))[0])
    said = np.array(corpus.transcript(row))[planted(corpus, "text")[row, : corpus.lengths["text"][row]] == CUE]
    assert set(said) <= set((demo.WORDS["frustrated"] + " " + demo.WORDS["row 2"]).split())


@pytest.mark.parametrize("utterances", [35, 60, 350, 700, 1001])
def test_counts_add_up(utterances):
    counts = demo.class_counts(utterances)
    assert counts.sum() == utterances and counts.min() >= FOLDS


def test_folds_partition_and_hold_every_class(corpus, tmp_path):
    for c in (corpus, make_demo_corpus(tmp_path / "small", utterances=35)):
        assert list(c.folds) == [1, 2, 3, 4, 5]
        assert (np.sort(np.concatenate([f.test for f in c.folds.values()])) == np.arange(len(c))).all()
        for fold in c.folds.values():
            assert (np.sort(np.concatenate(fold)) == np.arange(len(c))).all()
            assert all(len(set(c.label[rows])) == 7 for rows in fold)
            assert len(fold.train) > 2.5 * len(fold.test)


@pytest.mark.parametrize("name", NAMES)
def test_two_loud_segments_within_the_utterance(corpus, name):
    shortest, longest = SEGMENT[name]
    for mask, length in zip(planted(corpus, name), corpus.lengths[name], strict=True):
        loud = segments(mask)
        assert mask.dtype == np.uint8 and not mask[length:].any()
        assert sum(kind == CUE for kind, *_ in loud) <= 1 and any(kind == DECOY for kind, *_ in loud)
        assert 2 * shortest <= (mask != NOTHING).sum() <= 2 * longest
        if len(loud) == 2:
            assert all(shortest <= stop - start <= longest for _, start, stop in loud)


def test_who_has_a_cue(corpus):
    has = np.stack([(planted(corpus, name) == CUE).any(1) for name in NAMES])
    assert set(has.sum(0)) == {1, 2}
    assert (has.sum(0) == 2).sum() == 350
    for name, one in zip(NAMES, has & (has.sum(0) == 1), strict=True):
        assert {corpus.classes[k] for k in corpus.label[one]} == set(ALONE[name])


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_share_of_conjunctions(tmp_path, share):
    c = make_demo_corpus(tmp_path / "demo", utterances=200, conjunction=share)
    cues = sum((planted(c, name) == CUE).any(1).astype(int) for name in NAMES)
    assert (cues == 2).sum() == round(200 * share) and (cues >= 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_cues_and_decoys_are_equally_loud(corpus, name):
    x = corpus.features(name, range(len(corpus)))
    norm = np.linalg.norm((x - demo.AUDIO_OFFSET) / demo.AUDIO_SCALE if name == "audio" else x, axis=2)
    mask = planted(corpus, name)
    valid = np.arange(mask.shape[1]) < corpus.lengths[name][:, None]
    cue, decoy, rest = (norm[valid & (mask == kind)].mean() for kind in (CUE, DECOY, NOTHING))
    assert cue == pytest.approx(decoy, rel=0.02)
    assert cue > 1.02 * rest


@pytest.mark.parametrize("name", NAMES)
def test_decoys_say_nothing_of_the_class(corpus, name):
    decoys = demo.patterns(name)[-demo.DECOYS :]
    which = (scores(corpus, name, DECOY) @ decoys.T).argmax(1)
    table = np.zeros((7, demo.DECOYS))
    np.add.at(table, (corpus.label, which), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 40  # chi-square with 18 degrees: p > 0.002


def test_the_oracle_needs_what_the_scheme_says(corpus):
    """A cue alone tells the class or leaves two or three; any two cues of a conjunction tell it."""
    cue = {name: heard(corpus, name) for name in NAMES}
    cells = {TABLE[r][c]: dict(text=r, video=c, audio=(r + c) % 3) for r in range(3) for c in range(3) if TABLE[r][c]}
    right = []
    for i, label in enumerate(corpus.label):
        seen = {name: cue[name][i] for name in NAMES if cue[name][i] >= 0}
        if len(seen) == 1:
            ((name, k),) = seen.items()
            guess = ALONE[name][k] if k < len(ALONE[name]) else None
        else:
            groups = {name: k - len(ALONE[name]) for name, k in seen.items()}
            fits = [c for c, cell in cells.items() if all(cell[name] == g for name, g in groups.items())]
            guess = fits[0] if len(fits) == 1 else None
        right.append(guess == corpus.classes[label])
    assert np.mean(right) > 0.97  # the rest is noise
    for name in NAMES:
        together = [cells[corpus.classes[k]][name] for k in range(7)]
        assert all(together.count(g) >= 2 for g in range(3))  # one cue of a conjunction leaves two classes or more
        assert set(heard(corpus, name)) == set(range(-1, len(ALONE[name]) + 3))


def test_what_is_there_already(corpus, tmp_path):
    assert make_demo_corpus(corpus.path).fingerprint == FINGERPRINT
    for other in (dict(seed=1), dict(utterances=699), dict(conjunction=0.4)):
        with pytest.raises(CorpusError, match="seed=0"):
            make_demo_corpus(corpus.path, **other)
    (tmp_path / "notes").mkdir()
    with pytest.raises(CorpusError, match=r"corpus\.json"):
        make_demo_corpus(tmp_path / "notes")
    make_demo_corpus(tmp_path / "iemocap", utterances=35)
    manifest = tmp_path / "iemocap" / "corpus.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"source": "/data/iemocap"}))
    with pytest.raises(CorpusError, match="/data/iemocap"):
        make_demo_corpus(tmp_path / "iemocap", utterances=35)


@pytest.mark.parametrize("bad", [dict(utterances=34), dict(conjunction=1.1), dict(conjunction=-0.1)])
def test_settings_out_of_range(tmp_path, bad):
    with pytest.raises(MmerError, match="35 or more"):
        make_demo_corpus(tmp_path / "demo", **bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_three_modalities_beat_two_beat_one(corpus):
    """Trains nine networks: a minute or more."""

    def accuracy(name, fold):
        run = train(corpus, Variant.from_name(name), fold, 1, Protocol())
        return (run.logits["test"].argmax(1) == corpus.label[corpus.folds[fold].test]).mean()

    uni, bi, tri = (np.mean([accuracy(name, k) for k in (1, 2, 3)]) for name in ("self_t", "self_tv", "self_tva"))
    assert 0.3 < uni < bi < tri and 0.5 < tri < 0.8
