"""The open store: what it answers, what it maps, and what it says when it is damaged."""

import json
import pickle
import shutil
import time

import numpy as np
import pytest
from amh import IEMOCAP, random_data, random_splits, write_tree

import mmer_core as mc
from mmer_core.arrays import frame_scale, moments
from mmer_core.corpus import load_array, open_store


@pytest.fixture(scope="module")
def data():
    data = random_data(n=40)
    data["audio_seqN"][3] = 0
    data["video_seqN"][7] = 0
    data["audio_mfcc"][..., 1] = 5  # a feature that does not vary, in padding neither
    return data


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, data):
    """The same utterances with text as tokens and as vectors."""
    opened = {}
    for text in ("tokens", "vectors"):
        folder = tmp_path_factory.mktemp(text)
        tree = write_tree(folder / "tree", data, random_splits(n=40), text)
        opened[text] = mc.open_corpus(tree, folder / "store")
    return opened


@pytest.fixture(params=["tokens", "vectors"])
def corpus(request, corpora):
    return corpora[request.param]


@pytest.fixture
def store(tmp_path, corpora):
    """A copy of a store, to be damaged or moved."""
    return shutil.copytree(corpora["tokens"].path, tmp_path / "store")


def valid_frames(corpus, rows):
    """[frames, D] float64: the audio of some utterances without padding, one utterance at a time."""
    return np.concatenate([corpus.arrays["audio"][i, : corpus.lengths["audio"][i]] for i in rows]).astype(float)


# ----------------------------------------------------------------------------------------------------- what it says


def test_audio_is_standardised_by_the_train_part_of_the_fold_and_padding_stays_zero(corpus):
    rows = np.arange(len(corpus))[::-1]
    for k, fold in corpus.folds.items():
        frames = valid_frames(corpus, fold.train)
        mean, std = frames.mean(0), frames.std(0)
        assert std[1] == 0
        std[1] = 1
        got = corpus.features("audio", rows, fold=k)
        assert got.dtype == np.float32
        for x, i in zip(got, rows, strict=True):
            n = corpus.lengths["audio"][i]
            np.testing.assert_allclose(x[:n], (corpus.arrays["audio"][i, :n] - mean) / std, rtol=1e-4, atol=1e-5)
            assert not x[n:].any()


def test_the_fold_changes_neither_text_nor_video(corpus):
    for modality in ("text", "video"):
        a, b = (corpus.features(modality, [4, 0, 4], fold=fold) for fold in (None, 2))
        np.testing.assert_array_equal(a, b)


def test_the_scale_of_audio_has_the_digits_of_double_precision():
    x = ([3e6, 1e4, 0.1] + np.random.default_rng(0).standard_normal((200, 7, 3)) * [10, 10, 0]).astype(np.float32)
    length, rows = np.arange(200) % 7 + 1, np.random.default_rng(1).permutation(200)[:150]
    frames = np.concatenate([x[i, : length[i]] for i in rows]).astype(float)
    mean, std = frame_scale(np.stack([moments(x[i, : length[i]]) for i in rows]), length[rows])
    np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-7)
    np.testing.assert_allclose(std, np.where(frames.std(0) > 0, frames.std(0), 1), rtol=1e-6)


def test_small_features_have_a_scale_and_rounding_has_none():
    x = np.random.default_rng(0).standard_normal((20, 5, 2)).astype(np.float32) * np.float32([1e-9, 6e-5])
    x[..., 1] += 1000  # what is left of the small numbers is the rounding of the large one
    _, std = frame_scale(np.stack([moments(one) for one in x]), np.full(20, 5))
    np.testing.assert_allclose(std, [x[..., 0].astype(float).std(), 1], rtol=1e-5)


@pytest.mark.parametrize("modality", ["text", "video", "audio"])
@pytest.mark.parametrize("fold", [None, 1])
def test_fewer_steps_are_the_first_steps(corpus, modality, fold):
    whole = corpus.features(modality, [5, 1], fold=fold)
    assert whole.shape == (2, *getattr(corpus.sizes, modality))
    np.testing.assert_array_equal(corpus.features(modality, [5, 1], fold=fold, steps=2), whole[:, :2])


@pytest.mark.parametrize("modality", ["text", "video", "audio"])
@pytest.mark.parametrize("rows", [range(2, 5), (2, 3, 4), np.array([2, 3, 4], np.int32), np.array([2, 3, 4], np.uint8)])
def test_rows_may_be_any_whole_numbers(corpus, modality, rows):
    got = corpus.features(modality, rows, fold=1)
    np.testing.assert_array_equal(got, corpus.features(modality, [2, 3, 4], fold=1))


@pytest.mark.parametrize("modality", ["text", "video", "audio"])
def test_features_are_fresh_arrays(corpus, modality):
    corpus.features(modality, [0])[:] = 99
    assert not (corpus.features(modality, [0]) == 99).all()


def test_the_report_counts_what_is_there(corpus, data):
    tables = corpus.report()
    kept = data["video_seqN"] > 0
    assert len(corpus) == kept.sum() == 39
    counts = np.bincount(data["label"][kept])
    assert tables["classes"].to_dict("list") == {
        "class": ["sad", "glad", "mad"],
        "utterances": counts.tolist(),
        "share": (counts / 39).tolist(),
    }
    folds = tables["folds"].set_index("fold")
    assert folds["no video"].tolist() == [1, 1]
    for k, parts in random_splits(n=40).items():
        assert folds.loc[k, ["train", "dev", "test"]].tolist() == [kept[rows].sum() for rows in parts.values()]
    lengths = tables["lengths"].set_index("modality")
    for modality, n in corpus.lengths.items():
        assert lengths.loc[modality, "median"] == np.median(n)
        assert lengths.loc[modality, "utterances that fill it"] == (n == getattr(corpus.sizes, modality)[0]).sum()
        assert lengths.loc[modality, "share of padding"] == pytest.approx(
            1 - np.mean(n / corpus.sizes.__dict__[modality][0])
        )


def test_the_report_tells_how_much_of_the_vocabulary_is_covered(tmp_path):
    data = random_data()
    data["W_embedding"][5] = 0
    corpus = mc.open_corpus(write_tree(tmp_path / "tree", data, random_splits()), tmp_path / "store")
    tokens = data["nlp_trans"][data["nlp_trans"] > 0].tolist()
    assert corpus.report()["text"]["value"].tolist() == [
        30,
        len(set(tokens)),
        len(set(tokens) - {5}),
        len(tokens),
        len(tokens) - tokens.count(5),
    ]


def test_a_transcript_has_one_word_for_each_step_of_the_text(corpus):
    for row in range(len(corpus)):
        assert len(corpus.transcript(row)) == corpus.lengths["text"][row]


# --------------------------------------------------------------------------------------------------- how it is kept


def test_large_arrays_are_mapped_read_only_from_the_store(corpus):
    for name in {"video", "audio", "tokens", "text"} & set(corpus.arrays):
        array = corpus.arrays[name]
        assert isinstance(array, np.memmap)
        assert str(array.filename) == str(corpus.path / f"{name}.npy")
        assert not array.flags.writeable
        assert array.dtype == (np.int32 if name == "tokens" else np.float32)


def test_opening_again_takes_a_moment_whatever_the_size(tmp_path):
    data, splits = random_data(n=30, sizes=IEMOCAP, words=3000), random_splits(n=30, folds=1)
    tree = write_tree(tmp_path / "tree", data, splits)
    mc.open_corpus(tree, tmp_path / "store")
    start = time.perf_counter()
    again = mc.open_corpus(tree, tmp_path / "store")
    assert time.perf_counter() - start < 0.5
    assert isinstance(again.arrays["audio"], np.memmap)


def test_a_store_can_be_moved(corpora, store):
    corpus, moved = corpora["tokens"], mc.open_corpus(store)
    assert moved.path == store
    assert moved.fingerprint == corpus.fingerprint
    np.testing.assert_array_equal(moved.features("audio", [0, 1], fold=1), corpus.features("audio", [0, 1], fold=1))


def test_an_open_corpus_says_what_it_is(corpus, demo):
    assert repr(corpus) == "<corpus 'tree': 39 utterances, 3 classes, 2 folds>"
    assert corpus.title == "tree corpus"
    assert "synthetic" in demo.title and "synthetic" in repr(demo)


# ---------------------------------------------------------------------------------------------------------- damage


def change_description(store, **fields):
    file = store / "corpus.json"
    description = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({k: v for k, v in description.items() if v is not None}))


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", "{}", '{"format": 1}', "[" * 100_000])
def test_a_broken_description_is_refused(store, content):
    (store / "corpus.json").write_text(content)
    with pytest.raises(mc.CorpusError, match=r"store/corpus\.json"):
        mc.open_corpus(store)


def test_a_truncated_description_is_refused(store):
    file = store / "corpus.json"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(mc.CorpusError, match=r"store/corpus\.json"):
        mc.open_corpus(store)


@pytest.mark.parametrize("field", ["name", "classes", "folds", "arrays", "sizes", "dropped", "findings"])
def test_a_description_without_one_of_its_fields_is_refused(store, field):
    change_description(store, **{field: None})
    with pytest.raises(mc.CorpusError, match=f"corpus.json.*{field}"):
        mc.open_corpus(store)


def test_a_store_of_another_format_asks_to_be_imported_again(store):
    change_description(store, format=0)
    with pytest.raises(mc.CorpusError, match="format 0; import the corpus again"):
        mc.open_corpus(store)


@pytest.mark.parametrize("name", ["video", "audio", "label", "length_text", "audio_scale"])
def test_a_damaged_array_of_a_store_is_named(store, name):
    file = store / f"{name}.npy"
    whole = np.load(file)
    for damage in (
        lambda: file.write_bytes(file.read_bytes()[:-1]),
        lambda: np.save(file, whole[:-1]),
        lambda: np.save(file, whole.astype(np.float16)),
        lambda: np.save(file, np.array([None])),
        lambda: file.write_bytes(b""),
        file.unlink,
    ):
        damage()
        with pytest.raises(mc.CorpusError, match=f"store/{name}.npy"):
            mc.open_corpus(store)


@pytest.mark.parametrize(
    "damage", ["is missing", "is truncated", "is empty", "is no archive", "lacks a fold", "is an array"]
)
def test_damaged_folds_of_a_store_are_named(store, damage):
    file = store / "folds.npz"
    if damage == "is missing":
        file.unlink()
    elif damage == "lacks a fold":
        np.savez(file, **{"1_train": np.arange(3)})
    elif damage == "is an array":
        with open(file, "wb") as f:
            np.save(f, np.arange(3))
    else:
        content = {"is truncated": file.read_bytes()[:-30], "is empty": b"", "is no archive": b"no archive"}[damage]
        file.write_bytes(content)
    with pytest.raises(mc.CorpusError, match=r"store/folds\.npz"):
        mc.open_corpus(store)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(mc.CorpusError, match=r"corpus\.json"):
        open_store(tmp_path)


def test_any_damage_to_the_head_of_an_array_is_a_corpus_error(tmp_path, rng):
    file = tmp_path / "a.npy"
    np.save(file, np.zeros((4, 3, 2), np.float32))
    whole = file.read_bytes()
    odd = np.frombuffer(b"()[]{}'\",: \n\\0129|<>fOV\0\x80\xff", np.uint8)
    for _ in range(200):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(128, size=2)] = rng.choice(odd, 2)
        file.write_bytes(damaged.tobytes())
        try:
            assert isinstance(load_array(file), np.ndarray)  # some bytes do not matter
        except mc.CorpusError as error:
            assert str(file) in str(error)


def test_a_corpus_error_crosses_process_borders():
    error = mc.CorpusError("fold01/train_label.npy", "numbers", "letters")
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error))))
    assert type(again) is mc.CorpusError
    assert isinstance(again, ValueError)
    assert str(again) == str(error) == "fold01/train_label.npy: expected numbers, found letters"
