"""Sound and pictures out of recordings: one channel at a stated rate, frames at stated times; nothing is guessed.

A file that is cut off is refused where its head says how long it is: wav, aiff, avi, mp4, mov (not mp3, ogg, mkv).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
import soundfile
from jaxtyping import Float, UInt8

from mmer_core.errors import CorpusError
from mmer_core.extract.found import Recording

SHORT = 0.02  # seconds of a last picture that are none of its own: clocks of films are not exact
SLACK = 0.5  # seconds by which a stated end may lie behind the end of a file: clocks of annotations are not exact


def sound(recording: Recording, rate: int) -> Float[np.ndarray, " samples"]:
    """One channel at `rate` samples a second, in -1..1: the mean of all channels, resampled (soxr).

    CorpusError, naming the file, if it is missing, cut off, silent for want of samples, or not finite.
    """
    file = recording.sound
    if file is None:
        raise CorpusError(recording.id, "a recording with sound", "none was found")
    x, own = _samples(file)
    if recording.sound_span:
        start, end = recording.sound_span
        if not 0 <= start < end <= len(x) / own + SLACK:
            raise CorpusError(file, f"seconds within its {len(x) / own:.2f}", f"{start}..{end}")
        x = x[round(start * own) : round(end * own)]
    if not len(x) or not np.isfinite(x).all():
        raise CorpusError(file, "finite samples", "NaN or infinity" if len(x) else "none")
    x = x.mean(1)
    return x if own == rate else librosa.resample(x, orig_sr=own, target_sr=rate, res_type="soxr_hq")


def oddities(recording: Recording, rate: int) -> list[str]:
    """What is done to a sound before its features are computed, in words."""
    if recording.sound is None:
        return []
    own, channels = _head(recording.sound)
    told = [f"resampled from {own} to {rate} samples a second"] if own != rate else []
    return told + ([f"{channels} channels averaged"] if channels > 1 else [])


def _samples(file: Path) -> tuple[Float[np.ndarray, "samples channels"], int]:
    try:
        _check_whole(file)
        if _known(file):
            return soundfile.read(file, dtype="float32", always_2d=True)
        with av.open(str(file)) as container:
            if not container.streams.audio:
                raise CorpusError(file, "a recording with sound", "a film without")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler("fltp", stream.layout, stream.rate)
            frames = [f.to_ndarray().T for frame in container.decode(stream) for f in resampler.resample(frame)]
            late = max(0.0, float((stream.start_time or 0) * (stream.time_base or 0)) - _zero(container))
            return np.concatenate(
                [np.zeros((round(late * stream.rate), frames[0].shape[1]), np.float32), *frames]
            ), stream.rate
    except CorpusError:
        raise
    except Exception as error:  # the libraries have many
        raise CorpusError(file, "a recording with sound", f"{type(error).__name__}: {error}"[:200]) from None


def _zero(container: Any) -> float:
    """The time of the container's first picture or sound, in seconds: what spans are counted from."""
    return max(0, container.start_time or 0) / av.time_base  # before 0 is what a decoder of sound needs to begin


def _head(file: Path) -> tuple[int, int]:
    """Samples a second, and channels."""
    if _known(file):
        told = soundfile.info(file)
        return told.samplerate, told.channels
    with av.open(str(file)) as container:
        return container.streams.audio[0].rate, container.streams.audio[0].channels


def _known(file: Path) -> bool:
    return file.suffix.lower() in (".wav", ".flac", ".ogg", ".aiff", ".aif")


def _check_whole(file: Path) -> None:
    """CorpusError if a file ends before what its head promises; libraries read such in silence."""
    size = file.stat().st_size
    with open(file, "rb") as f:
        head = f.read(12)
        form, promised = head[:4] + head[8:], int.from_bytes(head[4:8], "big" if head[:4] == b"FORM" else "little")
        if form in (b"FORMAIFF", b"FORMAIFC", b"RIFFAVI ") and promised < 2**32 - 2**9 and promised + 8 > size:
            raise CorpusError(file, f"{promised + 8} bytes, as its head says", f"{size}")
        if form != b"RIFFWAVE":
            return
        while len(head := f.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if (
                head[:4] == b"data" and length < 2**32 - 2**9 and f.tell() + length > size
            ):  # else: not known when written
                raise CorpusError(file, f"{length} bytes of sound, as its head says", f"{size - f.tell()}")
            f.seek(length + length % 2, 1)


def pictures(recording: Recording, rate: float, size: int, grow: bool) -> UInt8[np.ndarray, "N size size 3"]:
    """`rate` frames a second (RGB), of the half of the picture that shows the speaker, its centre cut out.

    Args:
        grow: scale the picture so that the whole of its shorter side is seen; else only if it is smaller than `size`.

    CorpusError, naming the file, if it cannot be decoded or has no frame in its span.
    """
    file = recording.video
    if file is None:
        raise CorpusError(recording.id, "a recording with a picture", "none was found")
    try:
        _check_whole(file)
        found = [_cut(frame, recording.half, size, grow) for frame in _frames(file, recording.video_span, rate)]
    except CorpusError:
        raise
    except Exception as error:
        raise CorpusError(file, "a recording with a picture", f"{type(error).__name__}: {error}"[:200]) from None
    if not found:
        raise CorpusError(file, f"a picture in the seconds {recording.video_span}", "none")
    return np.stack(found)


def _frames(file: Path, span: tuple[float, float] | None, rate: float) -> Iterator[av.VideoFrame]:
    """The first frame at or after each of the times start, start + 1 / rate, .. before the end.

    Where the next frame is farther away than the next time, the one before is still to be seen, and comes again.
    CorpusError for a span that ends behind the film, or a film that ends before what its head promises.
    """
    start, end = span or (0.0, math.inf)
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        zero = _zero(container)
        if start > 0:
            container.seek(int((start + zero) * av.time_base))  # to the last whole picture before
        wanted, tolerance, last, over = 0, 1e-3, None, 0.0
        for frame in container.decode(stream):
            time = (frame.time or 0.0) - zero - start
            if time >= end - start - tolerance and wanted:
                break
            while last and (wanted + 1) / rate <= time + tolerance:
                yield last
                wanted += 1
            if time >= wanted / rate - tolerance:
                yield frame
                wanted = max(wanted + 1, math.ceil((time + tolerance) * rate))
            last, shown = frame, float((frame.duration or 0) * (frame.time_base or 0))
            over = time + shown
        else:
            _check_end(file, stream, start + over, end)
        while last and wanted / rate < min(end - start, over - min(shown / 2, SHORT)) - tolerance:
            yield last
            wanted += 1


def _check_end(file: Path, stream: Any, over: float, end: float) -> None:
    """CorpusError if a film is over before the end of the span, or before its own head says."""
    promised = float((stream.duration or 0) * (stream.time_base or 0))
    if over + SLACK < promised:
        raise CorpusError(file, f"{promised:.2f} seconds of film, as its head says", f"{over:.2f}")
    if math.isfinite(end) and end > over + SLACK:
        raise CorpusError(file, f"seconds within its {over:.2f}", f"up to {end}")


def _cut(frame: av.VideoFrame, half: str, size: int, grow: bool) -> UInt8[np.ndarray, "size size 3"]:
    turns = round((frame.rotation or 0) / 90) % 4  # of a camera that was held upright, against the clock
    width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    factor = size / min(width // 2 if half else width, height)
    if grow or factor > 1:
        frame = frame.reformat(width=math.ceil(frame.width * factor), height=math.ceil(frame.height * factor))
    x = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    middle = x.shape[1] // 2
    x = {"left": x[:, :middle], "right": x[:, middle:]}.get(half, x)
    top, left = (x.shape[0] - size) // 2, (x.shape[1] - size) // 2
    return x[top : top + size, left : left + size]
