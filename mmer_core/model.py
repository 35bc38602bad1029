"""The networks of the study: one `FusionModel` for every `Variant`.

Rajan, Brutti, Cavallaro: "Is cross-attention preferable to self-attention for multi-modal emotion recognition?",
ICASSP 2022, arXiv:2202.09263. The method section of the paper is `FusionModel.forward`, step by step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmer_core.corpus import MODALITIES, Size, Sizes
from mmer_core.errors import MmerError
from mmer_core.kernels.dropout import draw_seeds, dropout
from mmer_core.layers import AveragedAttention, BiGRU, TemporalConvolution, TimeMixing
from mmer_core.variant import Variant

UNITS = 60  # of the GRU in each direction, and of the embedding
HEADS = 6
TEXT_DROPOUT = 0.25
NOT_PUBLISHED = "these are not the weights of a published network"


@dataclass(frozen=True)
class Output:
    """What `FusionModel` returns: C classes, E = 60, H heads."""

    logits: Float[Tensor, "B C"]
    embedding: Float[Tensor, "B E"]
    column_mean: dict[str, Float[Tensor, "B H K"]]  # a block each: mean over queries of its attention weights
    weights: dict[str, Float[Tensor, "B H Q K"]]  # the weights themselves (without dropout), only on request


class FusionModel(nn.Module):
    """The network of one variant. Parameters carry the names of the published code.

    Args:
        variant: what to build.
        sizes: of the corpus (`corpus.sizes`).
        units, heads: 60 and 6 in the paper.
        dtype: of the parameters. They are drawn in float32 whatever it is, so that both start at the same point.
    """

    def __init__(
        self, variant: Variant, sizes: Sizes, units: int = UNITS, heads: int = HEADS, dtype: torch.dtype = torch.float32
    ):
        super().__init__()
        self.variant, self.sizes = variant, sizes
        slots, d = variant.time_slots(sizes), 2 * units
        for m in variant.modalities:
            name, (T, D) = MODALITIES[m], getattr(sizes, MODALITIES[m])
            if not T:
                raise MmerError(f"{variant.name} needs {name}, which the corpus lacks")
            if m != "t":
                if variant.convolution == "temporal":
                    self.add_module(f"{name}_conv", TemporalConvolution(D, d))
                    D = d
                else:  # time is the channel: every slot mixes all frames
                    self.add_module(f"{name}_conv", TimeMixing(T, slots[m]))
            self.add_module(f"{name}_encoder", BiGRU(D, units))
        for block in variant.blocks:
            self.add_module(f"mha_{block}", AveragedAttention(d, heads, uniform=variant.attention == "uniform"))
        self.concat_linear = nn.Linear(d * (2 if variant.pooling == "statistical" else len(variant.blocks)), units)
        self.classifier = nn.Linear(units, sizes.classes)
        self.to(dtype)

    def forward(
        self,
        text: Float[Tensor, "B T_t D_t"] | None = None,
        video: Float[Tensor, "B T_v D_v"] | None = None,
        audio: Float[Tensor, "B T_a D_a"] | None = None,
        lengths: Mapping[str, Int[Tensor, " B"]] | None = None,
        seeds: Int[Tensor, " n"] | None = None,
        keep_weights: bool = False,
    ) -> Output:
        """Logits of some utterances (the paper's method section, from encoders to classifier).

        Args:
            text, video, audio: what the variant's modalities need; others are ignored.
            lengths: valid steps of "text", "video", "audio"; needed and used only if the variant masks padding.
            seeds: of dropout in training mode, one for text and one a block; they are drawn unless given.
            keep_weights: also return every block's attention weights.

        MmerError if a modality or the lengths are missing.
        """
        drawn: Sequence[Tensor | None] = [None] * (1 + len(self.variant.blocks))
        if self.training:
            seeds = draw_seeds(len(drawn)).to(self.classifier.weight.device) if seeds is None else seeds
            drawn = seeds.unbind()
        text_seed, *block_seeds = drawn
        x, n = self.encode({"text": text, "video": video, "audio": audio}, lengths, text_seed)
        vectors, column_mean, weights = [], {}, {}
        for block, seed in zip(self.variant.blocks, block_seeds, strict=True):
            source, target = block[0], block[-1]
            attention = self.attention(block)
            vector, column_mean[block] = attention(x[target], x[source], n[target], n[source], seed)
            vectors.append(vector)  # (B, d)
            if keep_weights:
                weights[block] = attention.weights(x[target], x[source], n[source])
        embedding = self.embed(torch.stack(vectors, 1))  # (B, 60)
        return Output(self.classifier(embedding), embedding, column_mean, weights)

    def encode(
        self, given: Mapping[str, Tensor | None], lengths: Mapping[str, Tensor] | None, seed: Tensor | None = None
    ) -> tuple[dict[str, Float[Tensor, "B T d"]], dict[str, Int[Tensor, " B"] | None]]:
        """States of the encoder of each modality ("t", "v", "a"), and how many of them are valid (None: all)."""
        x, n = {}, {}
        for m in self.variant.modalities:
            name = MODALITIES[m]
            frames, length = given.get(name), None
            if frames is None:
                raise MmerError(f"{self.variant.name} needs {name}")
            if self.variant.mask_padding:
                if lengths is None or name not in lengths:
                    raise MmerError(f"{self.variant.name} masks padding and needs the lengths of {name}")
                length = lengths[name]
            x[m], n[m] = self.encode_one(name, frames, length, seed)
        return x, n

    def embed(self, stack: Float[Tensor, "*B blocks d"]) -> Float[Tensor, "*B E"]:
        """The vectors of all blocks, pooled, as the embedding of the utterance."""
        if self.variant.pooling == "statistical":
            mean = stack.mean(-2)
            variance = (stack - mean[..., None, :]).square().sum(-2) / (stack.shape[-2] - 1)
            std = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()  # where it is 0, the root has a gradient
            summary = torch.cat([std, mean], -1)  # (B, 2 d)
        else:
            summary = stack.flatten(-2)  # (B, blocks d)
        return self.concat_linear(summary)

    def attention(self, block: str) -> AveragedAttention:
        """The attention of a block: "t", or "a_t" (source_target)."""
        return getattr(self, f"mha_{block}")

    def encode_one(
        self, name: str, x: Tensor, length: Tensor | None, seed: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Frames [B, T, D] of "text", .. -> encoder states [B, T', d], and how many of them are valid (None: all)."""
        if name == "text":
            if seed is not None:
                x = dropout(x, TEXT_DROPOUT, seed)
        elif self.variant.convolution == "temporal":
            x, length = getattr(self, f"{name}_conv")(x, length)  # (B, ceil(T/2), d)
        else:
            x = getattr(self, f"{name}_conv")(x)  # (B, T', D)
        return getattr(self, f"{name}_encoder")(x, length), length

    def count_parameters(self) -> int:
        """Trainable numbers that the output depends on: the idle queries and keys of `uniform` are left out."""
        idle = sum(m.idle_parameters() for m in self.modules() if isinstance(m, AveragedAttention))
        return sum(p.numel() for p in self.parameters()) - idle


def from_published_weights(arrays: Mapping[str, np.ndarray], heads: int = HEADS) -> FusionModel:
    """The published network that these weights belong to, in their precision and in evaluation mode.

    Attention, modalities, sizes and dtype are read off names and shapes; where shapes leave pooling open (two blocks),
    it is statistical, as published.

    Args:
        arrays: {published name: array}, as in the state dict of the published code, for a time-mixing network.
            MmerError if names, shapes or types are not those of one.
    """
    kinds = {str(np.asarray(a).dtype) for a in arrays.values()}
    if kinds not in ({"float32"}, {"float64"}):
        raise MmerError(f"{NOT_PUBLISHED}: those are all float32 or all float64; got {sorted(kinds) or 'none'}")
    shapes = {name: np.shape(a) for name, a in arrays.items()}
    variant, sizes, units = _read_off(shapes)
    model = FusionModel(variant, sizes, units, heads, getattr(torch, kinds.pop()))
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            want, got = wanted.get(name, "no such weight"), shapes.get(name, "none")
            raise MmerError(f"{NOT_PUBLISHED}: {variant.name} has {name}: {want}; got {got}")
    model.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in arrays.items()})
    return model.eval()


def _read_off(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Variant, Sizes, int]:
    """Variant, sizes and units of the network whose weights have these names and shapes."""
    blocks = {name.split(".")[0].removeprefix("mha_") for name in shapes if name.startswith("mha_")}
    own, cross = any(len(block) == 1 for block in blocks), any("_" in block for block in blocks)
    attention = "both" if own and cross else "cross" if cross else "self"
    modalities = "".join(m for m, name in MODALITIES.items() if f"{name}_encoder.weight_ih_l0" in shapes)
    size, slots = {name: Size() for name in MODALITIES.values()}, {"v": 1, "a": 1}  # of modalities that are absent
    for name, shape in shapes.items():
        if name.endswith("_conv.weight") and shape[-1] != 1:
            raise MmerError(f"{NOT_PUBLISHED}: {name} has kernel 1; got kernel {shape[-1]}")
    try:
        classes, units = shapes["classifier.weight"]
        statistical = len(modalities) > 1 and shapes["concat_linear.weight"][1] == 4 * units
        for m in modalities:
            name, length = MODALITIES[m], 1
            if m != "t":
                slots[m], length, _ = shapes[f"{name}_conv.weight"]
            size[name] = Size(length, shapes[f"{name}_encoder.weight_ih_l0"][1])
    except (KeyError, IndexError, ValueError) as error:  # a name that is missing, or fewer dimensions
        raise MmerError(f"{NOT_PUBLISHED}: {error}") from None
    pooling = "statistical" if statistical else "none"
    variant = Variant(modalities, attention, pooling, slots=(slots["v"], slots["a"]))
    return variant, Sizes(**size, classes=classes), units


def published_arrays(model: FusionModel, grads: bool = False) -> dict[str, np.ndarray]:
    """Parameters, or their gradients, under the names of the published code (a missing gradient is zero)."""
    return {
        name: (p if not grads else torch.zeros_like(p) if p.grad is None else p.grad).detach().cpu().numpy().copy()
        for name, p in model.named_parameters()
    }
