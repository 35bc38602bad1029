"""Features of recordings: against independent computations, tiny encoders made here, and recordings with troubles."""

import dataclasses
import fractions
import json
import os
import re
import shutil
import subprocess
import sys
import time
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.fft
import scipy.signal
import torch
from conftest import CHECKOUT
from releases import write_iemocap
from test_half_done import execute, touch

import mmer_core as mc
from mmer_core import analyses, figures, stats
from mmer_core.texts import tomllib

pytest.importorskip("librosa")
pytest.importorskip("av")

import av
import soundfile
import transformers

from mmer_core.__main__ import main
from mmer_core.extract import encoders, features, media
from mmer_core.extract.found import Recording

RATE = 16_000


def noise(seconds, rate=RATE, channels=1, seed=0):
    x = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    return x if channels > 1 else x[:, 0]


def write(file, x, rate=RATE, subtype="PCM_16"):
    soundfile.write(file, x, rate, subtype=subtype)
    return file


def heard(file, span=None, **facts):
    return Recording("u1", {"label": "a", **facts}, sound=file, sound_span=span)


# --------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize("subtype, tolerance", [("PCM_16", 4e-5), ("PCM_24", 2e-7), ("FLOAT", 1e-7)])
def test_a_sound_is_read_as_it_was_written(tmp_path, subtype, tolerance):
    x = noise(0.3)
    found = media.sound(heard(write(tmp_path / "a.wav", x, subtype=subtype)), RATE)
    np.testing.assert_allclose(found, x, atol=tolerance)
    assert media.oddities(heard(tmp_path / "a.wav"), RATE) == []


def test_channels_are_averaged_and_rates_are_changed_in_the_open(tmp_path):
    t = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 440 * t)
    file = write(tmp_path / "a.wav", np.stack([0.5 * tone, 0.1 * tone], 1), 8000)
    found = media.sound(heard(file), RATE)
    wanted = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(found) == 16000 and np.abs(found - wanted)[400:-400].max() < 2e-3
    told = ["resampled from 8000 to 16000 samples a second", "2 channels averaged"]
    assert media.oddities(heard(file), RATE) == told


def test_a_span_is_cut_out(tmp_path):
    file = write(tmp_path / "a.wav", np.repeat([0.1, 0.2, 0.3], RATE))
    np.testing.assert_allclose(media.sound(heard(file, (1.0, 2.0)), RATE), 0.2, atol=1e-4)
    for span in [(2.5, 9.0), (-1.0, 1.0), (1.0, 1.0), (float("nan"), 1.0)]:
        with pytest.raises(mc.CorpusError, match=r"a\.wav: expected seconds within its 3\.00, found"):
            media.sound(heard(file, span), RATE)


def truncated(file):
    write(file, noise(1))
    file.write_bytes(file.read_bytes()[:20_000])


def empty(file):
    file.write_bytes(b"")


def without_samples(file):
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)


def no_sound(file):
    file.write_text("a text")


def not_finite(file):
    write(file, np.array([0.1, np.nan, 0.2]), subtype="FLOAT")


@pytest.mark.parametrize("make, told", [
    (truncated, "bytes of sound, as its head says"), (empty, "a recording with sound"),
    (without_samples, "finite samples, found none"), (no_sound, "a recording with sound"),
    (not_finite, "NaN or infinity"),
])  # fmt: skip
def test_what_cannot_be_heard_is_named(tmp_path, make, told):
    make(tmp_path / "odd.wav")
    with pytest.raises(mc.CorpusError, match=rf"odd\.wav: expected .*{told}"):
        media.sound(heard(tmp_path / "odd.wav"), RATE)


def test_sound_of_a_video_is_heard(tmp_path):
    file, x = tmp_path / "a.mp4", noise(0.5)
    with av.open(str(file), "w") as out:
        stream = out.add_stream("pcm_s16le" if file.suffix == ".avi" else "aac", rate=RATE)
        frame = av.AudioFrame.from_ndarray(x[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    found = media.sound(heard(file), RATE)
    assert abs(len(found) - 8000) < 3000 and 0.05 < found.std() < 0.15


# ---------------------------------------------------------------------------------------------------- mfcc


def mel_filters():
    """Slaney's filters, 64 of them from 0 to 8000 Hz, of area 1."""

    def to_mel(f):
        return np.where(f < 1000, f / (200 / 3), 15 + np.log(np.maximum(f, 1e-9) / 1000) / (np.log(6.4) / 27))

    def to_hertz(m):
        return np.where(m < 15, m * 200 / 3, 1000 * np.exp((m - 15) * np.log(6.4) / 27))

    edges = to_hertz(np.linspace(0, to_mel(np.array(8000.0)), 66))
    f = np.fft.rfftfreq(400, 1 / RATE)
    rising = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def test_mfcc_are_those_of_an_independent_computation(tmp_path):
    x = noise(0.7) + 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(0.7 * RATE)) / RATE)
    found = features.mfcc().compute(heard(write(tmp_path / "a.wav", x, subtype="DOUBLE")))
    padded = np.pad(x.astype(np.float32).astype(np.float64), 200)
    windows = np.stack([padded[i : i + 400] for i in range(0, len(x) + 1, 160)])
    power = np.abs(np.fft.rfft(windows * scipy.signal.get_window("hamming", 400), axis=1)) ** 2
    decibel = 10 * np.log10(np.maximum(power @ mel_filters().T, 1e-10))
    base = scipy.fft.dct(np.maximum(decibel, decibel.max() - 80), axis=1, norm="ortho")[:, :40]
    slope = scipy.signal.savgol_filter(base, 9, 1, deriv=1, axis=0, mode="nearest")
    curve = scipy.signal.savgol_filter(base, 9, 2, deriv=2, axis=0, mode="nearest")
    wanted = np.concatenate([base, slope, curve], 1)
    assert found.shape == (71, 120) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_mfcc_have_a_hundred_frames_a_second_and_a_thousand_at_most(tmp_path):
    made = features.mfcc()
    assert made.rate == 100 and made.modality == "audio"
    assert len(made.compute(heard(write(tmp_path / "long.wav", noise(12))))) == 1000
    for name, x in {"short": noise(0.1), "shortest": noise(0.001), "silent": np.zeros(8000)}.items():
        found = made.compute(heard(write(tmp_path / f"{name}.wav", x)))
        assert found.shape == (1 + max(len(x), 400) // 160, 120) and np.isfinite(found).all()


def test_prosody_hears_pitch_and_loudness(tmp_path):
    t = np.arange(RATE) / RATE
    low, high = (write(tmp_path / f"{f}.wav", 0.5 * np.sin(2 * np.pi * f * t)) for f in (110, 220))
    a, b = (features.prosody().compute(heard(file))[0] for file in (low, high))
    assert a.shape == (10,) and a[-1] == 1
    assert np.exp(a[0]) == pytest.approx(110, rel=0.02) and np.exp(b[0]) == pytest.approx(220, rel=0.02)
    assert a[3] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.3)


# ---------------------------------------------------------------------------------------------------- text


def test_words_are_looked_up_and_coverage_is_told(tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("4 3\nyou 1 2 3\nknow 4 5 6\n, 7 8 9\ndon't 1 0 0\n")
    made = features.glove(str(file))
    found = made.compute(Recording("u", {"text": "You KNOW, I don’t"}))
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0], [1, 0, 0]])
    assert made.told([Recording("u", {"text": "you you Xyz"})]) == [
        "vectors.txt has 2 of 3 words (1 of 2 different ones)."
    ]
    np.testing.assert_array_equal(made.compute(Recording("u", {"text": ""})), np.zeros((1, 3)))


@pytest.mark.parametrize("text", ["", "a 1 2\nb 1\n", "a 1 x\n", "a 1 nan\n"])
def test_vectors_of_another_form_are_refused(tmp_path, text):
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(mc.CorpusError, match=r"v\.txt"):
        features.glove(str(tmp_path / "v.txt"))


def test_hashed_words_are_the_same_everywhere_and_differ():
    x = features.hash().compute(Recording("u", {"text": "one two one"}))
    assert x.shape == (3, 64) and (x[0] == x[2]).all() and np.corrcoef(x[0], x[1])[0, 1] < 0.5
    assert x[0, 0] == pytest.approx(FIRST, abs=1e-6)


FIRST = 0.805168  # on every machine


# ------------------------------------------------------------------------------------------------- encoders


SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
CONVOLUTIONS = dict(conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2)
POSITIONS = dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Tiny models by name, made from a config with random weights, in folders as `transformers` writes them."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    t = transformers
    for name in ("Wav2Vec2", "Hubert", "WavLM"):
        config = getattr(t, f"{name}Config")(**SMALL, **CONVOLUTIONS, **POSITIONS)
        getattr(t, f"{name}Model")(config).save_pretrained(root / name)
        t.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(root / name)
        large = getattr(t, f"{name}Config")(
            **SMALL, **CONVOLUTIONS, **POSITIONS, feat_extract_norm="layer", do_stable_layer_norm=True
        )
        getattr(t, f"{name}Model")(large).save_pretrained(root / f"{name}Large")
        t.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(root / f"{name}Large")
    whisper = t.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=24, vocab_size=60, num_mel_bins=80, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    t.WhisperModel(whisper).save_pretrained(root / "Whisper")
    t.WhisperFeatureExtractor().save_pretrained(root / "Whisper")
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "you",
        "know",
        "un",
        "##happy",
        "##ness",
        "don",
        "'",
        "t",
    ]
    (root / "vocab.txt").write_text("\n".join(vocabulary))
    t.BertModel(t.BertConfig(vocab_size=len(vocabulary), **SMALL)).save_pretrained(root / "Bert")
    t.RobertaModel(t.RobertaConfig(vocab_size=len(vocabulary), **SMALL, pad_token_id=0)).save_pretrained(
        root / "Roberta"
    )
    for name in ("Bert", "Roberta"):
        t.BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(root / name)
    t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])).save_pretrained(
        root / "ResNet"
    )
    vision = dict(SMALL, image_size=32, patch_size=16)
    t.ViTModel(t.ViTConfig(**vision)).save_pretrained(root / "ViT")
    words = dict(SMALL, vocab_size=60)
    t.CLIPModel(t.CLIPConfig(text_config=words, vision_config=vision, projection_dim=8)).save_pretrained(root / "CLIP")
    for name in ("ViT", "CLIP"):
        (root / name / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 32}, "crop_size": 32}')
    return root


@pytest.mark.parametrize("name", ["Wav2Vec2", "Hubert", "WavLM"])
def test_speech_has_the_states_and_the_rate_of_the_network(saved, tmp_path, name):
    made = encoders.speech(str(saved / name))
    x = noise(0.5)
    found = made.compute(heard(write(tmp_path / "a.wav", x, subtype="DOUBLE")))
    network = transformers.AutoModel.from_pretrained(saved / name).eval()
    ready = torch.tensor((x - x.mean()) / np.sqrt(x.var() + 1e-7), dtype=torch.float32)[None]
    with torch.no_grad():
        wanted = network(ready, output_hidden_states=True)
    np.testing.assert_allclose(found, wanted.last_hidden_state[0], atol=1e-4)
    assert made.name == name and made.rate == RATE / 20 == pytest.approx(len(found) / 0.5, rel=0.01)
    mean = encoders.speech(str(saved / name), layer="mean", stride=3)
    every = torch.stack(wanted.hidden_states).mean(0)[0].numpy()
    wanted = [every[i : i + 3].mean(0) for i in range(0, len(every), 3)]
    np.testing.assert_allclose(mean.compute(heard(tmp_path / "a.wav")), wanted, atol=1e-4)
    assert mean.rate == pytest.approx(RATE / 60)


@pytest.mark.parametrize("name", ["Wav2Vec2", "Whisper"])
def test_speech_of_every_kind_of_recording(saved, tmp_path, name):
    made = encoders.speech(str(saved / name))
    kinds = {
        **{"short": (noise(0.1), RATE, "PCM_16"), "shortest": (noise(0.0002), RATE, "PCM_16")},
        **{"silent": (np.zeros(4000), RATE, "PCM_16"), "stereo": (noise(0.2, channels=2), RATE, "PCM_16")},
        **{"8 kHz": (noise(0.2, 8000), 8000, "PCM_16"), "24 bit": (noise(0.2), RATE, "PCM_24")},
    }
    for kind, (x, rate, subtype) in kinds.items():
        found = made.compute(heard(write(tmp_path / f"{kind}.wav", x, rate, subtype)))
        assert found.ndim == 2 and found.shape[1] == 16 and np.isfinite(found).all(), kind
        assert abs(len(found) - made.rate * len(x) / rate) <= 2.01, kind
        assert found.tobytes() == made.compute(heard(tmp_path / f"{kind}.wav")).tobytes()
    truncated(tmp_path / "cut.wav")
    with pytest.raises(mc.CorpusError, match=r"cut\.wav: expected 32000 bytes of sound"):
        made.compute(heard(tmp_path / "cut.wav"))


def test_whisper_hears_more_than_its_thirty_seconds(saved, tmp_path):
    made = encoders.speech(str(saved / "Whisper"))
    x = noise(31)
    found = made.compute(heard(write(tmp_path / "a.wav", x)))
    assert made.rate == 50 and len(found) == 1550
    end = made.compute(heard(write(tmp_path / "end.wav", x[30 * RATE :])))
    np.testing.assert_allclose(found[1500:], end, atol=1e-3)


def test_words_are_the_means_of_their_pieces(saved):
    made = encoders.words(str(saved / "Bert"))
    found = made.compute(Recording("u", {"text": "you unhappyness know"}))
    network = transformers.AutoModel.from_pretrained(saved / "Bert").eval()
    with torch.no_grad():
        x = network(torch.tensor([[2, 5, 7, 8, 9, 6, 3]])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(found, [x[1], x[2:5].mean(0), x[5]], atol=1e-5)
    assert made.rate is None and made.compute(Recording("u", {"text": ""})).shape == (1, 16)


def test_words_that_the_model_does_not_see_are_told(saved, tmp_path):
    shutil.copytree(saved / "Bert", tmp_path / "short")
    settings = json.loads((tmp_path / "short/tokenizer_config.json").read_text())
    (tmp_path / "short/tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 6}))
    made = encoders.words(str(tmp_path / "short"))
    every = [Recording("u", {"text": text}) for text in ("you know", "", "you unhappyness know", "you \x00 know")]
    assert [len(made.compute(r)) for r in every] == [2, 1, 2, 2]
    assert [len(x) for _, x in made.encoder.together(every, "cpu")] == [2, 1, 2, 2]
    assert made.told(every) == [
        "2 texts have words that short does not see: behind its 6 pieces, or of signs it drops."
    ]
    assert made.told(every[:2]) == []


def test_a_model_that_is_not_there_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for make in (encoders.speech, encoders.words, encoders.image, encoders.resnet101):
        with pytest.raises(mc.MmerError, match=r"is no folder with such a model, and could not be fetched") as told:
            make(str(tmp_path / "nowhere"))
        assert "\n" not in str(told.value) and len(str(told.value)) < 500


def test_networks_that_do_not_fit_are_refused(saved, tmp_path):
    t = transformers
    adapted = t.Wav2Vec2Config(**SMALL, **CONVOLUTIONS, **POSITIONS, add_adapter=True)
    t.Wav2Vec2Model(adapted).save_pretrained(tmp_path / "adapted")
    shutil.copy(saved / "Wav2Vec2/preprocessor_config.json", tmp_path / "adapted")
    shutil.copytree(saved / "ViT", tmp_path / "bare")
    (tmp_path / "bare/preprocessor_config.json").unlink()
    for make, model, told in [
        (encoders.speech, tmp_path / "adapted", "networks without an adapter"),
        (encoders.image, saved / "ResNet", "a state for the whole picture"),
        (encoders.image, tmp_path / "bare", "has no preprocessor_config.json"),
        (encoders.resnet101, saved / "ViT", "a ResNet; .* is a vit"),
    ]:
        with pytest.raises(mc.MmerError, match=told):
            make(str(model))


def test_a_network_that_takes_no_mask_sees_each_recording_alone(tmp_path, rng):
    config = transformers.Data2VecAudioConfig(
        **SMALL, **CONVOLUTIONS, num_conv_pos_embeddings=2, conv_pos_kernel_size=3
    )
    transformers.Data2VecAudioModel(config).save_pretrained(tmp_path / "model")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "model")
    made = encoders.speech(str(tmp_path / "model"))
    every = [heard(write(tmp_path / f"u{i}.wav", noise(0.1 + 0.2 * i, seed=i))) for i in range(3)]
    for recording, x in made.encoder.together(every, "cpu"):
        assert x.tobytes() == made.compute(recording).tobytes()


def test_weights_of_half_the_digits_give_whole_features(saved, tmp_path):
    for name in ("Bert", "Whisper"):
        shutil.copytree(saved / name, tmp_path / name)
        transformers.AutoModel.from_pretrained(saved / name).to(torch.bfloat16).save_pretrained(tmp_path / name)
    found = encoders.words(str(tmp_path / "Bert")).compute(Recording("u", {"text": "you know"}))
    assert (found != torch.tensor(found).bfloat16().float().numpy()).any() and found.dtype == np.float32
    assert (
        encoders.speech(str(tmp_path / "Whisper")).compute(heard(write(tmp_path / "a.wav", noise(0.2)))).shape[1] == 16
    )


def test_settings_of_a_model_that_change_are_another_set(saved, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(saved / "Wav2Vec2", model)
    first = encoders.speech(str(model)).made
    assert encoders.speech(str(model)).made == first
    for file, old, new in [
        ("preprocessor_config.json", '"do_normalize": true', '"do_normalize": false'),
        ("config.json", '"hidden_act": "gelu"', '"hidden_act": "relu"'),
    ]:
        text = (model / file).read_text()
        assert old in text
        (model / file).write_text(text.replace(old, new))
        changed = encoders.speech(str(model)).made
        assert changed["settings"] != first["settings"] and changed["digest"] == first["digest"]
        (model / file).write_text(text)


def test_the_scale_of_colours_is_that_of_the_processor(saved, tmp_path):
    shutil.copytree(saved / "CLIP", tmp_path / "model")
    (tmp_path / "model/preprocessor_config.json").unlink()
    scale = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5], "crop_size": {"height": 32, "width": 32}}
    (tmp_path / "model/processor_config.json").write_text(json.dumps({"image_processor": scale}))
    assert encoders._preparation(str(tmp_path / "model"), "image") == (32, {k: scale[k] for k in encoders.IMAGENET})


@pytest.mark.parametrize("layer", [3, -4, "first", 1.0, True])
def test_a_layer_that_is_not_there(saved, layer):
    with pytest.raises(mc.MmerError, match=r'layer is "last", "mean", or a number up to 2; got'):
        encoders.speech(str(saved / "Wav2Vec2"), layer=layer)


# -------------------------------------------------------------------------------------------------- pictures


def film(file, seconds=2.0, rate=12, size=(96, 64)):
    """The left half red, brighter with every frame; the right half blue."""
    with av.open(str(file), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 4_000_000
        for i in range(round(seconds * rate)):
            x = np.zeros((size[1], size[0], 3), np.uint8)
            x[:, : size[0] // 2, 0], x[:, size[0] // 2 :, 2] = min(255, 100 + 6 * i), 200
            for packet in stream.encode(av.VideoFrame.from_ndarray(x, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return file


def seen(file, span=None, half=""):
    return Recording("u1", {"label": "a"}, video=file, video_span=span, half=half)


@pytest.mark.parametrize("kind", ["avi", "mp4", "mkv"])
def test_the_half_of_the_speaker_at_three_frames_a_second(tmp_path, kind):
    file = film(tmp_path / f"a.{kind}")
    left = media.pictures(seen(file, half="left"), 3, 32, grow=False).astype(float)
    right = media.pictures(seen(file, half="right"), 3, 32, grow=False).astype(float)
    assert left.shape == right.shape == (6, 32, 32, 3)
    np.testing.assert_allclose(left[..., 0].mean((1, 2)), 100 + 6 * np.arange(0, 24, 4), atol=8)
    assert left[..., 2].max() < 60 and right[..., 0].max() < 60 and right[..., 2].mean() > 170
    some = media.pictures(seen(file, (1.0, 1.7), "left"), 3, 32, grow=False).astype(float)
    np.testing.assert_allclose(some[..., 0].mean((1, 2)), 100 + 6 * np.array([12, 16, 20]), atol=8)


def test_the_centre_is_cut_out_of_the_picture_as_it_is_unless_it_is_small(tmp_path):
    file = film(tmp_path / "a.avi")
    whole = media.pictures(seen(file), 3, 64, grow=False)[0].astype(float)
    assert whole[32, 8, 0] > 80 and whole[32, 8, 2] < 60 and whole[32, 56, 2] > 150  # both halves, 32 columns each
    assert media.pictures(seen(file, half="left"), 3, 128, grow=False).shape == (6, 128, 128, 3)
    assert media.pictures(seen(file, half="left"), 3, 32, grow=True).shape == (6, 32, 32, 3)


def test_a_picture_that_cannot_be_seen_is_named(tmp_path):
    (tmp_path / "a.avi").write_bytes(b"RIFF no film")
    with pytest.raises(mc.CorpusError, match=r"a\.avi: expected a recording with a picture"):
        media.pictures(seen(tmp_path / "a.avi"), 3, 32, grow=False)
    file = film(tmp_path / "b.avi")
    for span in [(50.0, 51.0), (0.5, 3.0)]:
        with pytest.raises(mc.CorpusError, match=rf"b\.avi: expected seconds within its 2\.00, found up to {span[1]}"):
            media.pictures(seen(file, span), 3, 32, grow=False)
    assert len(media.pictures(seen(file, (1.0, 2.4)), 3, 32, grow=False)) == 3  # clocks of annotations are not exact


@pytest.mark.parametrize("kind", ["avi", "mp4"])
def test_a_film_that_is_cut_off_is_named(tmp_path, kind):
    file = film(tmp_path / f"a.{kind}", 8.0)
    if kind == "mp4":  # its head comes first
        with (
            av.open(str(file)) as whole,
            av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as to,
        ):
            stream = to.add_stream_from_template(whole.streams.video[0])
            for packet in whole.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    to.mux(packet)
        file = tmp_path / "b.mp4"
    assert len(media.pictures(seen(file), 3, 32, grow=False)) == 24
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(mc.CorpusError, match=rf"{file.name}: expected .*, as its head says"):
        media.pictures(seen(file), 3, 32, grow=False)


def test_a_sound_that_is_cut_off_is_named(tmp_path):
    file = write(tmp_path / "a.aiff", noise(1))
    assert len(media.sound(heard(file), RATE)) == RATE
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(mc.CorpusError, match=r"a\.aiff: expected 32\d+ bytes, as its head says, found 20000"):
        media.sound(heard(file), RATE)


def redness(file, rate, span=None):
    return media.pictures(seen(file, span, "left"), rate, 32, grow=False)[..., 0].mean((1, 2)).astype(float)


def test_a_picture_stands_until_the_next_one(tmp_path):
    """A film of fewer pictures than are asked for, and one with a gap: time goes on as the rate says."""
    slow = film(tmp_path / "slow.mp4", 8.0, rate=1)
    np.testing.assert_allclose(redness(slow, 3), np.repeat(100 + 6 * np.arange(8), 3), atol=8)
    np.testing.assert_allclose(redness(slow, 3, (2.5, 5.0)), 100 + 6 * np.array([2, 2, *[3] * 3, *[4] * 3])[:8], atol=9)
    assert len(redness(film(tmp_path / "a.avi", 4.0), 25)) == 100
    gap = tmp_path / "gap.mkv"
    with av.open(str(film(tmp_path / "whole.mkv", 4.0))) as whole, av.open(str(gap), "w") as to:
        stream = to.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 4_000_000
        for i, frame in enumerate(whole.decode(video=0)):
            if not 12 < i < 36:  # from the second after 1 s on none, until 3 s
                for packet in stream.encode(frame):
                    to.mux(packet)
        for packet in stream.encode(None):
            to.mux(packet)
    shown = redness(gap, 3)
    assert len(shown) == 12 and np.ptp(shown[3:9]) < 8 and shown[9] > shown[8] + 40


def test_a_film_of_a_turned_camera_is_turned_back(tmp_path):
    file = film(tmp_path / "a.mp4")
    data = bytearray(file.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    file.write_bytes(data)
    upright = media.pictures(seen(file), 3, 64, grow=True)[0].astype(float)  # the red half, left in the file, is on top
    assert upright[8, 32, 0] > 80 and upright[8, 32, 2] < 60 and upright[56, 32, 2] > 150 and upright[56, 32, 0] < 60


def test_sound_that_begins_late_is_where_it_is_heard(tmp_path):
    file, x = tmp_path / "late.mkv", np.zeros(RATE, np.float32)
    x[RATE // 2 :] = 0.3  # from 1.5 s of the film on
    with av.open(str(file), "w") as out:
        video, sound = out.add_stream("mpeg4", rate=12), out.add_stream("pcm_s16le", rate=RATE)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for i in range(24):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")
            frame.pts = i
            out.mux(video.encode(frame))
        frame = av.AudioFrame.from_ndarray((x[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, RATE, fractions.Fraction(1, RATE)
        out.mux([*sound.encode(frame), *sound.encode(None), *video.encode(None)])
    found = media.sound(heard(file), RATE)
    assert abs(len(found) - 2 * RATE) < 50 and abs(int(np.argmax(found > 0.2)) - 1.5 * RATE) < 50
    with pytest.raises(mc.CorpusError, match=r"a\.avi: expected a recording with sound, found a film without"):
        media.sound(heard(film(tmp_path / "a.avi")), RATE)


def test_resnet_sees_what_the_network_sees(saved, tmp_path):
    file = film(tmp_path / "a.avi")
    made = encoders.resnet101(str(saved / "ResNet"))
    found = made.compute(seen(file, half="right"))
    x = media.pictures(seen(file, half="right"), 3, 224, grow=False) / 255.0
    x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    network = transformers.AutoModel.from_pretrained(saved / "ResNet").eval()
    with torch.no_grad():
        wanted = network(torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32)).pooler_output[..., 0, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert (made.name, made.rate, found.shape) == ("resnet101", 3, (6, 12))


@pytest.mark.parametrize("name", ["ViT", "CLIP"])
def test_images_of_transformers(saved, tmp_path, name):
    made = encoders.image(str(saved / name), rate=2)
    found = made.compute(seen(film(tmp_path / "a.avi")))
    assert found.shape == (4, 16) and np.isfinite(found).all() and made.made["size"] == 32
    assert (made.name, made.rate) == (name, 2)


# ------------------------------------------------------------------------------------------------- in batches


def utterances(tmp_path, rng, longest):
    """Recordings of many lengths, of all kinds; and one that cannot be read."""
    seconds = [*rng.uniform(0.05, 1.2, 11), longest]
    text = [" ".join(rng.choice(["you", "unhappyness", "know", "don't"], n)) for n in (*range(10), 17, 100)]
    made = [
        Recording(
            f"u{i}",
            {"text": text[i]},
            sound=write(tmp_path / f"u{i}.wav", noise(seconds[i], seed=i)),
            video=film(tmp_path / f"u{i}.avi", max(0.4, seconds[i])),
        )
        for i in range(12)
    ]
    (tmp_path / "odd.wav").write_text("no sound")
    return [*made[:5], Recording("odd", {}, sound=tmp_path / "odd.wav", video=tmp_path / "odd.wav"), *made[5:]]


SPEECH = ["Wav2Vec2", "Wav2Vec2Large", "Hubert", "HubertLarge", "WavLM", "WavLMLarge", "Whisper"]
ENCODERS = [*(("speech", x) for x in SPEECH), ("words", "Bert"), ("words", "Roberta"), ("image", "ViT")]


@pytest.mark.parametrize("kind, name", [*ENCODERS, ("resnet101", "ResNet")])
def test_in_batches_as_alone_and_whatever_is_beside(saved, tmp_path, rng, kind, name):
    every = utterances(tmp_path, rng, longest=31.0 if name == "Whisper" else 6.0)
    settings = {} if kind == "resnet101" else {"rate": 12} if kind == "image" else {"layer": "mean"}
    made = getattr(encoders, kind)(str(saved / name), **settings)
    small = dataclasses.replace(made.encoder, most=5 * made.encoder.multiple)  # five rows, and more than one batch
    found = {r.id: x for r, x in small.together(every, "cpu")}
    assert len(found) == len(every)
    for recording in every:
        if recording.id == "odd" and kind != "words":
            assert isinstance(found["odd"], mc.CorpusError)
        else:
            wanted = made.compute(recording)
            assert found[recording.id].shape == wanted.shape and found[recording.id].dtype == np.float32
            np.testing.assert_allclose(found[recording.id], wanted, atol=2e-5)
    for others in (every[::-1], every[3:7], every[10:]):
        for recording, x in small.together(others, "cpu"):
            assert isinstance(x, Exception) or x.tobytes() == found[recording.id].tobytes()


def test_a_batch_that_fails_is_told_of_each_of_its_recordings(saved, tmp_path, monkeypatch):
    made = encoders.words(str(saved / "Bert"))
    monkeypatch.setattr(made.encoder.network, "forward", lambda *a, **k: 1 / 0)
    found = list(made.encoder.together([Recording(f"u{i}", {"text": "you"}) for i in range(3)], "cpu"))
    assert [r.id for r, _ in found] == ["u0", "u1", "u2"] and all(isinstance(x, ZeroDivisionError) for _, x in found)


# ------------------------------------------------------------------------------------------------ the folder


@pytest.fixture
def command(capsys):
    """`python -m mmer_core extract ..` in this process: its status, and what it says."""

    def carry_out(*arguments):
        code = main(["extract", *map(str, arguments)])
        return code, "".join(capsys.readouterr())

    return carry_out


def digests(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def recordings(root, n=12, seconds=0.3):
    """A folder of wavs, some in folders of folders, and their table."""
    root.mkdir()
    lines = ["id,label,text,speaker,fold"]
    for i in range(n):
        place = root / ("deep/er" if i % 3 else ".")
        place.mkdir(parents=True, exist_ok=True)
        write(place / f"u{i}.wav", noise(seconds + 0.01 * i, seed=i))
        lines.append(f'u{i},{"ab"[i % 2]},"Well, number {i}",s{i % 3},{i % 3 + 1}')
    (root / "utterances.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_folder_of_wavs_needs_nothing_else(tmp_path, command):
    source, out = recordings(tmp_path / "wavs"), tmp_path / "out"
    code, told = command(source, out, "--text", "hash", "--audio", "mfcc", "--video", "none")
    assert code == 0 and f"12 utterances are in {out}." in told
    corpus = mc.open_corpus(out, tmp_path / "store")
    assert corpus.modalities == "ta" and len(corpus) == 12 and corpus.classes == ["a", "b"]
    assert list(corpus.speakers[:4]) == ["s0", "s1", "s2", "s0"] and sorted(corpus.folds) == [1, 2, 3]
    assert corpus.rates["audio"] == 100 and corpus.sizes.audio.dim == 120 and corpus.sizes.text.dim == 64
    assert any("audio: mfcc (rate 100.0, extractor mfcc, version 1, sampling_rate 16000)" in f for f in corpus.findings)
    own = features.mfcc().compute(heard(source / "deep/er/u4.wav"))
    np.testing.assert_array_equal(corpus.features("audio", [4])[0][: len(own)], own)
    again, _ = command(source, tmp_path / "again", "--text", "hash", "--audio", "mfcc", "--video", "none")
    assert again == 0 and digests(tmp_path / "again") == digests(out)  # the same bits
    study = mc.Study(corpus, ["self_ta", "cross_ta"], [1], protocol=mc.Protocol(max_epochs=1), ledger=tmp_path / "runs")
    study.run(ThreadPoolExecutor(1), progress=False)
    assert study.missing() == []


CUT = "u5.wav: expected 32000 bytes of sound, as its head says"


def test_recordings_that_cannot_be_read_are_listed(tmp_path, command):
    source, out = recordings(tmp_path / "wavs"), tmp_path / "out"
    arguments = [source, out, "--text", "none", "--audio", "mfcc", "--video", "none"]
    (source / "u3.wav").unlink()
    code, told = command(*arguments)
    assert code == 2 and "u3: no audio" in told and not out.exists()  # before any work
    write(source / "u3.wav", noise(0.2))
    truncated(source / "deep/er/u5.wav")
    code, told = command(*arguments)
    assert code == 2 and CUT in told and not (out / "utterances.csv").exists()
    assert len(list(out.rglob("*.npy"))) == 11  # what was computed stays
    write(source / "deep/er/u5.wav", noise(0.2))
    assert command(*arguments)[0] == 0 and len(list(out.rglob("*.npy"))) == 12


def test_recordings_that_cannot_be_read_are_left_out_on_request(tmp_path, command):
    source, out = recordings(tmp_path / "wavs"), tmp_path / "out"
    (source / "u3.wav").unlink()
    truncated(source / "deep/er/u5.wav")
    code, told = command(source, out, "--text", "none", "--audio", "mfcc", "--video", "none", "--skip")
    assert code == 0 and "u5 is left out" in told and CUT in told and "u3 is left out: no audio." in told
    assert len(mc.open_corpus(out, tmp_path / "store")) == 10


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_an_extraction_that_is_killed_goes_on_to_the_same_bytes(tmp_path, command, times):
    source, out = recordings(tmp_path / "wavs", 60, 1.0), tmp_path / "out"
    arguments = [source, out, "--text", "hash", "--audio", "mfcc", "--video", "none"]
    rng, kills = np.random.default_rng(0), 0
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-m", "mmer_core", "extract", *map(str, arguments)], stderr=-3)
        before, until = len(list(out.rglob("*.npy"))), time.monotonic() + 120
        aim = before + int(rng.integers(1, 60 // times))
        while len(list(out.rglob("*.npy"))) < aim and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        kills += process.poll() is None
        process.kill()
        process.wait()
        time.sleep(1.5)  # its workers notice within a second
    assert kills >= min(times, 3) and not (out / "utterances.csv").exists()
    (out / "features" / "mfcc" / f".u1.npy.{2**22 + 1}.part").write_bytes(b"half")  # no process has such a number
    assert command(*arguments)[0] == 0
    arguments[1] = tmp_path / "whole"
    assert command(*arguments)[0] == 0 and digests(out) == digests(tmp_path / "whole")


def test_on_a_device_in_batches_to_the_same_bytes_after_an_interruption(saved, tmp_path, command):
    """A device that is not called "cpu": what comes after a half is as if nothing had happened; all as on the CPU."""
    source, own = recordings(tmp_path / "wavs", 25), tmp_path / "own.toml"
    own.write_text(
        f'[text]\nextractor = "words"\nmodel = "{saved / "Bert"}"\n'
        f'[audio]\nextractor = "speech"\nmodel = "{saved / "WavLM"}"\nstride = 2\n'
    )
    (source / "deep/er/u4.wav").write_bytes(b"RIFF no sound")
    cpu, whole, halved = (tmp_path / name for name in ("cpu", "whole", "halved"))
    assert command(source, cpu, "--recipe", own, "--skip")[0] == 0
    code, told = command(source, whole, "--recipe", own, "--skip", "--device", "cpu:0")
    assert code == 0 and "u4 is left out: " in told and "24 utterances are in" in told
    files = sorted(f.relative_to(cpu) for f in cpu.rglob("*.npy"))
    assert files == sorted(f.relative_to(whole) for f in whole.rglob("*.npy")) and len(files) == 25 + 24
    for file in files:
        np.testing.assert_allclose(np.load(whole / file), np.load(cpu / file), atol=2e-5)
    assert any((whole / file).read_bytes() != (cpu / file).read_bytes() for file in files)  # they were padded
    shutil.copytree(whole, halved)
    for file in (*files[::2], "utterances.csv"):
        (halved / file).unlink()
    assert command(source, halved, "--recipe", own, "--skip", "--device", "cpu:0")[0] == 0
    assert digests(halved) == digests(whole)


def test_a_device_that_is_not_there_is_told_before_any_work(tmp_path, command):
    source = recordings(tmp_path / "wavs", 3)
    for device in ("gpu", "cuda:99", ""):
        code, told = command(source, tmp_path / "out", "--audio", "mfcc", "--device", device)
        assert code == 2 and "device: one that torch can use here" in told and not (tmp_path / "out").exists()


def test_a_set_that_is_added_leaves_stores_of_the_others_as_they_are(tmp_path, command):
    """As the field does: MFCC first, an encoder weeks later; a setting of the set itself that changes is told."""
    recordings(tmp_path / "wavs")
    command(tmp_path / "wavs", tmp_path / "out", "--audio", "mfcc", "--text", "none", "--video", "none")
    first, named = (
        mc.open_corpus(tmp_path / "out", tmp_path / s, **c) for s, c in (("a", {}), ("b", {"audio": "mfcc"}))
    )
    time.sleep(1.1)  # stamps are of whole seconds
    command(tmp_path / "wavs", tmp_path / "out", "--audio", "prosody", "--text", "none", "--video", "none")
    assert mc.open_corpus(tmp_path / "out", tmp_path / "b", audio="mfcc").fingerprint == named.fingerprint
    assert mc.open_corpus(tmp_path / "out", tmp_path / "c", audio="prosody").lengths["audio"].max() == 1
    with pytest.raises(mc.CorpusError, match=r"audio = 'mfcc' or 'prosody'"):
        mc.open_corpus(tmp_path / "out", tmp_path / "a")  # no longer clear which are meant
    settings = tmp_path / "out" / "corpus.toml"
    settings.write_text(settings.read_text().replace("rate = 100", "rate = 50"))
    with pytest.raises(mc.CorpusError, match=rf"corpus.toml: .* changed since then; delete {named.path}"):
        mc.open_corpus(tmp_path / "out", tmp_path / "b", audio="mfcc")
    mc.open_corpus(tmp_path / "out", tmp_path / "c", audio="prosody")
    assert first.fingerprint == named.fingerprint


def test_what_has_changed_since_is_made_again(tmp_path, command):
    """A recording, its seconds, its words: each changes what is made of it, and nothing else; a store is then old."""
    source, out = recordings(tmp_path / "wavs", 6), tmp_path / "out"
    table = source / "utterances.csv"
    lines = table.read_text().splitlines()
    files = [f.relative_to(source).as_posix() for i in range(6) for f in source.rglob(f"u{i}.wav")]
    rows = [f"{line},{file},0.0,0.2" for line, file in zip(lines[1:], files, strict=True)]
    table.write_text("\n".join([lines[0] + ",file,start,end", *rows]))
    arguments = [source, out, "--audio", "mfcc", "--text", "hash", "--video", "none"]
    assert command(*arguments)[0] == 0
    first, opened = digests(out / "features"), mc.open_corpus(out, tmp_path / "store", audio="mfcc", text="hash")
    assert "made again" not in command(*arguments)[1] and digests(out / "features") == first

    def changed():
        told = command(*arguments)[1]
        now = digests(out / "features")
        differ = sorted(name for name in first if now[name] != first[name])
        assert f"{len(differ)} features were made again, since their recordings have changed." in told
        first.update(now)
        return differ

    write(source / files[1], noise(0.3, seed=99))  # as long as before
    assert changed() == ["mfcc/u1.npy"]
    with pytest.raises(mc.CorpusError, match=rf"changed since then; delete {opened.path}"):
        mc.open_corpus(out, tmp_path / "store", audio="mfcc", text="hash")
    table.write_text(table.read_text().replace("u2.wav,0.0,0.2", "u2.wav,0.1,0.25"))
    assert changed() == ["mfcc/u2.npy"] and len(np.load(out / "features/mfcc/u2.npy")) == 16
    table.write_text(table.read_text().replace("number 3", "numeral 3").replace("number 4", "count 4"))
    assert changed() == ["hash/u3.npy", "hash/u4.npy"]
    arguments[1] = tmp_path / "anew"
    assert command(*arguments)[0] == 0 and digests(out) == digests(arguments[1])


def test_a_set_that_is_not_made_now_is_told_to_be_old(tmp_path, command):
    source, out = recordings(tmp_path / "wavs", 4), tmp_path / "out"
    arguments = [source, out, "--video", "none"]
    assert command(*arguments, "--text", "hash", "--audio", "mfcc")[0] == 0
    table = source / "utterances.csv"
    table.write_text(table.read_text().replace("number 3", "numeral 3"))
    told = "1 recordings have changed since hash was made: extract it again, too."
    assert told in command(*arguments, "--text", "none", "--audio", "prosody")[1]
    assert told in command(*arguments, "--text", "none", "--audio", "mfcc")[1]
    assert "1 features were made again" in command(*arguments, "--text", "hash", "--audio", "none")[1]
    assert "changed" not in command(*arguments, "--text", "none", "--audio", "prosody")[1]


def test_what_lacks_in_one_set_is_left_out_of_the_table(tmp_path, command):
    source, out = recordings(tmp_path / "wavs", 9), tmp_path / "out"
    (source / "deep/er/u1.wav").write_bytes(b"no sound")
    assert command(source, out, "--audio", "mfcc", "--text", "none", "--video", "none", "--skip")[0] == 0
    told = command(source, out, "--audio", "none", "--text", "hash", "--video", "none")[1]
    assert "u1 is left out: no features in mfcc." in told
    assert mc.open_corpus(out, tmp_path / "store").ids == [f"u{i}" for i in range(9) if i != 1]


def test_rows_that_a_corpus_cannot_have_are_told_before_any_work(tmp_path, command):
    source, arguments = recordings(tmp_path / "wavs", 4), ["--audio", "mfcc", "--text", "none", "--video", "none"]
    table = (source / "utterances.csv").read_text()
    for old, new, told in [
        ("u2,a,", "u2,,", "u2: no label"),
        ("s2,3", "s2,one", "line 4: expected a number of a fold"),
    ]:
        (source / "utterances.csv").write_text(table.replace(old, new))
        code, said = command(source, tmp_path / "out", *arguments)
        assert code == 2 and told in said and not (tmp_path / "out").exists()
    (source / "utterances.csv").write_text(table.replace("u2,a,", "u2,,"))
    assert "u2 is left out: no label." in command(source, tmp_path / "out", *arguments, "--skip")[1]


@pytest.mark.parametrize("name", ["em😀ji", "a\x7fb", 'quo"te', "ümlaut é"])
def test_a_source_of_any_name_can_be_extracted_twice(tmp_path, command, name):
    source = recordings(tmp_path / name, 4)
    for audio in ("mfcc", "prosody"):
        assert command(source, tmp_path / "out", "--audio", audio, "--text", "none", "--video", "none")[0] == 0
    assert tomllib.loads((tmp_path / "out/corpus.toml").read_text(encoding="utf-8"))["name"] == name


def test_what_a_killed_process_left_is_taken_away_and_nothing_else(tmp_path, command):
    source, out = recordings(tmp_path / "wavs", 3), tmp_path / "out"
    rest = [out / f"features/mfcc/.u1.npy.{number}.part" for number in (2**22 + 1, os.getpid())]
    for file in (*rest, out / "mine/.download.part", out / "features/.notes.part"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    assert command(source, out, "--audio", "mfcc", "--text", "none", "--video", "none")[0] == 0
    assert [f.name for f in sorted(out.rglob(".*.part"))] == [".notes.part", rest[1].name, ".download.part"]


def test_times_of_recordings_that_are_whole_files_are_told(tmp_path, command):
    source = recordings(tmp_path / "wavs", 3)
    lines = (source / "utterances.csv").read_text().splitlines()
    (source / "utterances.csv").write_text("\n".join([f"{lines[0]},start,end", *(f"{x},7.5,9" for x in lines[1:])]))
    told = command(source, tmp_path / "out", "--audio", "mfcc", "--text", "none", "--video", "none")[1]
    assert "3 recordings were found by their id and taken whole; start and end cut a `file`." in told
    (source / "utterances.csv").write_text("\n".join([f"{lines[0]},start,end", *(f"{x},9,7.5" for x in lines[1:])]))
    code, told = command(source, tmp_path / "out2", "--audio", "mfcc", "--text", "none", "--video", "none")
    assert code == 2 and "utterances.csv line 2: expected start and end: seconds, the first before the second" in told


def test_a_place_that_is_no_folder_is_told(tmp_path, command):
    source = recordings(tmp_path / "wavs", 3)
    (tmp_path / "file").write_text("a file")
    arguments = ["--audio", "mfcc", "--text", "none", "--video", "none"]
    code, told = command(source, tmp_path / "file", *arguments)
    assert code == 2 and "file: expected a folder that can be written to" in told
    table = (source / "utterances.csv").read_bytes()
    for out in (source, source / "deep", source / "deep/er"):
        code, told = command(source, out, *arguments)
        assert code == 2 and "expected another folder than that of the recordings and their table" in told
    shutil.copy(source / "utterances.csv", tmp_path)
    code, told = command(source, tmp_path, "--csv", tmp_path / "utterances.csv", *arguments)
    assert code == 2 and "expected another folder" in told
    assert (source / "utterances.csv").read_bytes() == table and not list(tmp_path.rglob("*.npy"))
    assert command(source, source / "features of it", *arguments)[0] == 0  # within, where no recording is


def test_a_set_is_not_mixed_with_what_something_else_made(tmp_path, command):
    source, out, own = recordings(tmp_path / "wavs", 4), tmp_path / "out", tmp_path / "own.toml"
    own.write_text('[text]\nextractor = "hash"\nwidth = 8\n')
    assert command(source, out, "--recipe", own)[0] == 0
    assert np.load(out / "features/hash/u0.npy").shape == (4, 8)
    own.write_text('[text]\nextractor = "hash"\nwidth = 9\n')
    code, told = command(source, out, "--recipe", own)
    assert code == 2 and "hash: features made by" in told and "name another folder" in told
    assert command(source, out, "--text", "none", "--video", "none", "--audio", "prosody")[0] == 0  # another set joins
    assert mc.open_corpus(out, tmp_path / "store").modalities == "ta"


@pytest.mark.parametrize("settings, told", [
    ('[text]\nextractor = "glove"\n', "glove takes file; missing a required argument: 'file' (settings"),
    ('[text]\nextractor = "nothing"\n', "text: an extractor of"),
    ('[text]\nextractor = "mfcc"\n', "mfcc is of audio; got it for text"),
    ('[text]\nextractor = "hash"\nheight = 3\n', "hash takes width; "),
    ('[touch]\nextractor = "hash"\n', "tables for text, video, audio; got 'touch'"),
    ("text = 3\n", "tables for text, video, audio; got 'text'"),
    ("", "an extractor for one modality or more"),
    ("[text\n", "own.toml"),
])  # fmt: skip
def test_a_recipe_that_cannot_be_had_is_told_before_any_work(tmp_path, settings, told, capsys):
    (tmp_path / "own.toml").write_text(settings)
    source = recordings(tmp_path / "wavs", 2)
    code = main(["extract", str(source), str(tmp_path / "out"), "--recipe", str(tmp_path / "own.toml")])
    assert code == 2 and told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["extract", str(source), str(tmp_path / "out"), "--recipe", "antique"]) == 2
    assert "recipe: one of modern, study, or a file; got 'antique'" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- from IEMOCAP's release


@pytest.fixture(scope="module")
def iemocap(saved, tmp_path_factory):
    """A tiny release through `extract` twice: the features of the study, and three tiny encoders."""
    root = tmp_path_factory.mktemp("iemocap")
    release = write_iemocap(root)
    seen = f'extractor = "resnet101"\nmodel = "{saved / "ResNet"}"'
    study = f'[text]\nextractor = "hash"\n[video]\n{seen}\n[audio]\nextractor = "mfcc"\n'
    modern = "".join(
        f'[{m}]\nextractor = "{name}"\nmodel = "{saved / model}"\n'
        for m, name, model in (("text", "words", "Bert"), ("video", "image", "CLIP"), ("audio", "speech", "WavLM"))
    )
    for name, recipe in {"study": study, "modern": modern}.items():
        (root / f"{name}.toml").write_text(recipe)
        assert (
            main(["extract", str(release.parent), str(root / "features"), "--recipe", str(root / f"{name}.toml")]) == 0
        )
    return root


def test_iemocap_has_its_seven_classes_and_the_speakers_half(iemocap, saved):
    chosen = dict(text="hash", video="resnet101", audio="mfcc")
    corpus = mc.open_corpus(iemocap / "features", iemocap / "own", {"by": "session"}, **chosen)
    assert corpus.classes == ["ang", "exc", "hap", "sad", "fru", "sur", "neu"] and len(corpus) == 84
    assert sorted(corpus.folds) == [1, 2, 3] and set(corpus.speakers) == {
        f"Ses0{s}{g}" for s in (1, 2, 3) for g in "FM"
    }
    four = mc.open_corpus(iemocap / "features", iemocap / "own", {"by": "session"}, "iemocap4", **chosen)
    assert len(four) == 60
    red, blue = (encoded(saved, colour) for colour in ((200, 0, 0), (0, 0, 200)))
    marked = {"Ses01F_impro01": "F", "Ses01M_script01_1b": "M", "Ses02M_impro02a": "M"}
    for dialogue, letter in marked.items():
        for speaker in "FM":
            row = corpus.ids.index(f"{dialogue}_{speaker}001")
            frame = corpus.features("video", [row])[0, 0]
            mine, other = (red, blue) if speaker == letter else (blue, red)
            assert np.abs(frame - mine).max() < 0.2 * np.abs(mine - other).max(), (dialogue, speaker)


def encoded(saved, colour):
    """What the tiny network makes of one colour."""
    x = np.broadcast_to(np.array(colour) / 255, (224, 224, 3))
    x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    network = transformers.AutoModel.from_pretrained(saved / "ResNet").eval()
    with torch.no_grad():
        return network(torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32)).pooler_output[0, :, 0, 0].numpy()


def test_corpus_toml_says_what_made_each_set(iemocap):
    told = tomllib.loads((iemocap / "features" / "corpus.toml").read_text())["features"]
    assert list(told) == ["hash", "resnet101", "mfcc", "Bert", "CLIP", "WavLM"]
    assert re.fullmatch("[0-9a-f]{16}", told["mfcc"].pop("of"))  # recordings, as recordings.csv has them
    assert told["mfcc"] == {
        "modality": "audio",
        "rate": 100.0,
        "extractor": "mfcc",
        "version": 1,
        "sampling_rate": 16000,
    }
    assert told["WavLM"]["model"] == "WavLM" and re.fullmatch(r"[0-9a-f]{16}", told["WavLM"]["digest"])
    assert told["WavLM"]["transformers"] == transformers.__version__ and told["CLIP"]["rate"] == 3.0
    with pytest.raises(mc.CorpusError, match=r"one of the features of text: text = 'hash' or 'Bert'"):
        mc.open_corpus(iemocap / "features", iemocap / "none")


@pytest.fixture
def both(iemocap):
    lines = [
        *('corpus = "features"', 'folds_from = {by = "session"}', "seeds = [1, 2]", "margin = 0.02"),
        'variants = ["self_ta", "cross_ta", "self_tva", "cross_tva", "uniform_tva"]',
        *("[features]", 'study = {text = "hash", video = "resnet101", audio = "mfcc"}'),
        'modern = {text = "Bert", video = "CLIP", audio = "WavLM"}',
        *("[protocol]", "max_epochs = 1"),
    ]
    (iemocap / "study.toml").write_text("\n".join(lines))
    return iemocap / "study.toml"


def test_one_study_asks_each_set_of_features(both, monkeypatch, capsys):
    monkeypatch.setenv("MMER_ROOT", str(both.parent))
    study = mc.open_study(both)
    assert study.corpus.sizes.audio.dim == 120  # the first
    with pytest.raises(mc.MmerError, match="with the features study, modern, no declared pair has runs"):
        analyses.by_features(study)
    for each in study.by_features().values():
        each.run(ThreadPoolExecutor(1), progress=False)
    sets = study.by_features()
    assert list(sets) == ["study", "modern"] and sets["modern"].corpus.sizes.audio.dim == 16
    assert all(not each.missing() for each in sets.values())
    table = analyses.by_features(study).frame
    assert list(table["features"]) == ["study"] * 2 + ["modern"] * 2
    own = stats.verdict_table(sets["modern"].comparisons())
    np.testing.assert_allclose(table["points"].to_numpy(float)[2:], own["points"].to_numpy(float))
    assert main(["--study", str(both), "status"]) == 0
    assert "Features: modern" in capsys.readouterr().out
    n, csv = sum(len(each.runs) for each in sets.values()), both.parent / "runs.csv"
    assert main(["--study", str(both), "publish", str(csv)]) == 0
    assert f"{n} of {n} runs" in capsys.readouterr().out and len(set(pd.read_csv(csv)["fingerprint"])) == 2
    assert main(["--study", str(both), "show", "self_ta/1/1"]) == 2  # of which?
    assert "RUN is SET/VARIANT/FOLD/SEED, with a SET of study, modern" in capsys.readouterr().err
    run = sets["modern"].named("self_ta/1/1")
    for name in ("modern/self_ta/1/1", run.key):
        assert main(["--study", str(both), "show", name]) == 0
        assert str(sets["modern"].ledger.find(run).folder) in capsys.readouterr().out
    assert main(["--study", str(both), "prune"]) == 0
    assert f"The weights of {n} runs are pruned" in capsys.readouterr().out
    assert main(["--study", str(both), "rerun", "modern/self_ta/1/1"]) == 0
    assert "The same bits" in capsys.readouterr().out


@pytest.mark.parametrize("features, told", [
    ("3", "features is tables of features"), ("{a = 3}", "features is tables"), ("{a = {}}", "features is tables"),
    ("{a = {smell = 'x'}}", "features is tables"),
    ("{a = {audio = 'nothing'}}", "expected one of the features of text"),
    ("{a = {audio = 'mfcc', text = 'nothing'}}", "a folder of features 'nothing' for text"),
])  # fmt: skip
def test_sets_that_are_none_are_told(both, features, told):
    text = both.read_text()
    start = text.index("[features]")
    both.write_text(f"features = {features}\n{text[:start]}")
    with pytest.raises(mc.MmerError, match=told):
        mc.open_study(both)


@pytest.mark.slow
def test_notebooks_run_on_what_was_extracted(both, monkeypatch):
    monkeypatch.setenv("MMER_ROOT", str(both.parent))
    study = mc.open_study(both)
    for each in study.by_features().values():
        each.run(ThreadPoolExecutor(1), progress=False)
    monkeypatch.setattr(stats, "twins", lambda twins=stats.twins: twins(20))
    monkeypatch.setattr(stats, "across_calibration", lambda studies, f=stats.across_calibration: f(50))
    monkeypatch.setattr(stats, "calibration_table", lambda c, f=stats.calibration_table: f(c, studies=30))
    monkeypatch.setattr(figures, "save_figure", touch)
    names = sorted(f.stem for f in (CHECKOUT / "notebooks").glob("*.ipynb") if f.name[:2] in ("01", "02", "04", "05"))
    told = {name: execute(name, study, monkeypatch) for name in names}
    assert not any("Traceback" in text for text in told.values())
    assert "audio: mfcc (rate 100.0, extractor mfcc" in told["01_preprocessing"]
    assert "Self against cross with each set of features" in told["05_statistical_comparison"]
    assert {"forest_by_features", "by_features"} <= {file.stem for file in (both.parent / "figures").glob("*")}
