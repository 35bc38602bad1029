"""Any source becomes a store by one writer: small sources, made here, that hold one thing each."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from amh import random_data, random_splits, write_tree

import mmer_core as mc
from mmer_core import corpus as reader
from mmer_core.corpus import Size, open_store
from mmer_core.formats import amh
from mmer_core.store import Source, Utterance, write_store

N, WORDS = 30, 20
PLACES = [[(1, ("train", "train", "dev", "test")[i % 4]), (2, ("test", "dev", "train")[i % 3])] for i in range(N)]
STEPS = {"text": (6, 5), "tokens": (6,), "video": (4, 3), "audio": (9, 2)}


class Tiny(Source):
    """Random utterances with these arrays; `change` may spoil one of them."""

    def __init__(self, *names, change=lambda i, utterance: utterance, seed=0, **facts):
        rng = np.random.default_rng(seed)
        self.names, self.change, self.folds = names, change, [1, 2]
        self.facts = {"name": "tiny", "source": "here", "synthetic": True, "classes": ["a", "b"], "words": None} | facts
        self.vectors = rng.standard_normal((WORDS, 5)).astype(np.float32)
        self.embedding = self.vectors if "tokens" in names else None
        self.tokens = rng.integers(WORDS, size=(N, 6))
        self.arrays = {
            "tokens": self.tokens,
            "text": self.vectors[self.tokens],
            "video": rng.standard_normal((N, 4, 3)),
            "audio": rng.standard_normal((N, 9, 2)),
        }
        self.lengths = {m: rng.integers(1, STEPS[m][0] + 1, N) for m in ("text", "video", "audio")}
        self.label = rng.integers(2, size=N)

    def utterances(self):
        for i in range(N):
            lengths = {reader.HOLDS[name]: int(self.lengths[reader.HOLDS[name]][i]) for name in self.names}
            arrays = {name: self.arrays[name][i] for name in self.names}
            yield self.change(i, Utterance(f"u{i}", PLACES[i], int(self.label[i]), lengths, arrays))


# ------------------------------------------------------------------------------------------- fewer modalities


@pytest.mark.parametrize("names", [("text", "audio"), ("tokens", "video"), ("video", "audio"), ("audio",), ("tokens",)])
def test_a_corpus_with_fewer_modalities_answers_for_those_that_it_has(tmp_path, names):
    source = Tiny(*names)
    corpus = write_store(source, tmp_path / "store")
    held = tuple(reader.HOLDS[name] for name in names)
    assert tuple(corpus.lengths) == held
    assert corpus.report()["lengths"]["modality"].tolist() == list(held)
    assert corpus.report()["folds"]["train"].tolist() == [len(fold.train) for fold in corpus.folds.values()]
    assert len(corpus.report()["text"]) == (5 if "tokens" in names else 1)
    assert ("audio_scale" in corpus.arrays) == ("audio" in names)
    for name, m in zip(names, held, strict=True):
        written = source.vectors[source.tokens] if name == "tokens" else source.arrays[name].astype(np.float32)
        np.testing.assert_array_equal(corpus.features(m, range(N)), written)
        assert corpus.features(m, [0], fold=2, steps=1).shape == (1, 1, getattr(corpus.sizes, m).dim)
        assert corpus.lengths[m].tolist() == source.lengths[m].tolist()
    for m in {"text", "video", "audio"} - set(held):
        assert getattr(corpus.sizes, m) == Size() == (0, 0)
        with pytest.raises(mc.MmerError, match=f"no '{m}'; it has {', '.join(held)}"):
            corpus.features(m, [0])
    if "text" not in held:
        assert corpus.transcript(0) == []
    if "tokens" not in names:
        with pytest.raises(mc.MmerError, match="token"):
            corpus.token_counts()


def test_an_utterance_without_video_is_dropped_only_where_there_is_video(tmp_path):
    def silent(i, utterance):
        return dataclasses.replace(utterance, lengths=dict.fromkeys(utterance.lengths, 0)) if i == 5 else utterance

    assert len(write_store(Tiny("text", "audio", change=silent), tmp_path / "a")) == N
    corpus = write_store(Tiny("video", "audio", change=silent), tmp_path / "b")
    assert len(corpus) == N - 1 and "u5" not in corpus.ids and corpus.dropped == {1: 1, 2: 1}
    assert "2 rows (over all folds): dropped, since they have no video." in corpus.findings


# ------------------------------------------------------------------------------------------- fingerprint


@pytest.mark.parametrize(
    ("text", "fingerprint"),
    [("tokens", "553694d30e69dffd"), ("vectors", "55977899a684d24b"), ("vectors and vocabulary", "55977899a684d24b")],
)
def test_trees_have_the_fingerprints_that_ledgers_know(tmp_path, text, fingerprint):
    data = random_data(n=40)
    data["video_seqN"][7], data["audio_seqN"][3] = 0, 99
    tree = write_tree(tmp_path / "tree", data, random_splits(n=40), text)
    assert mc.open_corpus(tree, tmp_path / "store").fingerprint == fingerprint


@pytest.mark.parametrize("what", ["label", "length", "text", "video", "audio", "utterance", "modality"])
def test_other_content_has_another_fingerprint(tmp_path, what):
    def change(i, utterance):
        if i != 3:
            return utterance
        if what == "label":
            return dataclasses.replace(utterance, label=1 - utterance.label)
        if what == "length":
            n = utterance.lengths["audio"]
            return dataclasses.replace(utterance, lengths={**utterance.lengths, "audio": n % 9 + 1})
        if what == "utterance":
            return dataclasses.replace(utterance, lengths={**utterance.lengths, "video": 0})
        return dataclasses.replace(utterance, arrays={**utterance.arrays, what: utterance.arrays[what] + 1})

    names = ("text", "video", "audio")
    first = write_store(Tiny(*names), tmp_path / "first").fingerprint
    other = Tiny("text", "video") if what == "modality" else Tiny(*names, change=change)
    assert write_store(other, tmp_path / "other").fingerprint != first


# ------------------------------------------------------------------------------------------- what a source says


def test_a_new_field_of_the_description_is_written_and_read_by_itself(tmp_path, monkeypatch):
    """Only the class `Corpus` names it, and the source that knows its value."""
    old = write_store(Tiny("audio"), tmp_path / "old")

    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Newer(reader.Corpus):
        tempi: dict | None = None
        speakers: list | None = None

    monkeypatch.setattr(reader, "Corpus", Newer)
    monkeypatch.setattr(reader, "_NOTED", [*reader._NOTED, *dataclasses.fields(Newer)[-2:]])
    source = Tiny(
        "audio", tempi={"audio": 100}, change=lambda i, u: dataclasses.replace(u, facts={"speakers": f"s{i % 3}"})
    )
    corpus = write_store(source, tmp_path / "new")
    assert corpus.tempi == {"audio": 100}
    assert corpus.speakers == [f"s{i % 3}" for i in range(N)]
    assert corpus.fingerprint == old.fingerprint
    older = open_store(old.path)
    assert older.tempi is None and older.speakers is None


def test_a_fact_that_has_no_field_is_not_lost_in_silence(tmp_path):
    with pytest.raises(TypeError, match="tempi"):
        write_store(Tiny("audio", tempi={"audio": 100}), tmp_path / "store")
    assert not list(tmp_path.iterdir())


def test_other_arrays_are_kept_but_not_hashed(tmp_path):
    def with_marks(i, utterance):
        arrays = {**utterance.arrays, "marks": np.full(9, i, np.uint8)}
        return dataclasses.replace(utterance, arrays=arrays)

    plain, marked = Tiny("audio"), Tiny("audio", change=with_marks)
    a, b = write_store(plain, tmp_path / "a"), write_store(marked, tmp_path / "b")
    assert a.fingerprint == b.fingerprint
    assert b.arrays["marks"].dtype == np.uint8 and b.arrays["marks"][:, 0].tolist() == list(range(N))


def spoil(**fields):
    """Change the eighth utterance, some of its arrays or lengths only."""

    def change(i, utterance):
        if i != 7:
            return utterance
        whole = {k: {**getattr(utterance, k), **v} if isinstance(v, dict) else v for k, v in fields.items()}
        return dataclasses.replace(utterance, **whole)

    return change


WRONG = {
    "NaN": (dict(arrays={"audio": np.full((9, 2), np.nan)}), "u7: expected finite numbers, found NaN"),
    "infinity": (dict(arrays={"video": np.full((4, 3), np.inf)}), "u7: expected finite numbers"),
    "more steps": (dict(arrays={"audio": np.zeros((10, 2))}), "u7: expected arrays and facts like those of the first"),
    "more features": (dict(arrays={"video": np.zeros((4, 4))}), "u7: expected arrays"),
    "the same numbers in another shape": (dict(arrays={"audio": np.zeros((2, 9))}), "u7: expected arrays"),
    "one array more": (dict(arrays={"marks": np.zeros(3)}), "u7: expected arrays"),
    "a fact more": (dict(facts={"speakers": "me"}), "u7: expected arrays and facts"),
    "a negative length": (dict(lengths={"audio": -1}), "u7: expected a length of audio from 0 on, found -1"),
    "a token without vector": (dict(arrays={"tokens": np.full(6, WORDS)}), "u7: expected token ids in 0..19, found 20"),
    "a negative token": (dict(arrays={"tokens": np.full(6, -1)}), "u7: expected token ids in 0..19, found -1"),
    "a label without class": (dict(label=2), "label.npy: expected labels in 0..1, found 0..2"),
    "two places in one fold": (dict(places=[(1, "dev"), (1, "test"), (2, "dev")]), "both dev and test, found 1, the"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_in_an_utterance_is_refused_and_leaves_nothing(tmp_path, wrong):
    fields, message = WRONG[wrong]
    with pytest.raises(mc.CorpusError) as caught:
        write_store(Tiny("tokens", "video", "audio", change=spoil(**fields)), tmp_path / "stores" / "a")
    assert message in str(caught.value)
    assert not list((tmp_path / "stores").iterdir())


def test_an_array_that_is_missing_is_refused(tmp_path):
    def without(i, utterance):
        return dataclasses.replace(utterance, arrays={"audio": utterance.arrays["audio"]}) if i == 7 else utterance

    with pytest.raises(mc.CorpusError, match="u7: expected arrays"):
        write_store(Tiny("video", "audio", change=without), tmp_path / "store")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_a_source_that_breaks_off_leaves_nothing(tmp_path, error):
    def break_off(i, utterance):
        if i == 20:
            raise error
        return utterance

    with pytest.raises(mc.CorpusError if error is OSError else error):
        write_store(Tiny("audio", change=break_off), tmp_path / "stores" / "a")
    assert not list((tmp_path / "stores").iterdir())


# ------------------------------------------------------------------------------------------- in pieces


def test_a_corpus_need_not_fit_into_memory(tmp_path):
    class Large(Tiny):
        def utterances(self):
            for i in range(2000):
                video = np.full((32, 800), i, np.float32)  # 0.1 MB: 200 MB together
                yield Utterance(
                    f"u{i}", PLACES[i % N], i % 2, {"video": 32, "audio": 1}, {"video": video, "audio": ONE}
                )

    tracemalloc.start()
    try:
        corpus = write_store(Large("video", "audio"), tmp_path / "store")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(corpus) == 2000 and (corpus.arrays["video"][:, 3, 3] == np.arange(2000)).all()
    assert peak < 16e6  # a few batches of utterances


ONE = np.ones((2, 2), np.float32)


def test_making_a_source_of_a_tree_reads_no_large_file(tmp_path):
    data = random_data()
    data["audio_mfcc"][:] = np.nan
    source = amh.Tree(write_tree(tmp_path / "tree", data, random_splits()))
    assert all(isinstance(part.arrays["audio"], np.memmap) for part in source.parts.values())
    with pytest.raises(mc.CorpusError, match=r"train_audio_mfcc\.npy: expected finite numbers"):
        write_store(source, tmp_path / "store")


# ------------------------------------------------------------------------------------------- a store that lies


def lie(name, at, value):
    def change(store):
        array = np.load(store / f"{name}.npy")
        array[at] = value
        np.save(store / f"{name}.npy", array)

    return change


def fewer_ids(store):
    description = json.loads((store / "corpus.json").read_text())
    (store / "corpus.json").write_text(json.dumps(description | {"ids": description["ids"][1:]}))


def other_sizes(store):
    description = json.loads((store / "corpus.json").read_text())
    (store / "corpus.json").write_text(json.dumps(description | {"sizes": {"audio": [9, 3]}}))


def rows_beyond(store):
    with np.load(store / "folds.npz") as z:
        folds = dict(z)
    folds["2_dev"][0] = N
    np.savez(store / "folds.npz", **folds)


LIES = {
    "a length beyond the array": (lie("length_audio", 3, 10), "length_audio.npy: expected time steps in 1..9, found"),
    "no length": (lie("length_audio", 3, 0), "length_audio.npy: expected time steps in 1..9, found 0"),
    "a label without class": (lie("label", 0, 2), "label.npy: expected labels in 0..1, found"),
    "a negative label": (lie("label", 0, -1), "label.npy: expected labels in 0..1, found -1"),
    "rows out of range": (rows_beyond, "folds.npz: expected rows in 0..29, found"),
    "other sizes": (other_sizes, "corpus.json: expected the sizes of the arrays"),
    "fewer ids": (fewer_ids, "corpus.json: expected 30 utterances, as in label.npy, found {'audio': 30"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_store_that_contradicts_itself_is_refused(tmp_path, kind):
    store = write_store(Tiny("audio"), tmp_path / "store").path
    change, message = LIES[kind]
    change(store)
    with pytest.raises(mc.CorpusError) as caught:
        open_store(store)
    assert message in str(caught.value)
