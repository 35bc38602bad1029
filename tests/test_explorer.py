"""The panel of 04 explores: what it finds, what it sets side by side, and what happens if parts are taken out."""

import dataclasses
import json
import time

import numpy as np
import pytest
import torch
from panels import FOLDS, TRAINED, Panel, choices, content, in_colours, make_study, pixels

import mmer_core as mc
from mmer_core import figures, widgets
from mmer_core.explain import Stretch, explain, explain_without, stretches
from mmer_core.training import feed
from mmer_core.widgets import maps

ALL = -2


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> mc.Study:
    return make_study(tmp_path_factory.mktemp("explorer"))


@pytest.fixture(autouse=True)
def forgotten(study):
    (study.ledger.folder / ".panels.json").unlink(missing_ok=True)


@pytest.fixture
def panel(study) -> Panel:
    return Panel(widgets.attention_panel(study))


def shown(figure_of, explanation, top, head):
    """The pixels that a map has to have."""
    one = explanation.maps[figure_of]
    weights = one.weights.mean(0) if head < 0 else one.weights[head]
    return in_colours(len(one.keys.labels) * weights, top)


def test_filters_leave_what_passes_one_by_one(study, panel):
    corpus, rng, seen = study.corpus, np.random.default_rng(0), set()
    softmax = {}
    for kind in ("self", "cross"):
        for (fold, _), said in study.predictions(f"{kind}_tva").items():
            assert said["ids"].tolist() == [corpus.ids[r] for r in corpus.folds[fold].test]
            softmax[kind, fold] = torch.from_numpy(said["logits"]).softmax(1).numpy()
    for _ in range(120):
        for name in ("fold", "class", "named", "answer", "confidence"):
            keep = name in ("class", "named") and rng.random() < 0.7
            panel[name].value = -1 if keep else choices(panel[name])[rng.integers(len(panel[name].options))]
        panel["search"].value = sought = str(rng.choice(["", "", "can", "HAVE", "00", "zzz"]))
        fold, wanted = panel["fold"].value, []
        for n, row in enumerate(corpus.folds[fold].test.tolist()):
            p, label = softmax["self", fold][n], corpus.label[row]
            answer = {"any": True, "right": p.argmax() == label, "wrong": p.argmax() != label}
            answer["disputed"] = p.argmax() != softmax["cross", fold][n].argmax()
            words = f"{corpus.ids[row]} {' '.join(corpus.transcript(row))}".lower()
            passes = [answer[panel["answer"].value], sought.lower() in words]
            passes += [panel["class"].value in (-1, label), panel["named"].value in (-1, p.argmax())]
            passes += [{0: True, -1: p.max() < 0.5, 1: p.max() >= 0.5}[panel["confidence"].value]]
            wanted += [row] if all(passes) else []
        assert choices(panel["utterance"]) == wanted
        assert ("No utterance of the test part passes" in panel.message) == (not wanted) == (not panel.maps)
        seen.add((panel["answer"].value, bool(wanted)))
    assert len(seen) == 8


def test_a_cell_of_the_confusion_leads_to_its_utterances(study, panel):
    for cell in panel.page.select(".mmer-cells button"):
        wanted = json.loads(cell["data-choose"])  # places in the two boxes, which panel.js sets
        for name, place in wanted.items():
            panel[name].index = place
        assert len(choices(panel["utterance"])) == int(cell.get_text())
    counts = study.record("self_tva", 1, 1).confusion
    panel["class"].index = panel["named"].index = 0
    assert [int(c.get_text()) for c in panel.page.select(".mmer-cells button")] == counts.ravel().tolist()


def test_disagreement_is_offered_where_both_are_trained(study):
    settings = ([1], FOLDS, study.protocol, study.ledger.folder)
    panel = Panel(widgets.attention_panel(mc.Study(study.corpus, TRAINED, *settings)))
    assert "disputed" in choices(panel["answer"])
    panel["answer"].value = "disputed"
    panel["text"].value = False  # cross_va is not trained
    assert "disputed" not in choices(panel["answer"]) and panel["answer"].value == "any" and panel.maps


@pytest.mark.parametrize(
    "told, zeros", [("", {}), ("text 2-3", {"text": [1, 2]}), ("audio 2, text 1-2", {"audio": [1], "text": [0, 1]})]
)
@pytest.mark.parametrize("muted", ["", "audio"])
def test_what_if_is_the_network_on_zeros(study, panel, told, zeros, muted):
    """Mute, delete, and both."""
    panel["block"].value, row = "a", panel["utterance"].value
    model, corpus = study.model("self_tva", 1, 1), study.corpus
    batch = feed(model, corpus, np.array([row]), 1)
    with torch.no_grad():
        before = model(**batch).logits.softmax(1)[0].numpy()
        for name, places in zeros.items():
            batch[name][0, places] = 0
        if muted:
            batch[muted] = torch.zeros_like(batch[muted])
        after = model(**batch).logits.softmax(1)[0].numpy()
    panel["delete"].value = told
    if muted:
        panel[f"mute {muted}"].value = True
    numbers = [float(r.select("td")[-1].get_text()) for r in panel.page.select(".mmer-probabilities tr")]
    np.testing.assert_allclose(numbers, after, atol=0.0051)
    assert ("No recording is like this" in panel.message) == bool(told or muted) == ("grey: before" in panel.text)
    if told or muted:
        first = before.argmax()
        assert f"{before[first]:.2f} before, {after[first]:.2f} after" in panel.message
        assert [s["style"] for s in panel.page.select(".mmer-bar s")] == [f"width: {100 * p:.1f}%" for p in before]
        old, new = explain(model, corpus, row, 1), explain_without(model, corpus, row, 1, _gone(zeros, muted))
        np.testing.assert_allclose(new.probability, after, atol=1e-6)
        top = figures.attention_top([*old.maps.values(), *new.maps.values()])
        for (_, (drawn,)), explanation in zip(panel.maps, (old, new), strict=True):
            assert (drawn == shown("a", explanation, top, -1)).all()
        assert f"without_{'audio' if muted else told[:4]}" in panel.saves[1].description


def _gone(zeros, muted):
    return [Stretch(n, p[0] + 1, p[-1] + 1) for n, p in zeros.items()] + ([Stretch(muted)] if muted else [])


def test_what_can_be_deleted_is_told_in_one_sentence(panel):
    lengths = {"text": 5, "audio": 40}
    assert stretches(" text 2-3,audio 40 ,", lengths) == (Stretch("text", 2, 3), Stretch("audio", 40, 40))
    for nonsense in (
        "text",
        "2-3",
        "text 3-2",
        "text 0",
        "text 6",
        "text 4-6",
        "video 1",
        "text -1",
        "text 1;2",
        "text " + "9" * 5000,
    ):
        with pytest.raises(mc.MmerError, match=r"^delete: expected stretches within text 1-5, audio 1-40, .* found '"):
            stretches(nonsense, lengths)
    panel["delete"].value = "<b>words</b>"
    assert panel.message.startswith("This cannot be done. delete: expected") and "<b>words" not in panel.view.page.value
    panel["delete"].value = ""
    assert panel.maps


def test_two_variants_side_by_side_on_one_scale(study, panel):
    panel["beside"].value = study.variants["cross_tva"]
    panel["block"].value, panel["head"].value = "a", 3
    row, corpus = panel["utterance"].value, study.corpus
    found = [explain(study.model(name, 1, 1), corpus, row, 1) for name in ("self_tva", "cross_tva")]
    top = figures.attention_top(m for one in found for m in one.maps.values())
    assert f"{top:.1f} (line: uniform)" in panel.text
    for (_, (drawn,)), one, block in zip(panel.maps, found, ("a", "t_a"), strict=True):
        assert (drawn == shown(block, one, top, 3)).all()
    for name, one in zip(("Self T+V+A", "Cross T+V+A"), found, strict=True):
        assert f"{name} says {one.predicted} with probability {one.probability.max():.2f}" in panel.message
    numbers = [
        [float(td.get_text()) for td in r.select("td")[2::2]] for r in panel.page.select(".mmer-probabilities tr")[1:]
    ]
    np.testing.assert_allclose(numbers, np.stack([one.probability for one in found], 1), atol=0.0051)
    for picture, block in zip(panel.view._pictures, ("a", "t_a"), strict=True):
        assert picture.draw().axes[0].images[0].get_clim() == (0, top) and block in picture.name
    panel["mute video"].value = True
    assert panel.message.count("before,") == 2 and len(panel.maps) == 2


def test_a_muted_modality_that_one_variant_lacks(study, panel):
    panel["beside"].value = study.variants["self_t"]
    panel["mute audio"].value = True
    assert "Self T still says" in panel.message and len(panel.maps) == 2
    panel["video"].value = panel["audio"].value = False
    assert panel["mute audio"].disabled and "No recording" not in panel.message


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_all_blocks_and_heads_at_a_glance(study, panel, kind):
    panel["attention"].value, panel["head"].value = kind, ALL
    found = explain(study.model(f"{kind}_tva", 1, 1), study.corpus, panel["utterance"].value, 1)
    top = figures.attention_top(found.maps.values())
    ((texts, drawn),) = panel.maps
    wanted = [shown(block, found, top, head) for block in found.maps for head in range(-1, 6)]
    assert all((a == b).all() for a, b in zip(drawn, wanted, strict=True))
    assert {"mean", "head 1", "head 6", "audio asks itself" if kind == "self" else "audio asks text"} <= set(texts)
    (saved,) = panel.view._pictures
    title = f"{kind}_tva, fold 1, seed 1, {found.id}, {study.corpus.title}"
    assert content(saved.draw()) == content(figures.attention_glance(found, title, top)) and panel["block"].disabled


def test_large_maps_keep_their_peaks():
    weights = np.zeros((700, 501))
    weights[333, 77] = weights[699, 500] = 4
    shown = pixels(maps.png(weights, 4, 100, 50))
    assert shown.shape == (50, 100, 3)
    assert (shown == in_colours(np.array([[4.0]]), 4)).all(-1).sum() == 2


def test_words_of_users_are_words(study):
    words = ["<b>bold</b>", "&amp;", "\x00\x0b", "'\"", *study.corpus.words[4:]]
    corpus = dataclasses.replace(study.corpus, words=words, classes=[f"<b>{c}&" for c in study.corpus.classes])
    arrays = {**corpus.arrays, "tokens": np.where(corpus.arrays["tokens"] > 0, corpus.arrays["tokens"] % 4, 0)}
    marked = mc.Study(
        dataclasses.replace(corpus, arrays=arrays), TRAINED, [1], FOLDS, study.protocol, study.ledger.folder
    )
    panel = Panel(widgets.attention_panel(marked))
    for head in (-1, ALL):
        panel["head"].value = head
        panel["beside"].value = marked.variants["cross_tva"]
        panel["mute text"].value = True
        assert len(panel.maps) == 2 and not panel.page.select("b b, td b:not([style])")
        assert all("&" in c.get_text() for c in panel.page.select(".mmer-cells tr td:first-child"))


def test_a_redraw_is_quick(study, panel):
    panel["attention"].value, panel["beside"].value = "cross", study.variants["self_tva"]
    spent = []
    for head in (0, 3, ALL, -1, 5):
        began = time.process_time()
        panel["head"].value = head
        spent.append(time.process_time() - began)
    assert min(spent) < 0.3 and max(spent) < 0.6, spent  # seconds of this process: 0.02 to 0.07 beside no other work
