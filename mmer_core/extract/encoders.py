"""Pretrained encoders of speech, words and pictures: folders, or names under which `transformers` finds them.

On the CPU a recording goes through alone; on a GPU in batches that are padded so that this changes nothing but the
last bits (`batches`).
"""

import hashlib
import json
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmer_core.errors import MmerError
from mmer_core.extract.batches import Encoder
from mmer_core.extract.features import Features, extractor
from mmer_core.extract.found import Recording
from mmer_core.extract.media import pictures, sound

FRAMES = 3  # a second, as in the study
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
MASKED = ("wav2vec2", "hubert", "wavlm")  # kinds of networks that take sounds of different lengths, with a mask
INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
MOST_PIECES = 1 << 20  # of a text, where neither a tokenizer nor a network has a limit
CHUNK = 30  # seconds that Whisper hears at a time
SPEECH, WORDS, PICTURES = 1 << 14, 1 << 12, 64  # steps in a batch: five minutes at 50 a second, word pieces, frames


def _load(kind: str, model: str, what: str, **options: Any) -> Any:
    """A part of `transformers` for a model; MmerError in one sentence if it is not there and cannot be fetched."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return getattr(transformers, kind).from_pretrained(model, **options)
    except Exception as error:  # every way in which files can be missing, or a network
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise MmerError(
            f"{what}: {model!r} is no folder with such a model, and could not be fetched by this name: {first}"
        ) from None


def _encoder(model: str, what: str, part: str = "") -> tuple[Any, str]:
    """A network in evaluation mode, or a part of it, and a digest of its weights."""
    network = _load("AutoModel", model, what)
    network = getattr(network, part, network) if part else network
    found = hashlib.blake2b(digest_size=8)
    for name, w in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(w.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return network.float().eval(), found.hexdigest()  # some are saved with half of the digits


def _settings(network: Any, *prepared: str) -> str:
    """A digest of what else decides: the network's settings, and those of what it gets."""
    told = {k: x for k, x in network.config.to_dict().items() if k not in INCIDENTAL}
    return hashlib.blake2b(
        "".join([json.dumps(told, sort_keys=True, default=str), *prepared]).encode(), digest_size=8
    ).hexdigest()


def _chosen(hidden: tuple[Tensor, ...], last: Tensor, layer: int | str) -> Tensor:
    """The states of a layer, of the last one (normalised, where the network does so), or their mean over all."""
    return last if layer == "last" else torch.stack(hidden).mean(0) if layer == "mean" else hidden[int(layer)]


def _check_layer(layer: int | str, network: torch.nn.Module, what: str) -> None:
    n = getattr(network.config, "num_hidden_layers", None) or len(getattr(network.config, "depths", []))
    if layer not in ("last", "mean") and not (type(layer) is int and -n - 1 <= layer <= n):
        raise MmerError(f'{what}: layer is "last", "mean", or a number up to {n}; got {layer!r}')


def _made(name: str, model: str, digest: str, **more: Any) -> dict[str, Any]:
    import transformers

    return {
        **{"extractor": name, "version": 1, "model": Path(model).name if Path(model).is_dir() else model},
        **{"digest": digest, "transformers": transformers.__version__, **more},
    }


@extractor
def speech(model: str, layer: int | str = "last", stride: int = 1) -> Features:
    """States of wav2vec2, HuBERT, WavLM or Whisper's encoder; of each `stride` steps the mean, to keep T moderate."""
    network, digest = _encoder(model, "speech", part="encoder" if "whisper" in _kind(model, "speech") else "")
    _check_layer(layer, network, "speech")
    if getattr(network.config, "add_adapter", False):
        raise MmerError(f"speech: networks without an adapter, which makes steps of another length; {model!r} has one")
    if type(stride) is not int or stride < 1:
        raise MmerError(f"speech: stride is a whole number from 1 on; got {stride!r}")
    prepare = _load("AutoFeatureExtractor", model, "speech")
    rate = prepare.sampling_rate
    through, each = (_whisper if hasattr(prepare, "n_fft") else _wav)(network, prepare, layer, stride)
    name = model.rstrip("/").split("/")[-1]
    settings = _settings(network, prepare.to_json_string())
    made = _made("speech", model, digest, settings=settings, layer=layer, stride=stride, sampling_rate=rate)
    return Features(name, "audio", through.alone, made, rate / each / stride, encoder=through)


def _kind(model: str, what: str) -> str:
    return _load("AutoConfig", model, what).model_type


def _strided(states: Tensor, stride: int) -> np.ndarray:
    """Of each `stride` steps the mean."""
    x = states.cpu().numpy()
    return np.stack([x[i : i + stride].mean(0) for i in range(0, len(x), stride)]).astype(np.float32)


def _wav(network: Any, prepare: Any, layer: int | str, stride: int) -> tuple[Encoder, int]:
    """A network that hears samples; and samples a step.

    Its convolutions see one recording at a time, since their group norm knows no padding. All behind them sees a batch,
    with a mask of what is padding.
    """
    least, each = 1, 1
    for kernel, step in zip(reversed(network.config.conv_kernel), reversed(network.config.conv_stride), strict=True):
        least, each = (least - 1) * step + kernel, each * step

    def read(recording: Recording) -> Tensor:
        x = sound(recording, prepare.sampling_rate)
        x = np.pad(x, (0, max(0, least - len(x))))  # at least one step
        return prepare(x, sampling_rate=prepare.sampling_rate, return_tensors="pt").input_values[0]

    def steps(x: Tensor) -> int:
        return 1 + (len(x) - least) // each

    @torch.inference_mode()
    def states(some: list[Tensor], to: int) -> list[np.ndarray]:
        n, convolutions = [steps(x) for x in some], network.feature_extractor
        heard = [convolutions(x[None].to(network.device))[0] for x in some]  # each [C, T]
        batch, mask = heard[0][None], None
        if len(some) > 1 or n[0] < to:
            batch = torch.stack([torch.nn.functional.pad(x, (0, to - x.shape[1])) for x in heard])
            samples = torch.arange(least + (to - 1) * each, device=batch.device)
            mask = (samples < torch.tensor([[least + (t - 1) * each] for t in n], device=batch.device)).int()
        network.feature_extractor = torch.nn.Identity()
        try:
            with warnings.catch_warnings():  # WavLM's, of two kinds of mask that torch joins
                warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")
                out = network(batch, attention_mask=mask, output_hidden_states=True)
        finally:
            network.feature_extractor = convolutions
        found = _chosen(out.hidden_states, out.last_hidden_state, layer)
        return [_strided(x[:t], stride) for x, t in zip(found, n, strict=True)]

    known = network.config.model_type in MASKED  # others go through alone, without any padding
    return Encoder(network, read, steps, states, *((64, SPEECH) if known else (1, 1))), each


def _whisper(network: Any, prepare: Any, layer: int | str, stride: int) -> tuple[Encoder, int]:
    """Whisper's encoder, without the states of the silence that fills up 30 seconds; and samples a step."""
    each, whole = 2 * prepare.hop_length, CHUNK * prepare.sampling_rate

    def read(recording: Recording) -> list[tuple[Tensor, int]]:
        """Spectrum and steps of each 30 seconds."""
        x = sound(recording, prepare.sampling_rate)
        parts = [x[start : start + whole] for start in range(0, len(x), whole)]
        ready = (prepare(part, sampling_rate=prepare.sampling_rate, return_tensors="pt") for part in parts)
        return [(one.input_features[0], -(-len(part) // each)) for one, part in zip(ready, parts, strict=True)]

    @torch.inference_mode()
    def states(some: list[list[tuple[Tensor, int]]], to: int) -> list[np.ndarray]:
        found: list[list[Tensor]] = [[] for _ in some]
        for parts in zip(*some, strict=True):  # the first 30 seconds of all, the second, ..
            ready = torch.stack([spectrum for spectrum, _ in parts]).to(network.device)
            out = network(ready, output_hidden_states=True)
            for row, x in enumerate(_chosen(out.hidden_states, out.last_hidden_state, layer)):
                found[row].append(x[: parts[row][1]])
        return [_strided(torch.cat(xs), stride) for xs in found]

    return Encoder(network, read, lambda x: len(x) * (whole // each), states, whole // each, SPEECH), each


@extractor
def words(model: str, layer: int | str = "last") -> Features:
    """One vector a word (as blanks separate them) of RoBERTa, BERT and their kin: the mean of its pieces' states."""
    network, digest = _encoder(model, "words")
    _check_layer(layer, network, "words")
    split = _load("AutoTokenizer", model, "words", use_fast=True, add_prefix_space=True)
    places, most = split.model_max_length, getattr(network.config, "max_position_embeddings", None) or MOST_PIECES
    if most < places:  # the tokenizer does not say; RoBERTa gives two places away
        places = most - 2
    one_at_a_time = threading.Lock()

    def read(recording: Recording) -> Any:
        each = recording.facts.get("text", "").split()
        with one_at_a_time:  # a tokenizer is for one thread
            return split(each, is_split_into_words=True, truncation=True, max_length=places)

    @torch.inference_mode()
    def states(some: list[Any], to: int) -> list[np.ndarray]:
        to = min(to, places)
        ids, mask = torch.full((len(some), to), split.pad_token_id or 0), torch.zeros(len(some), to, dtype=torch.long)
        for row, x in enumerate(some):
            ids[row, : len(x.input_ids)], mask[row, : len(x.input_ids)] = torch.tensor(x.input_ids), 1
        out = network(ids.to(network.device), mask.to(network.device), output_hidden_states=True)
        found = _chosen(out.hidden_states, out.last_hidden_state, layer).cpu()
        return [_of_words(x, ready.word_ids()) for x, ready in zip(found, some, strict=True)]

    settings = _settings(network, split.backend_tokenizer.to_str())
    name, made = model.rstrip("/").split("/")[-1], _made("words", model, digest, settings=settings, layer=layer)

    def told(recordings: list[Recording]) -> list[str]:
        cut = sum({*read(r).word_ids()} - {None} != {*range(len(r.facts.get("text", "").split()))} for r in recordings)
        why = f"behind its {places} pieces, or of signs it drops"
        return [f"{cut} texts have words that {name} does not see: {why}."] if cut else []

    through = Encoder(network, read, lambda x: len(x.input_ids), states, 16, WORDS)
    return Features(name, "text", through.alone, made, told=told, encoder=through)


def _of_words(x: Tensor, place: list[int | None]) -> np.ndarray:
    """The mean over the pieces of each word; of no words, the state of the start."""
    pieces: dict[int, list[int]] = {}
    for i, word in enumerate(place):
        if word is not None:
            pieces.setdefault(word, []).append(i)
    found = [x[some].mean(0) for some in pieces.values()] or [x[0]]
    return torch.stack(found).numpy().astype(np.float32)


@extractor
def resnet101(model: str = "microsoft/resnet-101") -> Features:
    """The study's video: 3 frames a second, the centre (224) of the speaker's half, pooled features of ResNet-101."""
    if (kind := _kind(model, "resnet101")) != "resnet":
        raise MmerError(f"resnet101: a ResNet; {model!r} is a {kind} (see `image` for others)")
    return _pictures("resnet101", "resnet101", model, FRAMES, lambda out: out.pooler_output.flatten(1), grow=False)


@extractor
def image(model: str, rate: float = FRAMES) -> Features:
    """The state that stands for the whole picture (CLS) in CLIP or another vision transformer."""
    name = model.rstrip("/").split("/")[-1]
    return _pictures("image", name, model, rate, lambda out: out.last_hidden_state[:, 0], grow=True)


def _pictures(
    extractor: str, name: str, model: str, rate: float, vector: Callable[[Any], Tensor], grow: bool
) -> Features:
    if type(rate) not in (int, float) or not 0 < rate <= 100:
        raise MmerError(f"{extractor}: rate is frames a second, above 0; got {rate!r}")
    network, digest = _encoder(model, extractor, part="vision_model")
    inside = getattr(network, "embeddings", None)
    if extractor == "image" and not (hasattr(inside, "cls_token") or hasattr(inside, "class_embedding")):
        raise MmerError(
            f"image: a network with a state for the whole picture (CLS), as CLIP, ViT and DINOv2 have; not {model!r}"
        )
    size, scale = _preparation(model, extractor)
    mean, std = (torch.tensor(scale[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))

    def read(recording: Recording) -> Tensor:
        return torch.from_numpy(pictures(recording, rate, size, grow))

    @torch.inference_mode()
    def states(some: list[Tensor], to: int) -> list[np.ndarray]:
        device = next(network.parameters()).device
        every = torch.cat([x[torch.arange(to).clamp(max=len(x) - 1)] for x in some])  # the last one is repeated
        found = []
        for part in every.split(PICTURES):
            x = part.to(device).permute(0, 3, 1, 2) / 255
            found.append(vector(network((x - mean.to(device)) / std.to(device))).cpu())
        rows = torch.cat(found).numpy().astype(np.float32).reshape(len(some), to, -1)
        return [row[: len(x)] for row, x in zip(rows, some, strict=True)]

    through = Encoder(network, read, len, states, 8, PICTURES)
    made = _made(extractor, model, digest, settings=_settings(network, str(scale)), rate=rate, size=size)
    return Features(name, "video", through.alone, made, float(rate), encoder=through)


def _preparation(model: str, extractor: str) -> tuple[int, dict]:
    """Size of the picture, and the scale of its colours, as the model's file says; of a ResNet also the usual ones."""
    from transformers.utils import cached_file

    told: dict[str, Any] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        try:
            file = cached_file(model, name)
            found = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
        except (OSError, ValueError):
            continue
        told |= found.get("image_processor", found)
    if not told and extractor == "image":
        raise MmerError(f"image: {model!r} has no preprocessor_config.json, which says the scale of its colours")
    size = told.get("crop_size") or told.get("size") or 224
    size = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge") or 224
    return int(size), {key: told.get(key) or IMAGENET[key] for key in IMAGENET}
