"""Every variant against the textbook network, and the promises of the presets."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from textbook import like

import mmer_core as mc
from mmer_core.corpus import Size, Sizes
from mmer_core.kernels.dropout import keep_mask
from mmer_core.variant import PAPER_VARIANTS, Variant

SIZES = Sizes(text=Size(9, 5), video=Size(8, 7), audio=Size(13, 4), classes=7)
NAMES = [*PAPER_VARIANTS, "uniform_t", "uniform_ta", "uniform_tva"]
ALL = [name + suffix for suffix in ("", "_corrected") for name in NAMES] + ["self_tva_temporal", "cross_tva_4x5"]


def batch(dtype=torch.float64, size=4):
    g = torch.Generator().manual_seed(3)
    x = {m: torch.randn(size, *getattr(SIZES, m), generator=g, dtype=dtype) for m in ("text", "video", "audio")}
    n = {m: torch.randint(1, getattr(SIZES, m).length + 1, (size,), generator=g) for m in x}
    n["audio"][0], n["video"][1], n["text"][2] = SIZES.audio.length, 1, SIZES.text.length
    return x, n, torch.randint(7, (size,), generator=g)


def build(name, dtype=torch.float64):
    torch.manual_seed(5)
    model = mc.FusionModel(Variant.from_name(name), SIZES, units=6, heads=3, dtype=dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))  # biases of attention start at zero: move them
    return model


def assert_same(model, ours, book, theirs, label):
    """Logits, and the gradient of the loss by every parameter, to 1e-9; one that ours does not use has none."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    F.cross_entropy(ours, label).backward()
    F.cross_entropy(theirs, label).backward()
    mine = dict(model.named_parameters())
    for name, p in book.named_parameters():
        if p.grad is not None:
            grad = mine[name].grad if mine[name].grad is not None else torch.zeros_like(p)
            torch.testing.assert_close(grad, p.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_evaluation_equals_the_textbook(name):
    model, (x, n, label) = build(name).eval(), batch()
    book = like(model).eval()
    assert_same(model, model(**x, lengths=n).logits, book, book(x, n), label)


@pytest.mark.parametrize("name", ALL)
def test_training_equals_the_textbook_with_the_same_dropout(name, monkeypatch):
    """Our masks, in the order of their use, are handed to the textbook in place of F.dropout's own."""
    model, (x, n, label) = build(name).train(), batch()
    book, seeds = like(model).train(), torch.arange(1 + len(model.variant.blocks)) * 12345
    ours = model(**x, lengths=n, seeds=seeds).logits
    replay = iter(seeds if "t" in model.variant.modalities else seeds[1:])

    def replayed(x, p=0.5, training=True, inplace=False):
        assert training and p == (0.25 if x.shape[-1] == SIZES.text.dim and x.ndim == 3 and x.shape[0] == 4 else 0.1)
        shape = x.shape if x.ndim == 3 else (x.shape[0] * x.shape[1], *x.shape[2:])
        return x * keep_mask(next(replay)[None], shape, p, x.dtype).view(x.shape)

    monkeypatch.setattr(F, "dropout", replayed)
    theirs = book(x, n)
    assert next(replay, None) is None
    assert_same(model, ours, book, theirs, label)


@pytest.mark.parametrize("name", ALL)
def test_float32_stays_close_to_float64(name):
    x, n, _ = batch()
    exact = build(name).eval()(**x, lengths=n).logits
    model = build(name, torch.float64).float().eval()
    rough = model(**{m: a.float() for m, a in x.items()}, lengths=n).logits
    assert (rough - exact).abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize("name", [f"{n}_corrected" for n in NAMES])
@pytest.mark.parametrize("modality", ["text", "video", "audio"])
def test_more_padding_changes_nothing_when_it_is_masked(name, modality):
    model, (x, n, _) = build(name).eval(), batch()
    before = model(**x, lengths=n).logits
    longer = torch.full((4, 5, x[modality].shape[2]), 1e3, dtype=torch.float64)  # whatever stands there
    after = model(**{**x, modality: torch.cat([x[modality], longer], 1)}, lengths=n).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_padding_does_change_the_published_network():
    model, (x, _, _) = build("self_t").eval(), batch()
    x = {**x, "text": torch.cat([x["text"], torch.zeros(4, 5, 5, dtype=torch.float64)], 1)}
    assert (model(**x).logits - model(text=x["text"][:, :-5]).logits).abs().max() > 1e-4


def test_attention_weights_on_request():
    model, (x, n, _) = build("both_tva_corrected").eval(), batch()
    assert model(**x, lengths=n).weights == {}
    out = model(**x, lengths=n, keep_weights=True)
    assert list(out.weights) == list(out.column_mean) == ["t", "v", "a", "a_t", "v_t", "t_v", "a_v", "t_a", "v_a"]
    w = out.weights["a_t"]  # text asks audio
    assert w.shape == (4, 3, 9, 7)
    torch.testing.assert_close(w.sum(-1), torch.ones_like(w[..., 0]))
    for i in range(4):
        queries, keys = int(n["text"][i]), -(-int(n["audio"][i]) // 2)
        assert (w[i, :, :, keys:] == 0).all()
        torch.testing.assert_close(out.column_mean["a_t"][i], w[i, :, :queries].mean(1))


def test_uniform_weighs_all_valid_keys_alike():
    model, (x, n, _) = build("uniform_tva_corrected").eval(), batch()
    w = model(**x, lengths=n, keep_weights=True).weights["t"]
    for i, length in enumerate(n["text"]):
        torch.testing.assert_close(w[i, :, :, :length], torch.full_like(w[i, :, :, :length], 1 / int(length)))


def test_sizes_of_the_study():
    """Parameters at IEMOCAP sizes, counted by hand from the description of the network."""
    sizes = Sizes(Size(128, 300), Size(32, 2048), Size(1000, 120), 7)

    def gru(d):
        return 2 * (180 * d + 180 * 60 + 2 * 180)

    conv = {"t": 0, "v": 32 * 25 + 25, "a": 1000 * 500 + 500}
    encoder = {m: conv[m] + gru(d) for m, d in (("t", 300), ("v", 2048), ("a", 120))}
    block, head = 4 * 120 * 120 + 4 * 120, 60 * 7 + 7
    for name, v in PAPER_VARIANTS.items():
        inputs = 240 if v.pooling == "statistical" else 120 * len(v.blocks)
        wanted = sum(encoder[m] for m in v.modalities) + block * len(v.blocks) + inputs * 60 + 60 + head
        assert mc.FusionModel(v, sizes).count_parameters() == wanted, name
    learned, frozen = (mc.FusionModel(Variant("tva", a), sizes).count_parameters() for a in ("self", "uniform"))
    assert learned - frozen == 3 * (2 * 120 * 120 + 2 * 120)


def test_initial_weights_are_those_of_pytorch():
    """Same distributions as nn.GRU and nn.MultiheadAttention: bounds are met and nearly reached."""
    torch.manual_seed(0)
    model = mc.FusionModel(Variant("tva"), Sizes(Size(9, 50), Size(8, 50), Size(12, 50), 7))
    for name, bound in (("text_encoder.weight_hh_l0", 60**-0.5), ("mha_t.in_proj_weight", (6 / (4 * 120)) ** 0.5)):
        top = model.state_dict()[name].abs().max().item()
        assert 0.98 * bound < top <= bound
    assert (model.mha_a.in_proj_bias == 0).all() and (model.mha_a.out_proj.bias == 0).all()


# ------------------------------------------------------------------------------------------------------- variants


def test_the_fourteen_variants():
    uni = ["self_t", "self_v", "self_a"]
    bi = ["self_tv", "self_ta", "self_va", "cross_tv", "cross_ta", "cross_va"]
    tri = ["self_tva", "cross_tva", "self_tva_nosp", "cross_tva_nosp", "both_tva"]
    assert list(PAPER_VARIANTS) == uni + bi + tri
    assert PAPER_VARIANTS["cross_tva"].blocks == ("a_t", "v_t", "t_v", "a_v", "t_a", "v_a")
    assert PAPER_VARIANTS["cross_va"].blocks == ("a_v", "v_a")
    assert len(PAPER_VARIANTS["both_tva"].blocks) == 9


def test_names_are_unique_and_lead_back():
    seen = {}
    for m, a, p, preset, standard in itertools.product(
        ("t", "v", "a", "tv", "ta", "va", "tva"),
        ("self", "cross", "both", "uniform"),
        (None, "none", "statistical"),
        ("published", "corrected"),
        (None, True, False),
    ):
        try:
            v = Variant(m, a, p, standardise_audio=standard, preset=preset)
        except ValueError:
            assert len(m) == 1 and (a in ("cross", "both") or p == "statistical")
            continue
        assert Variant.from_name(v.name) == v
        assert seen.setdefault(v.name, v) == v


def test_order_of_modalities_does_not_matter():
    assert Variant(modalities="avt") == Variant(modalities="tva")


@pytest.mark.parametrize(
    "wrong",
    [
        dict(modalities="t", attention="cross"),
        dict(modalities="a", attention="both"),
        dict(modalities="t", pooling="statistical"),
        dict(modalities=""),
        dict(modalities="tt"),
        dict(modalities="tx"),
        dict(modalities="tva", attention="crossed"),
        dict(modalities="tva", pooling="max"),
        dict(modalities="tva", preset="fixed"),
        dict(modalities="tva", mask_padding=True),
        dict(modalities="tva", slots=(0, 5)),
        dict(modalities="tva", slots=(5, 5), preset="corrected"),
    ],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError):
        Variant(**wrong)


@pytest.mark.parametrize(
    "name", ["", "self", "self_", "self_x", "cross_t", "self_tva_fast", "tva", "self_t_nosp_nosp_x"]
)
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="no variant is called"):
        Variant.from_name(name)


def test_missing_inputs_are_named():
    model, (x, n, _) = build("self_tva_corrected").eval(), batch()
    with pytest.raises(ValueError, match="needs video"):
        model(text=x["text"], audio=x["audio"], lengths=n)
    with pytest.raises(ValueError, match="lengths of text"):
        model(**x)


def test_a_corpus_that_lacks_a_modality_is_named():
    sizes = Sizes(text=Size(9, 5), video=Size(), audio=Size(13, 4), classes=7)
    assert mc.FusionModel(Variant("ta", "cross"), sizes).classifier.out_features == 7
    with pytest.raises(mc.MmerError, match="cross_tva needs video"):
        mc.FusionModel(Variant("tva", "cross"), sizes)


def test_published_arrays_have_gradients_for_all(rng):
    model = build("uniform_ta")
    model(**batch()[0]).logits.sum().backward()
    grads = mc.published_arrays(model, grads=True)
    assert np.all(grads["mha_t.in_proj_weight"][:24] == 0) and np.any(grads["mha_t.in_proj_weight"][24:] != 0)
