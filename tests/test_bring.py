"""Any corpus: the same utterances are the same corpus in every form, with the folds and classes asked for."""

import json
import pickle
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from conftest import CHECKOUT, SHARED
from forms import CLASSES, SIZES, made_up, padded, write_amh, write_mmsa, write_mult, write_plain

import mmer_core as mc
from mmer_core.corpus import PARTS, Fold
from mmer_core.training import train


@pytest.fixture(scope="module")
def data():
    return made_up()


def opened(tmp_path, place, **settings):
    return mc.open_corpus(place, tmp_path / f"store of {place.name}", **settings)


def by_id(corpus, name):
    return corpus.ids.index(name)


def told(corpus, words):
    (finding,) = [f for f in corpus.findings if words in f]
    return finding


# ------------------------------------------------------------------------------------------------- one corpus


@pytest.fixture(scope="module")
def forms(data, tmp_path_factory):
    """The corpus by form, each with the ids that it has there."""
    home = tmp_path_factory.mktemp("forms")
    splits = {1: {part: list(rows) for part, rows in data.parts.items()}}
    shuffled = np.random.default_rng(3).permutation(len(data.ids))
    places = {
        "plain": write_plain(home / "plain", data, rows=shuffled),
        "npz": write_plain(home / "npz", data, npz=True),
        "mmsa": write_mmsa(home / "mmsa.pkl", data),
        "mult left": write_mult(home / "left.pkl", data),
        "mult right": write_mult(home / "right.pkl", data, left=False, protocol=0),
        "amh": write_amh(home / "amh", data, splits),
        "amh left": write_amh(home / "amh left", data, splits, left=("text", "video", "audio")),
    }
    return {name: opened(home, place) for name, place in places.items()}


def test_every_form_has_the_same_content(forms):
    assert len({corpus.content for corpus in forms.values()}) == 1
    assert {len(corpus) for corpus in forms.values()} == {40}


@pytest.mark.parametrize("form", ["plain", "npz", "mmsa", "mult left"])
def test_utterances_come_out_as_they_were_written(forms, data, form):
    corpus = forms[form]
    for i, name in enumerate(data.ids):
        row = next(r for r, known in enumerate(corpus.ids) if name in known)
        for m in SIZES:
            assert corpus.lengths[m][row] == data.lengths[m][i]
            np.testing.assert_array_equal(corpus.features(m, [row])[0, : data.lengths[m][i]], data.frames[m][i])
            assert not corpus.features(m, [row])[0, data.lengths[m][i] :].any()
        assert corpus.label[row] == data.label[i]
        if corpus.texts:
            assert corpus.texts[row] == data.text[i] and corpus.transcript(row) == data.text[i].split()


@pytest.mark.parametrize("what", ["a frame", "a length", "a label", "an utterance"])
def test_other_content_is_another_corpus(forms, what, tmp_path):
    other = made_up()
    if what == "a frame":
        other.frames["video"][5][0, 0] += 1
    elif what == "a length":
        other.frames["audio"][5] = np.vstack([other.frames["audio"][5], np.zeros((1, SIZES["audio"][1]))])
    elif what == "a label":
        other.label[5] = (other.label[5] + 1) % 7
    rows = [i for i in range(40) if what != "an utterance" or i != 5]
    assert opened(tmp_path, write_plain(tmp_path / "p", other, rows=rows)).content != forms["plain"].content


def test_the_same_folds_give_the_same_bits_in_every_form(forms, data, tmp_path):
    """With the corrected preset, which padding cannot reach: weights, learning curve and scores."""
    results = []
    for form in ("plain", "npz", "mmsa", "amh left"):
        corpus = forms[form]
        row = dict(zip(data.ids, range(40), strict=True))
        if form.startswith("amh"):
            place = {name: corpus.ids[next(iter(np.flatnonzero(_same(corpus, data, i))))] for name, i in row.items()}
        else:
            place = {name: next(known for known in corpus.ids if name in known) for name in row}
        lines = [f"{place[data.ids[i]]},1,{p}" for p, rows in data.parts.items() for i in rows]
        np.random.default_rng(len(form)).shuffle(lines)  # the order of the file decides nothing
        (tmp_path / "folds.csv").write_text("\n".join(["id,fold,part", *lines]))
        again = mc.open_corpus(corpus.path, folds=tmp_path / "folds.csv")
        assert pickle.loads(pickle.dumps(again)).fingerprint == again.fingerprint
        results.append(train(again, mc.Variant("tva", "cross", preset="corrected"), 1, 1, mc.Protocol(max_epochs=2)))
    for other in results[1:]:
        assert other.curve == results[0].curve
        assert all(np.array_equal(w, results[0].weights[name]) for name, w in other.weights.items())


def _same(corpus, data, i):
    """Which rows of a corpus without ids hold utterance i."""
    frames = data.frames["audio"][i]
    return [np.array_equal(corpus.features("audio", [r])[0, : len(frames)], frames) for r in range(len(corpus))]


def test_left_and_right_padding_give_the_same_store(forms):
    left, right = forms["mult left"], forms["mult right"]
    assert left.fingerprint == right.fingerprint
    for name, array in left.arrays.items():
        np.testing.assert_array_equal(array, right.arrays[name])
    assert "padded on the left" in told(left, "rows of text") and not any("left" in f for f in right.findings)
    assert told(forms["amh left"], "Text is padded on the left")
    assert told(forms["amh left"], "video padded on the left, rolled to the start")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real corpus beside the checkout")
def test_a_real_corpus_is_the_same_in_three_forms(tmp_path):
    import subprocess
    import sys

    expand = [sys.executable, SHARED / "real" / "expand.py", "meld", tmp_path / "meld", "fold01"]
    subprocess.run(expand, check=True)
    amh = opened(tmp_path, tmp_path / "meld")
    every = range(len(amh))
    real = made_up(n=len(amh))
    real.label, real.lengths = np.asarray(amh.label), amh.lengths
    real.frames = {m: [amh.features(m, [i])[0, : amh.lengths[m][i]] for i in every] for m in SIZES}
    (folder := tmp_path / "plain").mkdir()
    lines = ["id,label", *(f"{name},{label}" for name, label in zip(real.ids, real.label, strict=True))]
    (folder / "utterances.csv").write_text("\n".join(lines))
    (folder / "corpus.toml").write_text(f"classes = {json.dumps(amh.classes)}")
    for m in SIZES:
        np.savez(folder / f"{m}.npz", **dict(zip(real.ids, real.frames[m], strict=True)))
    plain = opened(tmp_path, folder)
    assert plain.content == amh.content
    assert [a.tolist() for a in mc.make_folds(plain, by=None)[1]] != []


# ------------------------------------------------------------------------------------------------- the plain folder


def test_fold_alone_names_the_test_part_and_the_next_one_is_dev(tmp_path, data):
    data.fold = [1 + i % 4 for i in range(40)]
    corpus = opened(tmp_path, write_plain(tmp_path / "p", data, columns=("fold",)))
    assert list(corpus.folds) == [1, 2, 3, 4]
    for k, fold in corpus.folds.items():
        expected = {"test": k, "dev": k % 4 + 1}
        for part in ("test", "dev"):
            assert {data.fold[data.ids.index(corpus.ids[r])] for r in getattr(fold, part)} == {expected[part]}
        assert sum(map(len, fold)) == 40


def test_part_alone_is_one_fold(tmp_path, data):
    data.part = ["test" if i % 5 == 0 else "dev" if i % 5 == 1 else "train" for i in range(40)]
    corpus = opened(tmp_path, write_plain(tmp_path / "p", data, columns=("part",)))
    assert {p: {data.part[data.ids.index(corpus.ids[r])] for r in getattr(corpus.folds[1], p)} for p in PARTS} == {
        p: {p} for p in PARTS
    }


def test_a_vector_is_one_step_and_padded_lengths_may_be_stated(tmp_path, data):
    folder = write_plain(tmp_path / "p", data, modalities=("audio", "video"))
    for file in (folder / "video").iterdir():
        np.save(file, np.load(file)[0].astype(">f8"))
    (folder / "corpus.toml").write_text("[lengths]\naudio = 5\n[rates]\nvideo = 25")
    corpus = opened(tmp_path, folder)
    assert corpus.sizes.video == (1, 3) and corpus.sizes.audio == (5, 4) and corpus.rates == {"video": 25}
    long = sum(n > 5 for n in data.lengths["audio"])
    assert told(corpus, "audio length beyond the array").startswith(f"{long} rows")
    assert corpus.classes == sorted(CLASSES)


def test_texts_that_are_said_twice_are_two_utterances(tmp_path):
    data = made_up()
    for m in SIZES:
        data.frames[m][1], data.lengths[m][1] = data.frames[m][0], data.lengths[m][0]
    data.label[1] = data.label[0]
    corpus = opened(tmp_path, write_plain(tmp_path / "p", data))
    assert len(corpus) == 40 and set(corpus.ids) == set(data.ids)


def test_features_of_another_model_are_one_argument(tmp_path, data):
    """MERBench's layout: features/<model>-FRA/<id>.npy, and labels in an archive of objects."""
    root = tmp_path / "bench"
    for m, model in (("text", "roberta-FRA"), ("audio", "hubert-FRA"), ("audio", "wavlm-FRA")):
        (root / "features" / model).mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(data.ids):
            np.save(root / "features" / model / f"{name}.npy", data.frames[m][i] + (model == "wavlm-FRA"))
    labels = {name: {"emo": int(k), "val": -10} for name, k in zip(data.ids, data.label, strict=True)}
    np.savez(root / "label.npz", whole_corpus=np.array(labels, object))
    with pytest.raises(mc.CorpusError, match="hubert-FRA, roberta-FRA, wavlm-FRA"):
        mc.open_corpus(root, tmp_path / "none")
    both = {}
    for model in ("hubert-FRA", "wavlm-FRA"):
        both[model] = mc.open_corpus(root, tmp_path / model, text="roberta-FRA", audio=model)
        assert both[model].modalities == "ta" and both[model].label.tolist() == data.label.tolist()
    a, b = (corpus.features("audio", [7])[0, : data.lengths["audio"][7]] for corpus in both.values())
    np.testing.assert_allclose(a + 1, b, rtol=1e-6)
    assert both["hubert-FRA"].content != both["wavlm-FRA"].content
    with pytest.raises(mc.CorpusError, match=r"audio=hubert-FRA.*found one made from .*audio=wavlm-FRA"):
        mc.open_corpus(root, tmp_path / "wavlm-FRA", text="roberta-FRA", audio="hubert-FRA")


def test_what_cannot_be_used_is_left_out_on_request_only(tmp_path, data):
    folder = write_plain(tmp_path / "p", data)
    (folder / "audio" / f"{data.ids[3]}.npy").unlink()
    with pytest.raises(mc.CorpusError, match=rf"line 5: .*{data.ids[3]}.*1 such; skip=True"):
        mc.open_corpus(folder, tmp_path / "a")
    corpus = mc.open_corpus(folder, tmp_path / "a", skip=True)
    assert len(corpus) == 39 and data.ids[3] in told(corpus, "without audio")


# ------------------------------------------------------------------------------------------------- pickles


def test_lengths_come_from_the_mask_then_from_stated_ones_then_from_zeros(tmp_path, data):
    corpus = opened(tmp_path, write_mmsa(tmp_path / "mmsa.pkl", data))
    assert [told(corpus, f"{m}: lengths from") for m in SIZES] == [
        "text: lengths from the mask of text_bert.",
        "video: lengths from vision_lengths.",
        "audio: lengths from audio_lengths.",
    ]
    zeros = opened(tmp_path, write_mult(tmp_path / "mult.pkl", data))
    assert "first and last frame that is not zero" in told(zeros, "audio: lengths")


def test_text_behind_the_mask_and_minus_infinity_are_dealt_with_and_told(tmp_path, data):
    def noisy(rows):
        return padded(data, "text", rows) + 1000 * (np.arange(6) >= data.lengths["text"][rows][:, None])[..., None]

    def loud(rows):
        x = padded(data, "audio", rows)
        x[0, 0, 0] = -np.inf
        return x

    quiet = made_up()
    for rows in quiet.parts.values():
        quiet.frames["audio"][rows[0]][0, 0] = 0
    corpus = opened(tmp_path, write_mmsa(tmp_path / "mmsa.pkl", data, text=noisy, audio=loud))
    assert corpus.content == opened(tmp_path, write_mmsa(tmp_path / "quiet.pkl", quiet)).content
    assert told(corpus, "-inf") == "3 numbers of audio are -inf, taken as 0."


def test_scores_are_rounded_or_cut_at_edges_of_ones_own(tmp_path, data):
    scores = np.linspace(-3.4, 3.4, 40).astype(np.float32)
    place = write_mmsa(tmp_path / "mmsa.pkl", data, regression_labels=lambda rows: scores[list(rows)])
    corpus = opened(tmp_path, place)
    assert corpus.classes == ["-3", "-2", "-1", "0", "1", "2", "3"]
    for row, name in enumerate(corpus.ids):
        i = data.ids.index(name.split("$_$")[1])
        assert corpus.label[row] == round(min(max(float(scores[i]), -3), 3)) + 3
        assert corpus.scores[row] == pytest.approx(scores[i])
    three = opened(tmp_path, place, classes=[-0.5, 0.5])
    assert three.classes == ["below -0.5", "-0.5 to 0.5", "0.5 or more"]
    assert Counter(three.label.tolist()) == Counter(np.searchsorted([-0.5, 0.5], scores, side="right").tolist())


def test_flags_of_emotions_become_a_class_where_one_is_positive(tmp_path, data):
    def flags(rows, several=False):
        x = np.zeros((len(rows), 4, 2))
        x[np.arange(len(rows)), :, 0] = 1
        for out, i in zip(x, rows, strict=True):
            out[data.label[i] % 4] = 0, 1
            if several and i == 2:
                out[(data.label[i] + 1) % 4] = 0, 1
        return x

    corpus = opened(tmp_path, write_mult(tmp_path / "one.pkl", data, labels=flags))
    assert corpus.classes == ["neutral", "happy", "sad", "angry"]
    assert corpus.label.tolist() == [data.label[data.ids.index(i.split("_0_1.5")[0])] % 4 for i in corpus.ids]
    place = write_mult(tmp_path / "two.pkl", data, labels=lambda rows: flags(rows, several=True))
    with pytest.raises(mc.CorpusError, match=r"train labels: .*2 in row 2 \(1 such; skip=True"):
        opened(tmp_path, place)
    fewer = mc.open_corpus(place, tmp_path / "fewer", skip=True)
    assert len(fewer) == 39 and told(fewer, "without exactly one positive flag").startswith("1 ")


@pytest.mark.parametrize("kind", ["a tuple", "vectors"])
def test_one_vector_an_utterance_is_refused_with_what_to_look_for(tmp_path, data, kind):
    place = write_mmsa(tmp_path / "m.pkl", data, audio=lambda rows: padded(data, "audio", rows)[:, 0])
    if kind == "a tuple":
        place.write_bytes(pickle.dumps(tuple({"Ses01": [1, 2]} for _ in range(9))))
    with pytest.raises(mc.CorpusError, match="attention over time has no meaning there"):
        opened(tmp_path, place)


# ------------------------------------------------------------------------------------------------- classes


def named(tmp_path, data, names):
    """A plain folder whose labels have these names, one after the other."""
    folder = write_plain(tmp_path / "p", data)
    head, *lines = (folder / "utterances.csv").read_text().splitlines()
    lines = [
        ",".join([line.split(",")[0], names[i % len(names)], *line.split(",")[2:]]) for i, line in enumerate(lines)
    ]
    (folder / "utterances.csv").write_text("\n".join([head, *lines]))
    (folder / "corpus.toml").unlink()
    return folder


def test_a_named_set_merges_leaves_out_and_counts(tmp_path, data):
    names = ["neu", "hap", "ang", "sad", "exc", "fru", "xxx", "sur"]
    store = opened(tmp_path, named(tmp_path, data, names))
    four = mc.open_corpus(store.path, classes="iemocap4")
    assert four.classes == ["neutral", "happy", "angry", "sad"] and four.sizes.classes == 4
    assert np.bincount(four.label).tolist() == [5, 10, 5, 5] and len(four) == 25
    wanted = [i for i, name in enumerate(data.ids) if names[i % 8] in ("neu", "hap", "ang", "sad", "exc")]
    assert four.ids == [data.ids[i] for i in wanted]
    for row, i in enumerate(wanted):
        np.testing.assert_array_equal(four.features("video", [row]), store.features("video", [i]))
        assert four.speakers[row] == data.speaker[i]
    assert "fru 5, sur 5, xxx 5" in told(four, "Left out")
    assert "neutral 5 instead of 1708" in told(four, "differ from the published")
    assert len(mc.open_corpus(store.path, classes="iemocap7")) == 35
    assert store.path == four.path and four.fingerprint != store.fingerprint and four.name != store.name


def test_names_of_ones_own_and_what_is_wrong_with_them(tmp_path, data):
    store = opened(tmp_path, write_plain(tmp_path / "p", data)).path
    two = mc.open_corpus(store, classes={"cross": "bad", **dict.fromkeys(sorted({*CLASSES} - {"cross"}), "good")})
    assert two.classes == ["bad", "good"]
    assert two.label.tolist() == [int(CLASSES[k] != "cross") for k in data.label]
    for wrong, message in [
        ({"angry": "bad", "calm": "good"}, "'angry'"),
        ({"calm": "one", "glad": "one"}, "two or more"),
        ("iemocap5", "iemocap4, iemocap6, iemocap7"),
        ("iemocap4", "has no angry, happy, neutral, sad"),
        ([0.5], "scores"),
    ]:
        with pytest.raises(mc.MmerError, match=message):
            mc.open_corpus(store, classes=wrong)


def test_classes_leave_folds_without_what_is_left_out(tmp_path, data):
    data.fold = [1 + i % 4 for i in range(40)]
    place = write_plain(tmp_path / "p", data, columns=("fold",))
    corpus = opened(tmp_path, place, classes={"calm": "calm", "glad": "glad"})
    assert sum(map(len, corpus.folds[2])) == len(corpus) == int(np.isin(data.label, (0, 2)).sum())
    study = mc.Study(
        corpus, ["self_ta"], seeds=[1], folds=[2], protocol=mc.Protocol(max_epochs=1), ledger=tmp_path / "l"
    )
    assert len(study.run(progress=False).results()) == 1  # in a worker, which knows it by its store and what differs
    logits = study.predictions("self_ta")[2, 1]
    assert logits["label"].tolist() == corpus.label[corpus.folds[2].test].tolist()
    assert logits["ids"].tolist() == [corpus.ids[r] for r in corpus.folds[2].test]


# ------------------------------------------------------------------------------------------------- the study's file


def test_the_study_says_folds_and_classes(tmp_path, data):
    write_plain(tmp_path / "mine", data)
    text = """corpus = "mine"\nstore = "store"\nvariants = ["paper"]\nfolds_from = {k = 3, by = "speaker", seed = 1}
classes = {calm = "calm", glad = "warm", cross = "warm"}\nvideo = "none"\n"""
    (tmp_path / "study.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())  # an editor's byte order mark
    study = mc.open_study(tmp_path / "study.toml")
    assert study.corpus.modalities == "ta" and study.corpus.classes == ["calm", "warm"] and study.folds == [1, 2, 3]
    assert set(study.variants) == {"self_t", "self_a", "self_ta", "cross_ta"}
    assert "10 more need a modality that it lacks" in repr(study)
    made = mc.make_folds(study.corpus, 3, "speaker", 1)
    assert [r.tolist() for r in made[2]] == [r.tolist() for r in study.corpus.folds[2]]
    mc.write_folds(study.corpus, made, tmp_path / "folds.csv")
    again = mc.open_study(tmp_path / "study.toml", folds_from="folds.csv")
    assert [r.tolist() for r in again.corpus.folds[2]] == [r.tolist() for r in made[2]]
    assert again.corpus.fingerprint == study.corpus.fingerprint
    (tmp_path / "study.toml").write_bytes(text.replace("warm", "wärm").encode("cp1252"))
    with pytest.raises(mc.CorpusError, match=r"study.toml line 5: .*UTF-8.*cp1252"):
        mc.open_study(tmp_path / "study.toml")


def test_a_corpus_without_folds_opens_but_is_no_study(tmp_path, data):
    corpus = opened(tmp_path, write_plain(tmp_path / "p", data))
    assert corpus.folds == {} and len(corpus) == 40
    with pytest.raises(mc.MmerError, match="folds_from"):
        mc.Study(corpus, ["self_ta"])


def test_variants_that_a_corpus_has_no_modality_for_are_left_out(tmp_path, data):
    data.fold = [1 + i % 3 for i in range(40)]
    corpus = opened(tmp_path, write_plain(tmp_path / "p", data, columns=("fold",), modalities=("text",)))
    study = mc.Study(corpus, ["paper", "uniform_tva"], comparisons=["attention", ("self_t", "self_tva")], margin=0.02)
    assert list(study.variants) == ["self_t"] and study.comparisons() == []
    with pytest.raises(mc.MmerError, match=r"every variant needs a modality that is missing.*\['text'\]"):
        mc.Study(corpus, ["self_tva", "cross_ta"])


def test_a_source_that_changed_is_not_taken_for_the_imported_one(tmp_path, data):
    place = write_amh(tmp_path / "amh", data, {1: {part: list(rows) for part, rows in data.parts.items()}})
    (place / "fold01" / "classes.json").unlink()
    corpus = opened(tmp_path, place)
    assert corpus.classes[:2] == ["class 0", "class 1"]
    (place / "classes.json").write_text(json.dumps(CLASSES))
    with pytest.raises(mc.CorpusError, match=rf"classes.json: .*new since then; delete {corpus.path}"):
        opened(tmp_path, place)
    shutil.rmtree(corpus.path)
    assert opened(tmp_path, place).classes == CLASSES


def test_folds_may_be_given_as_rows(tmp_path, data):
    corpus = opened(tmp_path, write_plain(tmp_path / "p", data))
    rows = np.arange(40)
    given = mc.open_corpus(corpus.path, folds={4: Fold(rows[:20], rows[20:30], rows[30:])})
    assert [set(part.tolist()) for part in given.folds[4]] == [set(range(20)), set(range(20, 30)), set(range(30, 40))]
    with pytest.raises(mc.CorpusError, match="no utterance in both train and test"):
        mc.open_corpus(corpus.path, folds={1: Fold(rows[:20], rows[20:30], rows[19:])})


def test_the_example_for_ones_own_data_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8").split("## Your own data")[1]
    code, settings = (text.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "toml"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert len(re.findall(r"(self|cross)_ta +[123] +0\.\d+|1\.0", capsys.readouterr().out)) == 6
    (tmp_path / "study.toml").write_text(settings.replace("/path/to/", ""))
    study = mc.open_study("study.toml", store="another")
    assert study.corpus.classes == ["calm", "not calm"] and len(study.folds) == 5 and len(study.seeds) == 10
    assert set(study.variants) == {"self_t", "self_a", "self_ta", "cross_ta"}


def test_scores_are_no_classes_and_unread_columns_are_told(tmp_path, data):
    folder = write_plain(tmp_path / "p", data)
    table = (folder / "utterances.csv").read_text()
    (folder / "utterances.csv").write_text(table.replace("speaker", "Speakers", 1))
    assert "Speakers" in told(opened(tmp_path, folder), "not read")
    lines = [f"{name},{k / 3 - 1:.2f}" for k, name in enumerate(data.ids)]
    (folder / "utterances.csv").write_text("\n".join(["id,label", *lines]))
    (folder / "corpus.toml").unlink()
    with pytest.raises(mc.CorpusError, match=r"-1.00; a score is no class"):
        mc.open_corpus(folder, tmp_path / "other")
