"""What is said of attention: against nn.MultiheadAttention, brute force, closed forms, scikit-learn, planted truth."""

import itertools
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from torch import nn

import mmer_core as mc
from mmer_core import explained
from mmer_core.explain import across, causal, decision, filed, ranks, rivals, truth, weights
from mmer_core.explain.reliance import reliance, within_class
from mmer_core.explain.states import centred, decided, states, with_keys
from mmer_core.protocol import Protocol
from mmer_core.training import feed

NAMES = [*mc.PAPER_VARIANTS, "uniform_tva", "self_tva_corrected", "cross_tva_corrected", "both_tva_corrected"]
FOLDS = (1, 2, 3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> mc.Corpus:
    return mc.make_demo_corpus(tmp_path_factory.mktemp("corpora") / "small", utterances=100)


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory) -> mc.Study:
    study = mc.Study(
        corpus,
        ["self_tva", "cross_tva_corrected", "uniform_tva"],
        seeds=(1, 2),
        folds=FOLDS,
        protocol=Protocol(max_epochs=2),
        margin=0.02,
        comparisons=[("self_tva", "cross_tva_corrected")],
        ledger=tmp_path_factory.mktemp("ledger") / "runs",
    )
    return study.run(progress=False)


def network(corpus, name: str, dtype=torch.float64, seed: int = 3) -> mc.FusionModel:
    """An untrained network whose biases are no zeros, so that a forgotten one shows."""
    torch.manual_seed(seed)
    model = mc.FusionModel(mc.Variant.from_name(name), corpus.sizes, dtype=dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.normal_(0, 0.3)
    return model.eval()


def interval(folds, corpus) -> tuple[float, float, float]:
    """The mean of the values of folds, and its 95% interval by the formula of Nadeau and Bengio."""
    overlap = np.mean([len(f.test) / len(f.train) for f in corpus.folds.values()])
    mean, spread = np.mean(folds), np.var(folds, ddof=1) * (1 / len(folds) + overlap)
    half = student.ppf(0.975, len(folds) - 1) * np.sqrt(spread)
    return mean, mean - half, mean + half


def textbook(attention) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(attention.out_proj.in_features, attention.heads, batch_first=True, dtype=torch.float64)
    twin.load_state_dict(attention.state_dict())
    return twin.eval()


def by_textbook(model, found, block, keep=None):
    """Weights [B, H, Q, K] and vector [B, d] of a block by nn.MultiheadAttention, with some keys [B, K] masked."""
    query, source = found.encoded[block[-1]], found.encoded[block[0]]
    gone = ~found.keys(block) if keep is None else ~(found.keys(block) & keep)
    out, maps = textbook(model.attention(block))(query, source, source, gone, average_attn_weights=False)
    n = found.steps[block[-1]]
    valid = torch.arange(query.shape[1]) < n[:, None]
    return maps, (out * valid[..., None]).sum(1) / n[:, None], valid


# ---------------------------------------------------------------------------------------- exact weights, contributions


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_weights_means_and_contributions_are_exact(corpus, name):
    model, rows = network(corpus, name), np.array([0, 5, 9, 40])
    found, out = states(model, corpus, rows, 1), model(**feed(model, corpus, rows, 1))
    assert torch.allclose(found.logits, out.logits, atol=1e-12)
    for i, block in enumerate(model.variant.blocks):
        assert torch.allclose(found.column_mean[block], out.column_mean[block], atol=1e-12)
        added, constant = model.attention(block).contributions(found.column_mean[block], found.encoded[block[0]])
        assert added.shape == (4, 6, *found.encoded[block[0]].shape[1:])
        assert torch.allclose(added.sum((1, 2)) + constant, found.vectors[:, i], atol=1e-12)
        if model.variant.attention != "uniform":
            maps, vector, valid = by_textbook(model, found, block)
            mask = valid[:, None, :, None]
            assert ((found.weights[block] - maps) * mask).abs().max() < 1e-6
            assert torch.allclose(vector, found.vectors[:, i], atol=1e-9)


@pytest.mark.parametrize("name", ["self_tva", "cross_tva", "cross_tva_corrected", "both_tva_corrected"])
@torch.no_grad()
def test_masked_keys_are_key_padding_mask(corpus, name, rng):
    model, rows = network(corpus, name), np.arange(6)
    found = states(model, corpus, rows, 1)
    for block in model.variant.blocks:
        keys = found.keys(block)
        keep = torch.from_numpy(rng.random((6, 4, keys.shape[1])) < 0.5) | (torch.arange(keys.shape[1]) == 0)
        means = with_keys(found, block, keep)
        logits = decided(model, found, {block: means})
        for s in range(4):
            maps, vector, valid = by_textbook(model, found, block, keep[:, s])
            mean = (maps * valid[:, None, :, None]).sum(2) / valid.sum(1)[:, None, None]
            assert torch.allclose(means[:, s], mean, atol=1e-9)
            stack = found.vectors.clone()
            stack[:, list(model.variant.blocks).index(block)] = vector
            assert torch.allclose(logits[:, s], model.classifier(model.embed(stack)), atol=1e-9)


def test_a_receptive_field_is_what_a_frame_reaches(corpus):
    model = network(corpus, "self_tva_corrected")
    for m, name in (("v", "video"), ("a", "audio")):
        T, D = getattr(corpus.sizes, name)
        conv, x = getattr(model, f"{name}_conv"), torch.zeros(1, T, D, dtype=torch.float64)
        for frame in range(T):
            moved = x.clone()
            moved[:, frame] = 1
            reached = (conv(moved)[0] - conv(x)[0]).abs().sum(2)[0] > 1e-9
            assert np.array_equal(reached.numpy(), weights.receptive_field(model, m)[:, frame])
    assert weights.receptive_field(network(corpus, "self_tva"), "a") is None
    assert np.array_equal(weights.receptive_field(model, "t"), np.eye(corpus.sizes.text.length, dtype=bool))


def test_axes_say_what_positions_are(corpus):
    timed = replace(corpus, rates={"video": 3.0, "audio": 10.0})
    model, row = network(corpus, "self_tva_corrected"), 4
    length = int(corpus.lengths["audio"][row])
    assert weights.axis(model, corpus, row, "a") == ("audio (frames)", [str(i + 1) for i in range(0, length, 2)])
    assert weights.axis(model, timed, row, "a") == ("audio (seconds)", [f"{i / 10:.1f}" for i in range(0, length, 2)])
    published = network(corpus, "self_tva")
    assert "each mixes all frames" in weights.axis(published, timed, row, "a").title
    words = weights.axis(published, corpus, row, "t").labels
    assert words == corpus.transcript(row) + ["·"] * (corpus.sizes.text.length - len(corpus.transcript(row)))


# --------------------------------------------------------------------------------------------- from blocks to decision


@torch.no_grad()
def vectors_of(model, corpus, rows, fold, seed):
    drawn = np.random.default_rng(seed).choice(corpus.folds[fold].train, 64)
    return states(model, corpus, rows, fold).vectors, states(model, corpus, drawn, fold).vectors


def test_shapley_values_of_a_linear_network_have_a_closed_form(corpus):
    for name in ("self_tva_nosp", "cross_tva_nosp"):
        model, rows = network(corpus, name), np.arange(5)
        found = decision.shapley(model, corpus, rows, 1)
        mine, others = vectors_of(model, corpus, rows, 1, 0)
        W = (
            (model.classifier.weight @ model.concat_linear.weight).detach().unflatten(1, mine.shape[1:])
        )  # (C, blocks, d)
        exact = torch.einsum("bnd,cnd->bnc", mine - others.mean(0), W)
        exact = exact - exact.mean(2, keepdim=True)
        assert found.blocks == list(model.variant.blocks) and np.abs(found.values - exact.numpy()).max() < 1e-9


@pytest.mark.parametrize("name", ["self_tva", "cross_tv", "self_t"])
def test_shapley_values_are_means_over_all_orders(corpus, name):
    model, rows = network(corpus, name), np.array([2, 7])
    found = decision.shapley(model, corpus, rows, 2, seed=4)
    assert np.abs(found.values.sum(1) - (found.all_blocks - found.no_block)).max() < 1e-9
    mine, others = vectors_of(model, corpus, rows, 2, 4)
    n = mine.shape[1]

    @torch.no_grad()
    def worth(b, present):
        stack = others.clone()
        stack[:, list(present)] = mine[b, list(present)]
        logits = model.classifier(model.embed(stack)).mean(0)
        return logits - logits.mean()

    for b, i in itertools.product(range(2), range(n)):
        total = 0
        for order in itertools.permutations(range(n)):
            before = order[: order.index(i)]
            total = total + worth(b, (*before, i)) - worth(b, before)
        assert np.abs(found.values[b, i] - (total / math.factorial(n)).numpy()).max() < 1e-9


# ------------------------------------------------------------------------------------------------------ rival measures


@pytest.mark.parametrize("name", ["self_tva", "cross_tva_corrected", "uniform_tva", "self_a", "cross_tv_nosp"])
def test_measures_on_inputs_against_brute_force(corpus, name):
    model, rows = network(corpus, name), np.arange(4)
    found = rivals.on_inputs(model, corpus, rows, 1)
    batch = feed(model, corpus, rows, 1)
    names = [n for n in batch if n != "lengths"]
    target = model(**batch).logits.argmax(1)
    empty = {**batch, **{n: 0 * batch[n] for n in names}}
    gained = centred(model(**batch).logits, target) - centred(model(**empty).logits, target)
    complete = sum(found["integrated gradients"][n].sum(1) for n in names)
    assert np.abs(complete - gained.detach().numpy()).max() < 2e-3, "integrated gradients add up"
    given = {n: batch[n].clone().requires_grad_() for n in names}
    centred(model(**{**batch, **given}).logits, target).sum().backward()
    for n in names:
        assert found["occlusion"][n].shape == batch[n].shape[:2]
        product = (given[n].grad * batch[n]).sum(2)
        assert np.abs(found["gradient x input"][n] - product.numpy()).max() < 1e-9
        for t in (0, batch[n].shape[1] - 1):
            without = batch[n].clone()
            without[:, t] = 0
            lost = centred(model(**batch).logits, target) - centred(model(**{**batch, n: without}).logits, target)
            assert np.abs(found["occlusion"][n][:, t] - lost.detach().numpy()).max() < 1e-9


@pytest.mark.parametrize("name", ["self_tva", "cross_tva_corrected", "both_tva", "uniform_tva"])
def test_measures_on_keys_against_brute_force(corpus, name):
    model, rows = network(corpus, name), np.arange(4)
    found = states(model, corpus, rows, 1)
    target = torch.from_numpy(corpus.label[rows])
    measures = rivals.on_keys(model, found, target)
    whole = centred(found.logits, target)
    for i, block in enumerate(model.variant.blocks):
        keys, n = found.keys(block), found.keys(block).sum(1)
        assert torch.allclose(measures["weights"][block].sum(1), torch.ones(4, dtype=torch.float64))
        assert all(((measures[m][block] != 0) & ~keys).sum() == 0 for m in measures), "padding has nothing"
        at_zero = model.attention(block).output(
            torch.zeros(4, 6, 120, dtype=torch.float64), torch.ones(4, 6, 1, dtype=torch.float64)
        )
        stack = found.vectors.clone()
        stack[:, i] = at_zero
        gained = whole - centred(model.classifier(model.embed(stack)), target)
        assert (measures["integrated gradients"][block].sum(1) - gained).abs().max() < 2e-2 * gained.abs().max() + 1e-3
        if name == "uniform_tva":
            continue
        for k in (0, 1):
            keep = torch.arange(keys.shape[1]).expand(4, -1) != k
            _, vector, _ = by_textbook(model, found, block, keep)
            stack = found.vectors.clone()
            stack[:, i] = vector
            lost = (whole - centred(model.classifier(model.embed(stack)), target)) * (n > k)
            assert torch.allclose(measures["leave-one-out"][block][:, k], lost, atol=1e-9)


def test_ranks_against_scipy_and_sklearn(rng):
    a, b = rng.integers(0, 6, (2, 20, 9)).astype(float)
    n = rng.integers(3, 10, 20)
    valid, positive = np.arange(9) < n[:, None], rng.random((20, 9)) < 0.4
    tensors = [torch.from_numpy(x) for x in (a, b, positive, valid)]
    tau = ranks.kendall(tensors[0], tensors[1], tensors[3]).numpy()
    auc, auprc = (f(tensors[0], tensors[2], tensors[3]).numpy() for f in (ranks.auc, ranks.auprc))
    for i in range(20):
        here = valid[i]
        assert tau[i] == pytest.approx(kendalltau(a[i, here], b[i, here]).statistic, nan_ok=True)
        if 0 < positive[i, here].sum() < here.sum():
            assert auc[i] == pytest.approx(roc_auc_score(positive[i, here], a[i, here]))
            assert auprc[i] == pytest.approx(average_precision_score(positive[i, here], a[i, here]))


# ------------------------------------------------------------------------------------------------------- causal checks


def test_deletion_curves_against_one_utterance_at_a_time(study):
    """Top, bottom and kept keys of each measure, with a mask of nn.MultiheadAttention."""
    corpus, fold, name = study.corpus, 1, "cross_tva_corrected"
    model = study.model(name, fold, 1)
    table = causal.deletions(model, corpus, fold)
    model, test = model.double(), corpus.folds[fold].test
    found = states(model, corpus, test, fold)
    target = found.logits.argmax(1)
    before, measures = found.logits.softmax(1), rivals.on_keys(model, found, target)
    for block, share, measure in (
        ("a_t", 0.2, "weights"),
        ("t_v", 0.5, "contributions"),
        ("v_a", 0.01, "leave-one-out"),
    ):
        values: dict[str, list[float]] = {"top": [], "bottom": [], "keep": []}
        score = measures[measure][block].detach().numpy()
        for i, (row, c) in enumerate(zip(test, target.tolist(), strict=True)):
            one = states(model, corpus, np.array([row]), fold)
            n = int(one.keys(block).sum())
            k = min(max(1, round(share * n)), n - 1)
            order = np.argsort(-score[i, :n], kind="stable")
            low = np.argsort(score[i, :n], kind="stable")
            for check, gone in (("top", order[:k]), ("bottom", low[:k]), ("keep", order[k:])):
                keep = torch.ones(1, one.keys(block).shape[1], dtype=torch.bool)
                keep[0, gone.copy()] = False
                _, vector, _ = by_textbook(model, one, block, keep)
                stack = one.vectors.clone()
                stack[:, list(model.variant.blocks).index(block)] = vector
                after = model.classifier(model.embed(stack)).softmax(1)
                values[check].append((before[i, c] - after[0, c]).item())
        for check, lost in values.items():
            row = table.query("block == @block and check == @check and measure == @measure and share == @share")
            assert row["value"].item() == pytest.approx(np.mean(lost), abs=2e-4), (block, check, measure)


def test_random_keys_have_the_number_or_the_weight_of_the_top(corpus):
    """In a network with equal weights: as much weight is as many keys."""
    model = network(corpus, "uniform_tva", torch.float32)
    table = causal.deletions(model, corpus, 1).set_index(["block", "check", "share"])["value"]
    random, matched = (table.xs(check, level="check").dropna() for check in ("random", "matched"))
    assert len(random) == 15 and np.abs(random - matched).max() < 1e-6


def test_attention_replaced_is_another_networks(study):
    """Uniform weights are those of the uniform variant with the same parameters."""
    corpus, fold = study.corpus, 2
    model = study.model("self_tva", fold, 1)
    table = causal.replaced(model, corpus, fold).set_index(["block", "measure"])["value"]
    uniform = mc.FusionModel(mc.Variant.from_name("uniform_tva"), corpus.sizes).eval()
    uniform.load_state_dict(model.state_dict())
    test = corpus.folds[fold].test
    for net, what in ((model, "none"), (uniform, "uniform")):
        with torch.no_grad():
            said = net(**feed(net, corpus, test, fold)).logits.argmax(1).numpy()
        assert table["all blocks", what] == pytest.approx(balanced_accuracy_score(corpus.label[test], said))


def test_what_does_not_depend_on_the_classifier_does_not_change_with_it(study):
    table = causal.randomised(study.model("self_tva", 1, 1), study.corpus, 1)
    table = table.groupby(["check", "measure"])["value"].mean()
    assert table["randomised: classifier", "weights"] == pytest.approx(1)
    assert table["randomised: classifier", "integrated gradients"] < 0.9
    assert table["randomised: encoders", "weights"] < 0.9


# ------------------------------------------------------------------------------------------- reliance, and across tests


def test_reliance_against_brute_force(study):
    corpus, fold, name = study.corpus, 1, "cross_tva_corrected"
    model, test = study.model(name, fold, 2), corpus.folds[fold].test
    table = reliance(model, corpus, fold).set_index(["modality", "change", "level"])["accuracy"].sort_index()
    scores = study.record(name, fold, 2).scores
    assert table["none", "none", 0.0] == pytest.approx(scores["accuracy"])
    batch = feed(model, corpus, test, fold)
    batch["audio"] = 0 * batch["audio"]
    with torch.no_grad():
        said = model(**batch).logits.argmax(1).numpy()
    assert table["audio", "zeros", 0.0] == pytest.approx((said == corpus.label[test]).mean())
    assert len(table.loc["video", "noise"]) == 10 and len(table) == 1 + 3 * (4 + 10)
    other = within_class(corpus, test, np.random.default_rng(1))
    assert (corpus.label[other] == corpus.label[test]).all() and sorted(other) == sorted(test) and (other != test).any()


def test_weights_over_time_keep_their_sum(study):
    corpus = study.corpus
    table = across.attended(study.model("self_tva", 1, 1), corpus, 1)
    assert len(table) == 3 * len(corpus.folds[1].test)
    assert np.allclose(table[across.TIME].mean(axis=1), 1, atol=1e-5) and table["entropy"].between(0, 1).all()
    even = across._over_time(np.ones((2, 7)), np.array([7, 3]))
    assert np.allclose(even[0], 1) and even.shape == (2, across.BINS)
    flat = across.attended(study.model("uniform_tva", 1, 1), corpus, 1)
    assert np.allclose(flat[across.TIME], 1, atol=1e-5) and np.allclose(flat["entropy"], 1, atol=1e-6)


def test_words_are_counted_and_weighed(study):
    corpus, fold = study.corpus, 1
    model = study.model("self_tva", fold, 1)
    table = across.words(model, corpus, fold).set_index(["block", "word", "class"])
    said = [(w, corpus.classes[corpus.label[r]]) for r in corpus.folds[fold].test for w in corpus.transcript(r)]
    assert table["n"].sum() == len(said)
    word, label = said[0]
    assert table["n"]["t", word, label] == said.count((word, label))
    seen = []
    for r in corpus.folds[fold].test:
        mean = weights.explain(model, corpus, int(r), fold).maps["t"].column_mean.mean(0)
        mine = corpus.transcript(r)
        seen += [
            x * len(mean) for x, w in zip(mean, mine, strict=False) if (w, corpus.classes[corpus.label[r]]) == said[0]
        ]
    assert table["weight"]["t", word, label] == pytest.approx(np.mean(seen), rel=1e-4)


def test_seeds_that_agree_and_seeds_that_do_not(rng):
    maps = rng.random((8, across.BINS))
    known = pd.DataFrame(maps, columns=across.TIME).assign(id=range(8), variant="v", fold=1, block="t")
    same = across.stability(pd.concat([known.assign(seed=1), known.assign(seed=2)]))
    assert same["seeds"].item() == pytest.approx(1) and abs(same["utterances"].item()) < 0.4
    other = known.assign(seed=2, **dict(zip(across.TIME, rng.random((across.BINS, 8)), strict=True)))
    mixed = across.stability(pd.concat([known.assign(seed=1), other.sample(frac=1, random_state=1)]))
    theirs = other.set_index("id")[across.TIME].to_numpy()
    taus = [kendalltau(a, b).statistic for a, b in zip(maps, theirs, strict=True)]
    assert mixed["seeds"].item() == pytest.approx(np.mean(taus))


def test_intervals_over_folds(corpus):
    frame = pd.DataFrame({"what": "x", "fold": [1, 1, 2, 3], "seed": [1, 2, 1, 1], "value": [1.0, 3.0, 4.0, 6.0]})
    found = across.over_folds(frame, ["what"], corpus).iloc[0]
    ends = interval(np.array([2.0, 4.0, 6.0]), corpus)
    assert ends[0] == 4 and (found["mean"], found["low"], found["high"]) == pytest.approx(ends)


# --------------------------------------------------------------------------------------------------- against the truth


def test_a_score_that_is_the_truth_is_rated_perfect():
    cue = torch.zeros(2, 8, dtype=torch.bool)
    decoy, valid = cue.clone(), torch.arange(8).expand(2, -1) < torch.tensor([[8], [6]])
    cue[:, 2:4], decoy[:, 5] = True, True
    for score, wanted in ((cue.double(), (1, 1, 1, 1, None, 1)), (decoy.double(), (None, None, 0, 0, None, 0))):
        rated = {check: value for check, _, _, value in truth._rated("x", score, cue, decoy, valid)}
        for check, want in zip(truth.CHECKS, wanted, strict=True):
            assert want is None or rated[check].tolist() == [want, want], check
        assert rated["chance of that"].tolist() == [4 / 8, 4 / 6]


def test_truth_is_about_places_and_refuses_corpora_without(corpus, study):
    table = truth.truth(network(corpus, "cross_tva_corrected", torch.float32), corpus, 1)
    assert set(table["block"]) == {"t_v", "t_a", "a_t", "a_v", "v_t", "v_a", "text", "video", "audio"}
    published = truth.truth(network(corpus, "cross_tva", torch.float32), corpus, 1)
    assert set(published["block"]) == {"t_v", "t_a", "text", "video", "audio"}, (
        "a slot that mixes all frames is no place"
    )
    rated = table[table["check"].isin(truth.CHECKS)]["value"]
    assert rated.between(0, 1).all()
    bare = replace(corpus, arrays={k: x for k, x in corpus.arrays.items() if not k.startswith("planted")})
    with pytest.raises(mc.MmerError, match="only the demo corpus"):
        truth.truth(network(corpus, "self_t", torch.float32), bare, 1)


# ------------------------------------------------------------------------------------------- computed once, and filed


def test_checks_are_computed_once_and_read(study, monkeypatch):
    first = filed.checked(study, "reliance", ["self_tva"], progress=False)
    assert list(first.columns[:3]) == ["variant", "fold", "seed"] and len(first.groupby(["fold", "seed"])) == 6
    monkeypatch.setattr(filed, "in_processes", None)  # whoever computes anything fails
    pd.testing.assert_frame_equal(filed.checked(study, "reliance", ["self_tva"], progress=False), first)
    mine = first.query("fold == 2 and seed == 1").drop(columns=["variant", "fold", "seed"]).reset_index(drop=True)
    direct = reliance(study.model("self_tva", 2, 1), study.corpus, 2)
    pd.testing.assert_frame_equal(mine, direct, check_dtype=False)


def test_controls_need_no_runs_and_are_no_trained_networks(study):
    untrained = filed.checked(study, "truth, untrained", ["cross_tva_corrected"], seeds=[1], progress=False)
    misled = filed.checked(study, "truth, shuffled labels", ["cross_tva_corrected"], seeds=[1], progress=False)
    trained = filed.checked(study, "truth", ["cross_tva_corrected"], seeds=[1], progress=False)
    keys = ["fold", "block", "check", "measure"]
    one, two, three = (t.set_index(keys)["value"].dropna() for t in (untrained, misled, trained))
    assert one.index.equals(three.index) and not np.allclose(one, three) and not np.allclose(two, three)


def test_nonsense_is_refused_before_work(study):
    for asked, match in (
        (("beauty",), "checks are attended, .*; got 'beauty'"),
        (("reliance", ["self_t"]), "has no self_t"),
        (("truth", ["self_tva"], [7]), "none of self_tva has been trained"),
    ):
        with pytest.raises(mc.MmerError, match=match):
            filed.checked(study, *asked)


# ----------------------------------------------------------------------------------------- what notebook 04 makes of it


def test_all_that_is_shown_says_first_that_it_is_not_computed_and_then_what_was_found(study):
    for name in ("explanation_rule", "deletion_curves", "measures_checked", "planted_cues"):
        with pytest.raises(mc.MmerError, match=r"is not computed yet: notebook 04 does it"):
            explained.EXPLAINED[name](
                mc.Study(study.corpus, ["self_tva"], [2], FOLDS, study.protocol, study.ledger.folder)
            )
    assert "are filed" in explained.compute(study, progress=False)
    made = {name: make(study) for name, make in explained.EXPLAINED.items()}
    for name, item in made.items():
        assert hasattr(item, "savefig") or (len(item.frame) and study.corpus.title in item.caption), name

    rows = filed.checked(study, "deletions", seeds=[1], variants=["self_tva"], progress=False)
    lost = rows.query("measure == 'weights' and block == 'v'").pivot_table("value", "fold", "check")
    ends = interval(100 * (lost["top"] - lost["matched"]), study.corpus)
    rule = made["explanation_rule"].frame.query("variant == 'self_tva' and block == 'video asks itself'")
    assert rule["top over matched"].item() == "{:.1f} ({:.1f} to {:.1f})".format(*(round(x, 1) + 0.0 for x in ends))
    c = mc.compare(study.results(), "uniform_tva", "self_tva", rope=0.02)
    assert rule["learned over uniform"].item().startswith(f"{round(100 * c.difference, 1) + 0.0:.1f} (")

    frame = filed.checked(study, "reliance", seeds=[1], variants=["self_tva", "cross_tva_corrected"], progress=False)
    key = ["variant", "fold", "seed"]
    own = frame.query("change == 'none'").set_index(key)["balanced_accuracy"]
    zeros = frame.query("change == 'zeros' and modality == 'audio'").set_index(key)["balanced_accuracy"]
    change = (zeros - own).rename("accuracy").reset_index().assign(n_train=60, n_test=20)
    cell = made["modality_reliance"].frame.query("modality == 'audio' and change == 'zeros'").iloc[0]
    mean = 100 * change.query("variant == 'self_tva'")["accuracy"].mean()
    assert cell["self_tva"].startswith(f"{round(mean, 1) + 0.0:.1f} (")
    shifted = change.assign(accuracy=0.75 + change["accuracy"])
    assert cell["verdict"] == mc.compare(shifted, "self_tva", "cross_tva_corrected", rope=0.02).verdict


def test_bands_of_weights_are_intervals_over_folds(study):
    explained.compute(study, progress=False)
    frame = filed.checked(study, "attended", ["self_tva"], progress=False)
    ax = explained.weights_over_time(study).axes[1]
    assert ax.get_title() == "Self T+V+A: video asks itself"
    for n, name in enumerate(study.corpus.classes):
        line, band = ax.lines[n], ax.collections[n].get_paths()[0].vertices
        mine = frame[(frame["block"] == "v") & (frame["class"] == line.get_label())]
        mean, low, high = interval(mine.groupby("fold")["time 3"].mean(), study.corpus)
        assert name in set(frame["class"]) and line.get_xydata()[2] == pytest.approx((0.25, mean))
        assert np.unique(band[np.isclose(band[:, 0], 0.25), 1].round(6)) == pytest.approx((low, high), abs=1e-5)


def test_words_have_intervals_over_the_folds_that_they_stand_in(study):
    explained.compute(study, progress=False)
    table = explained.attended_words(study).frame
    frame = filed.checked(study, "words", ["self_tva", "cross_tva_corrected"], progress=False)
    seen = set()
    for row in table.itertuples():
        mine = frame[(frame["variant"] == row.variant) & (frame["word"] == row.word)]
        folds = [np.average(f["weight"], weights=f["n"]) for _, f in mine.groupby("fold")]
        told = (
            "{:.2f} ({:.2f} to {:.2f})".format(*interval(folds, study.corpus)) if len(folds) > 1 else f"{folds[0]:.2f}"
        )
        assert row.weight == told, row.word
        seen.add(len(folds))
    assert 3 in seen
    for _, mine in table.groupby("variant"):
        means = mine["weight"].str.split().str[0].astype(float)
        assert len(mine) > 1 and means.is_monotonic_decreasing
    alone = pd.DataFrame({"mean": [1.0], "low": [np.nan], "high": [np.nan]})
    assert explained._told(alone, 2)["told"].item() == "1.00"


def test_the_lowest_keys_are_deleted_beside_as_many_random_ones(study):
    explained.compute(study, progress=False)
    rows = filed.checked(study, "deletions", ["self_tva"], seeds=[1], progress=False).query("share == 0.2")
    axes = {ax.get_title(): ax for ax in explained.deletion_curves(study).axes}
    assert len(axes) == 6
    for part, checks in {
        "without the highest keys": {"weights": "top", "random keys": "random", "matched keys": "matched"},
        "without the lowest keys": {"weights": "bottom", "random keys": "random"},
        "with only the highest keys": {"weights": "keep"},
    }.items():
        drawn = {c.get_label(): c.lines for c in axes[f"Self T+V+A: {part}"].containers if len(c.lines[0].get_xdata())}
        assert set(drawn) == {"contributions", "integrated gradients", "leave-one-out", *checks}
        for measure, check in checks.items():
            mine = rows[(rows["check"] == check) & (rows["measure"] == "weights")]
            mean, low, high = interval(100 * mine.groupby("fold")["value"].mean(), study.corpus)
            line, _, (bars,) = drawn[measure]
            assert line.get_ydata()[3] == pytest.approx(mean)
            assert bars.get_segments()[3][:, 1] == pytest.approx((low, high)), (part, measure)


def test_networks_of_shuffled_labels_stand_beside_the_others_once_they_are_filed(study, monkeypatch):
    explained.compute(study, progress=False)
    asked, names = "truth, shuffled labels", ["self_tva", "cross_tva_corrected"]
    filed.checked(study, asked, names[1:], seeds=[1], progress=False)  # not yet all that are shown
    before = explained.planted_cues(study)
    assert "shuffled labels" not in before.frame and f"explain.checked(study, '{asked}')" in before.caption
    rows = filed.checked(study, asked, names, seeds=[1], progress=False)
    monkeypatch.setattr(filed, "in_processes", None)  # a table computes nothing
    after = explained.planted_cues(study)
    assert list(after.frame.columns[-3:]) == ["trained", "untrained", "shuffled labels"]
    assert "explain.checked" not in after.caption and after.frame.drop(columns="shuffled labels").equals(before.frame)
    mine = rows.query("variant == 'self_tva' and block == 'audio' and check == 'auc' and measure == 'occlusion'")
    cell = after.frame.query("variant == 'self_tva' and block == 'audio' and measure == 'occlusion'")
    ends = interval(100 * mine.groupby("fold")["value"].mean(), study.corpus)
    assert cell["shuffled labels"].item() == "{:.1f} ({:.1f} to {:.1f})".format(*ends)


@pytest.mark.parametrize(
    "low, high, answer", [(0.6, 0.9, "yes"), (0.1, 0.4, "no"), (0.4, 0.6, "open"), (0.5, 0.7, "open")]
)
def test_a_condition_is_met_by_its_whole_interval(low, high, answer):
    assert explained._answer(low, high, 0.5) == answer


def test_little_is_enough_for_what_can_be_said(corpus, tmp_path):
    """One variant without text, one fold, one seed: no interval and no traceback. And before that, nothing at all."""
    study = mc.Study(corpus, ["self_va"], [1], [2], Protocol(max_epochs=1), ledger=tmp_path / "runs")
    assert explained.compute(study, progress=False) == "Not yet: nothing has been trained"
    study.run(progress=False)
    assert "of self_va are filed" in explained.compute(study, progress=False)
    for name, make in explained.EXPLAINED.items():
        try:
            item = make(study)
        except mc.MmerError as error:
            assert name == "attended_words" and "asks text" in str(error)
        else:
            assert hasattr(item, "savefig") or (len(item.frame) and "nan" not in str(item)), name
    rule = explained.explanation_rule(study).frame
    assert set(rule["explanation"]) == {"open"}
    for file in (tmp_path / "runs").rglob("weights.safetensors"):
        file.unlink()
    shutil.rmtree(tmp_path / "runs" / ".checks")
    assert "weights.safetensors" in explained.compute(study, progress=False)
