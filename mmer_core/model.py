"""The networks of the study: one `FusionModel` for every `Variant`.

Rajan, Brutti, Cavallaro: "Is cross-attention preferable to self-attention for multi-modal emotion recognition?",
ICASSP 2022, arXiv:2202.09263. The method section of the paper is `FusionModel.forward`, step by step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_core.corpus import MODALITIES, Size, Sizes
from mmer_core.layers import BiGRU, PooledAttention, draw_keys, dropout, linear, valid_steps
from mmer_core.variant import Variant

UNITS = 60  # of the GRU in each direction, and of the embedding
HEADS = 6
TEXT_DROPOUT = 0.25


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
            if m != "t":
                if variant.convolution == "temporal":
                    conv, D = nn.Conv1d(D, d, kernel_size=3, stride=2, padding=1), d
                else:
                    conv = nn.Conv1d(T, slots[m], kernel_size=1)  # time is the channel: every slot mixes all frames
                self.add_module(f"{name}_conv", conv)
            self.add_module(f"{name}_encoder", BiGRU(D, units))
        for block in variant.blocks:
            self.add_module(f"mha_{block}", PooledAttention(d, heads, uniform=variant.attention == "uniform"))
        self.concat_linear = nn.Linear(d * (2 if variant.pooling == "statistical" else len(variant.blocks)), units)
        self.classifier = nn.Linear(units, sizes.classes)
        self.to(dtype)

    def forward(
        self,
        text: Float[Tensor, "B T_t D_t"] | None = None,
        video: Float[Tensor, "B T_v D_v"] | None = None,
        audio: Float[Tensor, "B T_a D_a"] | None = None,
        lengths: Mapping[str, Int[Tensor, " B"]] | None = None,
        keys: Int[Tensor, " K"] | None = None,
        keep_weights: bool = False,
    ) -> Output:
        """Logits of some utterances (the paper's method section, from encoders to classifier).

        Args:
            text, video, audio: what the variant's modalities need; others are ignored.
            lengths: valid steps of "text", "video", "audio"; needed and used only if the variant masks padding.
            keys: of dropout, one for text and one a block; in training mode they are drawn unless given.
            keep_weights: also return every block's attention weights.

        Raises:
            ValueError: if a modality or the lengths are missing.
        """
        given = {"text": text, "video": video, "audio": audio}
        if keys is None and self.training:
            keys = draw_keys(1 + len(self.variant.blocks)).to(self.classifier.weight.device)
        text_key, *block_keys = [None] * (1 + len(self.variant.blocks)) if keys is None else keys.unbind()
        x, n = {}, {}  # states of each encoder, and how many of them are valid (None: all)
        for m in self.variant.modalities:
            name = MODALITIES[m]
            if given[name] is None:
                raise ValueError(f"{self.variant.name} needs {name}")
            if self.variant.mask_padding and (lengths is None or name not in lengths):
                raise ValueError(f"{self.variant.name} masks padding and needs the lengths of {name}")
            length = lengths[name] if self.variant.mask_padding else None
            x[m], n[m] = self._encode(name, given[name], length, text_key)

        vectors, column_mean, weights = [], {}, {}
        for block, key in zip(self.variant.blocks, block_keys, strict=True):
            source, target = block[0], block[-1]
            attention = getattr(self, f"mha_{block}")
            vector, column_mean[block] = attention(x[target], x[source], n[target], n[source], key)
            vectors.append(vector)  # (B, d)
            if keep_weights:
                weights[block] = attention.weights(x[target], x[source], n[source])

        stack = torch.stack(vectors, 1)  # (B, blocks, d)
        if self.variant.pooling == "statistical":
            mean = stack.mean(1)
            variance = (stack - mean[:, None]).square().sum(1) / (len(vectors) - 1)
            std = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()  # 20 times faster than torch.std_mean
            pooled = torch.cat([std, mean], 1)  # (B, 2 d)
        else:
            pooled = stack.flatten(1)  # (B, blocks d)
        embedding = self.concat_linear(pooled)  # (B, 60)
        return Output(self.classifier(embedding), embedding, column_mean, weights)

    def _encode(
        self, name: str, x: Tensor, length: Tensor | None, text_key: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """[B, T, D] -> encoder states [B, T', d], and how many of them are valid (None: all)."""
        if name == "text":
            if text_key is not None:
                x = dropout(x, TEXT_DROPOUT, text_key)
        elif self.variant.convolution == "time-mixing":
            x = getattr(self, f"{name}_conv")(x)  # (B, T', D)
        else:
            if length is not None:
                x = x * valid_steps(length, x.shape[1])[..., None]
                length = (length + 1) // 2
            conv = getattr(self, f"{name}_conv")  # as one product, which leaves padding out
            frames = F.pad(x, (0, 0, 1, 1)).unfold(1, 3, 2).mT.flatten(2)  # (B, ceil(T/2), 3 D)
            x = linear(frames, length, conv.weight.mT.flatten(1), conv.bias)  # (B, ceil(T/2), d)
        return getattr(self, f"{name}_encoder")(x, length), length

    def count_parameters(self) -> int:
        """Trainable numbers that the output depends on: the idle queries and keys of `uniform` are left out."""
        idle = sum(
            2 * m.in_proj_weight.numel() // 3 + 2 * m.in_proj_bias.numel() // 3
            for m in self.modules()
            if getattr(m, "uniform", False)
        )
        return sum(p.numel() for p in self.parameters()) - idle


def from_published_weights(arrays: Mapping[str, np.ndarray], heads: int = HEADS) -> FusionModel:
    """The published network that these weights belong to, in their precision and in evaluation mode.

    Attention, modalities, sizes and dtype are read off names and shapes; where shapes leave pooling open (two blocks),
    it is statistical, as published.

    Args:
        arrays: {published name: array}, as in the state dict of the published code, for a time-mixing network.

    Raises:
        ValueError: if names or shapes are not those of a published network.
    """
    try:
        shape = {name: tuple(np.shape(a)) for name, a in arrays.items()}
        blocks = [name.split(".")[0][4:] for name in shape if name.startswith("mha_") and name.endswith("in_proj_bias")]
        attention = {frozenset([1]): "self", frozenset([3]): "cross", frozenset([1, 3]): "both"}[
            frozenset(map(len, blocks))
        ]
        modalities = "".join(m for m, name in MODALITIES.items() if f"{name}_encoder.weight_ih_l0" in shape)
        d = shape[f"mha_{blocks[0]}.out_proj.bias"][0]
        size, slots = {"text": Size(1, 1), "video": Size(1, 1), "audio": Size(1, 1)}, {"video": 1, "audio": 1}
        for m in modalities:
            name, T = MODALITIES[m], 1
            if m != "t":
                slots[name], T, kernel = shape[f"{name}_conv.weight"]
                if kernel != 1:
                    raise ValueError(f"{name}_conv has kernel {kernel}; the published one has 1")
            size[name] = Size(T, shape[f"{name}_encoder.weight_ih_l0"][1])
        pooling = "statistical" if len(modalities) > 1 and shape["concat_linear.weight"][1] == 2 * d else "none"
        dtypes = {np.asarray(a).dtype for a in arrays.values()}
        if dtypes not in ({np.dtype("float32")}, {np.dtype("float64")}):
            raise ValueError(f"weights are all float32 or all float64; got {sorted(map(str, dtypes))}")
        variant = Variant(modalities, attention, pooling, slots=(slots["video"], slots["audio"]))
        sizes = Sizes(**size, classes=shape["classifier.bias"][0])
        model = FusionModel(variant, sizes, d // 2, heads, getattr(torch, str(dtypes.pop())))
        model.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in arrays.items()})
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"these are not the weights of a published network: {error}") from None
    return model.eval()


def published_arrays(model: FusionModel, grads: bool = False) -> dict[str, np.ndarray]:
    """Parameters, or their gradients, under the names of the published code (a missing gradient is zero)."""
    return {
        name: (p if not grads else torch.zeros_like(p) if p.grad is None else p.grad).detach().cpu().numpy().copy()
        for name, p in model.named_parameters()
    }
