"""The study's networks as a textbook would write them: nn.GRU, nn.MultiheadAttention, every query's output computed.

The second truth beside the golden tensors. It shares no code with mmer_core, and takes its weights by name.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

NAMES = {"t": "text", "v": "video", "a": "audio"}


class Textbook(nn.Module):
    """blocks: "t" or "a_t" (source_target); slots: T' of (video, audio), or None for the temporal convolution."""

    def __init__(self, modalities, blocks, dims, steps, classes, slots, *, pooled, masked, uniform, units=60, heads=6):
        super().__init__()
        self.modalities, self.blocks = modalities, blocks
        self.pooled, self.masked, self.uniform, self.temporal = pooled, masked, uniform, slots is None
        d = 2 * units
        for m in modalities:
            name, dim = NAMES[m], dims[m]
            if m != "t" and self.temporal:
                setattr(self, f"{name}_conv", nn.Conv1d(dim, d, 3, stride=2, padding=1))
                dim = d
            elif m != "t":
                setattr(self, f"{name}_conv", nn.Conv1d(steps[m], slots["va".index(m)], 1))
            setattr(self, f"{name}_encoder", nn.GRU(dim, units, bidirectional=True, batch_first=True))
        for block in blocks:
            setattr(self, f"mha_{block}", nn.MultiheadAttention(d, heads, dropout=0.1, batch_first=True))
        self.concat_linear = nn.Linear(2 * d if pooled else d * len(blocks), units)
        self.classifier = nn.Linear(units, classes)

    def encode(self, m, x, n):
        name = NAMES[m]
        if m == "t":
            x = F.dropout(x, 0.25, self.training)
        elif self.temporal:
            if self.masked:
                x = torch.stack([F.pad(x[i, :k], (0, 0, 0, x.shape[1] - k)) for i, k in enumerate(n)])
                n = torch.div(n + 1, 2, rounding_mode="floor")
            x = getattr(self, f"{name}_conv")(x.transpose(1, 2)).transpose(1, 2)
        else:
            x = getattr(self, f"{name}_conv")(x)
        gru = getattr(self, f"{name}_encoder")
        if not self.masked:
            return gru(x)[0], None
        packed = pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])[0], n

    def attend(self, block, query, key, n_query, n_key):
        mha = getattr(self, f"mha_{block}")
        padding = None if n_key is None else torch.arange(key.shape[1]) >= n_key[:, None]
        if self.uniform:  # every query and key the same: softmax of equal scores
            state = {"in_proj_weight": mha.in_proj_weight * 1, "in_proj_bias": mha.in_proj_bias * 1}
            d = query.shape[2]
            state["in_proj_weight"] = torch.cat([torch.zeros(2 * d, d, dtype=query.dtype), mha.in_proj_weight[2 * d :]])
            state["in_proj_bias"] = torch.cat([torch.zeros(2 * d, dtype=query.dtype), mha.in_proj_bias[2 * d :]])
            out = torch.func.functional_call(mha, state, (query, key, key), {"key_padding_mask": padding})[0]
        else:
            out = mha(query, key, key, key_padding_mask=padding)[0]
        if n_query is None:
            return out.mean(1)
        return torch.stack([out[i, :k].mean(0) for i, k in enumerate(n_query)])

    def forward(self, x, n):
        states = {m: self.encode(m, x[NAMES[m]], n[NAMES[m]]) for m in self.modalities}
        vectors = []
        for block in self.blocks:
            (key, n_key), (query, n_query) = states[block[0]], states[block[-1]]
            vectors.append(self.attend(block, query, key, n_query, n_key))
        if self.pooled:
            stack = torch.stack(vectors, 1)
            summary = torch.cat([stack.std(1, unbiased=True), stack.mean(1)], 1)
        else:
            summary = torch.cat(vectors, 1)
        return self.classifier(self.concat_linear(summary))


def like(model):
    """The textbook network with the weights of an mmer_core model, read off its variant and state dict."""
    v, s = model.variant, model.sizes
    slots = model.variant.time_slots(s)
    book = Textbook(
        v.modalities,
        v.blocks,
        {"t": s.text.dim, "v": s.video.dim, "a": s.audio.dim},
        {"v": s.video.length, "a": s.audio.length},
        s.classes,
        None if v.convolution == "temporal" else (slots["v"], slots["a"]),
        pooled=v.pooling == "statistical",
        masked=v.mask_padding,
        uniform=v.attention == "uniform",
        units=model.classifier.in_features,
        heads=getattr(model, f"mha_{v.blocks[0]}").heads,
    ).to(next(model.parameters()).dtype)
    book.load_state_dict(model.state_dict())
    return book
