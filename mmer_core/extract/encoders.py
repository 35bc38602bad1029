"""Pretrained encoders of speech, words and pictures: folders, or names under which `transformers` finds them.

A recording goes through alone, so that the same recording gives the same bits whatever else is extracted.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmer_core.errors import MmerError
from mmer_core.extract.features import Features, extractor
from mmer_core.extract.found import Recording
from mmer_core.extract.media import pictures, sound

FRAMES = 3  # a second, as in the study
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CHUNK = 30  # seconds that Whisper hears at a time
DEVICE = "MMER_EXTRACT_DEVICE"  # where encoders run, in the environment of a worker


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


def _encoder(model: str, what: str, part: str = "") -> tuple[torch.nn.Module, str]:
    """A network in evaluation mode on its device, or a part of it, and a digest of its weights."""
    network = _load("AutoModel", model, what)
    network = getattr(network, part, network) if part else network
    found = hashlib.blake2b(digest_size=8)
    for name, w in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(w.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return network.to(os.environ.get(DEVICE, "cpu")).eval(), found.hexdigest()


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
    if type(stride) is not int or stride < 1:
        raise MmerError(f"speech: stride is a whole number from 1 on; got {stride!r}")
    prepare = _load("AutoFeatureExtractor", model, "speech")
    rate = prepare.sampling_rate
    states, each = (_whisper if hasattr(prepare, "n_fft") else _wav)(network, prepare, layer)

    def compute(recording: Recording) -> np.ndarray:
        x = states(sound(recording, rate))
        return np.stack([x[i : i + stride].mean(0) for i in range(0, len(x), stride)]).astype(np.float32)

    name = model.rstrip("/").split("/")[-1]
    made = _made("speech", model, digest, layer=layer, stride=stride, sampling_rate=rate)
    return Features(name, "audio", compute, made, rate / each / stride)


def _kind(model: str, what: str) -> str:
    return _load("AutoConfig", model, what).model_type


def _wav(network: Any, prepare: Any, layer: int | str) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """The states of a sound by a network that hears samples; and samples a step."""
    least, each = 1, 1
    for kernel, step in zip(reversed(network.config.conv_kernel), reversed(network.config.conv_stride), strict=True):
        least, each = (least - 1) * step + kernel, each * step

    @torch.inference_mode()
    def states(x: np.ndarray) -> np.ndarray:
        x = np.pad(x, (0, max(0, least - len(x))))  # at least one step
        ready = prepare(x, sampling_rate=prepare.sampling_rate, return_tensors="pt").input_values
        out = network(ready.to(network.device), output_hidden_states=True)
        return _chosen(out.hidden_states, out.last_hidden_state, layer)[0].cpu().numpy()

    return states, each


def _whisper(network: Any, prepare: Any, layer: int | str) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """The states of Whisper's encoder, without those of the silence that fills up 30 seconds; and samples a step."""
    each = 2 * prepare.hop_length

    @torch.inference_mode()
    def states(x: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(x), whole := CHUNK * prepare.sampling_rate):
            part = x[start : start + whole]
            ready = prepare(part, sampling_rate=prepare.sampling_rate, return_tensors="pt").input_features
            out = network(ready.to(network.device), output_hidden_states=True)
            found.append(_chosen(out.hidden_states, out.last_hidden_state, layer)[0, : -(-len(part) // each)])
        return torch.cat(found).cpu().numpy()

    return states, each


@extractor
def words(model: str, layer: int | str = "last") -> Features:
    """One vector a word (as blanks separate them) of RoBERTa, BERT and their kin: the mean of its pieces' states."""
    network, digest = _encoder(model, "words")
    _check_layer(layer, network, "words")
    split = _load("AutoTokenizer", model, "words", use_fast=True, add_prefix_space=True)

    @torch.inference_mode()
    def compute(recording: Recording) -> np.ndarray:
        each = recording.facts.get("text", "").split()
        ready = split([each], is_split_into_words=True, truncation=True, return_tensors="pt")
        out = network(**ready.to(network.device), output_hidden_states=True)
        x, place = _chosen(out.hidden_states, out.last_hidden_state, layer)[0].cpu(), ready.word_ids()
        pieces = [[i for i, at in enumerate(place) if at == n] for n in range(len(each))]
        found = [x[some].mean(0) for some in pieces if some] or [x[0]]  # of no words: the state of the start
        return torch.stack(found).numpy().astype(np.float32)

    return Features(model.rstrip("/").split("/")[-1], "text", compute, _made("words", model, digest, layer=layer))


@extractor
def resnet101(model: str = "microsoft/resnet-101") -> Features:
    """The study's video: 3 frames a second, the centre (224) of the speaker's half, pooled features of ResNet-101."""
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
    size, scale = _preparation(model)
    mean, std = (torch.tensor(scale[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))

    @torch.inference_mode()
    def compute(recording: Recording) -> np.ndarray:
        x = torch.from_numpy(pictures(recording, rate, size, grow)).permute(0, 3, 1, 2) / 255
        out = network(((x - mean) / std).to(next(network.parameters()).device))
        return vector(out).cpu().numpy().astype(np.float32)

    return Features(name, "video", compute, _made(extractor, model, digest, rate=rate, size=size), float(rate))


def _preparation(model: str) -> tuple[int, dict]:
    """Size of the picture, and the scale of its colours, as the model's file says; else 224 and ImageNet's."""
    from transformers.utils import cached_file

    try:
        file = cached_file(model, "preprocessor_config.json")
        told = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        told = {}
    size = told.get("crop_size") or told.get("size") or 224
    size = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge") or 224
    return int(size), {key: told.get(key) or IMAGENET[key] for key in IMAGENET}
