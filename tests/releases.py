"""Tiny releases in the exact layout of IEMOCAP and MELD, with made-up words, tones for voices and colours for faces."""

import math
import struct
import wave
from pathlib import Path

import numpy as np

LABELS = ("ang", "exc", "hap", "sad", "fru", "sur", "neu")
DIALOGUES = {  # by session: an improvised and a scripted one, some with a suffix
    1: ("Ses01F_impro01", "Ses01M_script01_1b"),
    2: ("Ses02M_impro02a", "Ses02F_script02_2"),
    3: ("Ses03F_impro03", "Ses03M_script01_3"),
}
APPLE = bytes([0, 5, 22, 7]) + b"\0" * 40
EVERY = 2 * len(LABELS)  # utterances of the seven classes in a dialogue
SECONDS = 0.5


def tone(file: Path, hertz: float, seconds: float, rate: int = 16_000):
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        x = [int(8000 * math.sin(2 * math.pi * hertz * i / rate)) for i in range(round(seconds * rate))]
        out.writeframes(struct.pack(f"<{len(x)}h", *x))


def film(file: Path, seconds: float, rate: int = 12, size=(96, 64), left=(200, 0, 0), right=(0, 0, 200)):
    """Two people side by side: one is red, the other one blue."""
    import av

    file.parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[:, : size[0] // 2], picture[:, size[0] // 2 :] = left, right
    with av.open(str(file), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(math.ceil(seconds * rate)):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)


def write_iemocap(root: Path, films: bool = True) -> Path:
    """IEMOCAP_full_release below `root`; returns it."""
    release = root / "IEMOCAP_full_release"
    for session, dialogues in DIALOGUES.items():
        for dialogue in dialogues:
            _dialogue(release / f"Session{session}", dialogue, films)
    return release


def _dialogue(session: Path, dialogue: str, films: bool):
    labels = [*LABELS * 2, "xxx", "fea"]
    evaluated, said, start = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], [], 1.0
    for i, label in enumerate(labels):
        speaker, seconds = "FM"[i % 2], SECONDS + 0.02 * i
        name = f"{dialogue}_{speaker}{i // 2:03d}"
        end = start + seconds
        evaluated.append(f"[{start:.4f} - {end:.4f}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]")
        evaluated += ["C-E2:\tNeutral;\t()", "C-F1:\tNeutral;\t(curious)", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
        text = f"Well: word{i} [LAUGHTER] {label} again." if i else "Caf\xe9, she said."
        said.append(f"{name} [{start:08.4f}-{end:08.4f}]: {text}")
        hertz = 200 + 20 * LABELS.index(label) if label in LABELS else 150
        tone(session / "sentences" / "wav" / dialogue / f"{name}.wav", hertz, seconds)
        start = end + 0.1
    said.append(f"{dialogue}_FXX0 [000.1000-000.2000]: Nobody hears this.")
    (session / "sentences" / "wav" / dialogue / f"._{dialogue}_F000.wav").write_bytes(APPLE)
    places = {"EmoEvaluation": "\n".join(evaluated), "transcriptions": "\n".join(said)}
    for place, text in places.items():
        folder = session / "dialog" / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dialogue}.txt").write_bytes(f"{text}\n".encode("latin-1"))
        (folder / f"._{dialogue}.txt").write_bytes(APPLE)
    other = session / "dialog" / "EmoEvaluation" / "Categorical"
    other.mkdir(exist_ok=True)
    (other / f"{dialogue}_e1_cat.txt").write_text(f"[1.0000 - 2.0000]\t{dialogue}_F000\tdis\t[1, 1, 1]\n")
    if films:
        film(session / "dialog" / "avi" / "DivX" / f"{dialogue}.avi", start)


FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
HEAD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"


def write_meld(root: Path, clips: bool = False) -> Path:
    """Three tables, of 7, 3 and 3 lines; clips are empty files, or films."""
    emotions = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
    for part, folder in FOLDERS.items():
        lines = [HEAD]
        for i in range(7 if part == "train" else 3):
            text = "It\x92s \x93fine\x94, no?" if i == 0 else f"Line {i}"
            times = f'"00:16:1{i},059","00:16:1{i + 1},731"'
            lines.append(f'{i + 1},"{text}",Joey,{emotions[i]},neutral,{i // 2},{i % 2},8,21,{times}')
            clip = root / folder / f"dia{i // 2}_utt{i % 2}.mp4"
            clip.parent.mkdir(parents=True, exist_ok=True)
            if clips:
                film(clip, 1.0)
            else:
                clip.write_bytes(b"")
        (root / f"{part}_sent_emo.csv").write_bytes("\n".join(lines).encode("latin-1"))
    (root / "train_splits" / "dia9_utt9.mp4").write_bytes(b"")  # belongs to no line
    (root / "train_splits" / "._dia0_utt0.mp4").write_bytes(APPLE)
    return root
