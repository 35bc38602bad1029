"""Folds: made by groups, read from the partition files of the field, and checked for what crosses their parts.

All go by the ids of utterances and depend on content, not on the order in which a store holds it.
"""

import csv
import io
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from mmer_core.corpus import PARTS, Corpus, Fold, check_folds
from mmer_core.errors import CorpusError, MmerError
from mmer_core.texts import read_json, read_table, read_text
from mmer_core.views import canonical

GROUPS = ("session", "speaker", "dialogue")  # from the largest
IEMOCAP_ID = re.compile(r"(Ses0[1-5])[FM]_(impro0[1-8]|script0[1-3]_[1-3])[ab]?_([FM])\d{3}")
MOST_NAMED = 9  # parts that lack a class
WORDS = 5  # of a text that is too long to be said twice by chance
Places = dict[tuple[int, str], list[str]]  # (fold, part): ids


def groups(corpus: Corpus, by: str) -> np.ndarray | None:
    """The session, speaker or dialogue of each utterance, [N] of text: as the corpus names it, or IEMOCAP's ids do."""
    known = getattr(corpus, f"{by}s")
    if known is None and (found := [IEMOCAP_ID.fullmatch(i) for i in corpus.ids]) and all(found):
        told = {
            "session": lambda m: m[1],
            "speaker": lambda m: m[1] + m[3],
            "dialogue": lambda m: m[0].rpartition("_")[0],
        }
        known = [told[by](m) for m in found]
    return None if known is None or "" in known else np.array(known)


def make_folds(corpus: Corpus, k: int | None = 5, by: str | None = "speaker", seed: int = 0) -> dict[int, Fold]:
    """Folds in which no group stands in two parts, and classes are as even as groups allow.

    Args:
        k: how many; None leaves each group out once ("session": the protocol of most IEMOCAP studies).
        by: "speaker", "dialogue" or "session"; None deals utterances out by class alone.
        seed: of what is left to chance: with groups, little is.

    The dev part is taken from the train part, by group as well: with k None the next group, else one of k shares.
    MmerError if the corpus does not name the groups, or has too few of them.
    """
    if by not in (None, *GROUPS) or not ((k is None and by) or (type(k) is int and k >= 3)):
        raise MmerError(f"folds: k is 3 or more, or None with a group; by is one of {GROUPS}; got k={k!r}, by={by!r}")
    order = canonical(corpus)
    label, group = corpus.label[order], groups(corpus, by) if by else None
    if by and group is None:
        raise MmerError(f"{corpus!r} does not name the {by} of every utterance")
    group = group if group is None else group[order]
    most = len(order) if group is None else len(np.unique(group))
    if most < (k or 3):
        raise MmerError(f"{k or 3} folds by {by} need as many of them; {corpus!r} has {most}")
    folds = {}
    for number, (rest, test) in enumerate(_splits(label, group, k, seed), 1):
        train, dev = _dev(label, group, rest, test, k, seed)
        folds[number] = Fold(*(order[part] for part in (train, dev, test)))
    check_folds(corpus.title, folds, len(corpus), corpus.ids)
    return folds


def _splits(label: np.ndarray, group: np.ndarray | None, k: int | None, seed: int) -> Iterable:
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold  # takes a second

    if k is None:
        return list(LeaveOneGroupOut().split(label, label, group))
    kind = StratifiedKFold if group is None else StratifiedGroupKFold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class rarer than k: `lacking` tells
            return list(kind(k, shuffle=True, random_state=seed).split(label, label, group))
    except ValueError as error:
        raise MmerError(f"{k} folds cannot be made: {error}") from None


def _dev(label: np.ndarray, group: np.ndarray | None, rest: np.ndarray, test: np.ndarray, k: int | None, seed: int):
    """The rest of a fold, shared out: train and dev."""
    if k is None and group is not None:
        names = np.unique(group)
        following = names[(np.searchsorted(names, group[test[0]]) + 1) % len(names)]
        chosen = group[rest] == following
        return rest[~chosen], rest[chosen]
    many = len(rest) if group is None else len(np.unique(group[rest]))
    train, dev = next(iter(_splits(label[rest], None if group is None else group[rest], min(k or 5, many), seed)))
    return rest[train], rest[dev]


# ------------------------------------------------------------------------------------------------------ partition files


def write_folds(corpus: Corpus, folds: Mapping[int, Fold], file: str | Path) -> Path:
    """Write folds by utterance id: a CSV file with the columns id, fold, part."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "fold", "part"])
    for k, fold in folds.items():
        writer.writerows((corpus.ids[row], k, part) for part, rows in zip(PARTS, fold, strict=True) for row in rows)
    Path(file).write_text(out.getvalue(), encoding="utf-8")
    return Path(file)


def read_folds(corpus: Corpus, file: str | Path) -> dict[int, Fold]:
    """Folds from a partition file or folder.

    Ours (id, fold, part), and of IEMOCAP and others: EmoBox's folder with fold_1, fold_2, .. (jsonl or json), s3prl's
    with Session1, .. (json), EMO-SUPERB's with labels_consensus_1.csv, ... Only ids and parts are read: their fields
    for speakers are wrong. Where there is no dev part, a share of the train part becomes it: by session, else by
    speaker or dialogue, else by class.

    CorpusError for a file that is none of these, or ids that the corpus does not have: all of ours must be there.
    """
    return partition(corpus, Path(file))[0]


def partition(corpus: Corpus, file: Path) -> tuple[dict[int, Fold], list[str]]:
    """As `read_folds`, with what is to be told of it in sentences."""
    file = Path(os.path.expanduser(file))  # unlike Path's own, no error where there is no such user
    places, ours = _places(file)
    known = {name: row for row, name in enumerate(corpus.ids)}
    if len(known) < len(corpus.ids):
        raise CorpusError(file, f"a corpus with one utterance an id, to place them; {corpus.title} has not", "others")
    for (k, part), names in places.items():
        if len(set(names)) < len(names):
            again = next(name for name, n in Counter(names).items() if n > 1)
            raise CorpusError(f"{file} fold {k} {part}", "an utterance once in each fold", f"{again!r} again")
    ids = {name for part in places.values() for name in part}
    unknown = sorted(ids - known.keys())
    if unknown and (ours or len(unknown) == len(ids)):
        raise CorpusError(
            file, f"ids of {corpus.title}, such as {corpus.ids[0]!r}", f"{len(unknown)} others: {unknown[0]!r}"
        )
    told = [f"Folds from {file.name}."]
    told += [f"{len(unknown)} of its {len(ids)} utterances are not in this corpus."] if unknown else []
    left = len(known.keys() - ids)
    told += [f"{left} utterances of this corpus stand in none of its folds."] if left else []
    folds: dict[int, Fold] = {}
    for k in sorted({k for k, _ in places}):
        train, dev, test = (np.array([known[i] for i in places.get((k, p), ()) if i in known], np.int64) for p in PARTS)
        if not len(dev) and len(train) and (k, "dev") not in places:
            train, dev, by = _share(corpus, train)
            told += [f"It has no dev part: a fifth of the train part, by {by}, is dev."] if not folds else []
        folds[k] = Fold(train, dev, test)
    check_folds(file, folds, len(corpus), corpus.ids)
    fewer = {k: len(ids & known.keys()) - sum(map(len, fold)) for k, fold in folds.items()}
    if some := [f"{n} in fold {k}" for k, n in fewer.items() if n]:
        told += [f"Utterances of other folds that stand in no part: {', '.join(some)}."]
    return folds, told


def _share(corpus: Corpus, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """A train part without its dev part, the dev part, and by what it was chosen."""
    order = canonical(corpus)
    rest = order[np.isin(order, train)]
    for by in GROUPS:
        group = groups(corpus, by)
        if group is not None and len(np.unique(group[rest])) > 1:
            break
    else:
        by, group = "class", None
    few, dev = _dev(corpus.label, group, rest, rest[:0], 5, 0)
    return few, dev, by


def _places(file: Path) -> tuple[Places, bool]:
    """Ids by fold and part, and whether the file is one of ours."""
    return (_of_others(file), False) if os.path.isdir(file) else (_ours(file), True)


def _of_others(file: Path) -> Places:
    for pattern, read in _FOLDERS.items():
        found = [(int(m[1]), f) for f in sorted(file.iterdir()) if (m := re.fullmatch(pattern, f.name))]
        if found:
            if len(dict(found)) < len(found):
                raise CorpusError(file, "one of each fold", ", ".join(f.name for _, f in found))
            places: Places = {}
            for k, one in sorted(found):
                parts = read(one, k)
                if not {"train", "test"} <= parts.keys():
                    raise CorpusError(one, "utterances to train and to test", ", ".join(parts) or "none")
                places |= {(k, part): ids for part, ids in parts.items()}
            return places
    raise CorpusError(file, "folders fold_1 (EmoBox) or Session1 (s3prl), or labels_consensus_1.csv", "none of these")


def _ours(file: Path) -> Places:
    places: Places = {}
    seen: set[tuple[str, int]] = set()
    for row in read_table(file, ["id", "fold", "part"]):
        where = f"{file} line {row['line']}"
        if not re.fullmatch(r"\d{1,9}", row["fold"]) or row["part"] not in PARTS:
            raise CorpusError(where, f"a number of a fold, and {PARTS}", f"{row['fold']!r}, {row['part']!r}")
        if (row["id"], k := int(row["fold"])) in seen:
            raise CorpusError(where, "an utterance once in each fold", f"{row['id']!r} again in fold {k}")
        seen.add((row["id"], k))
        places.setdefault((k, row["part"]), []).append(row["id"])
    if not places:
        raise CorpusError(file, "utterances with their fold and part", "none")
    return places


def _emobox(folder: Path, k: int) -> dict[str, list[str]]:
    """fold_k/<dataset>_{train,valid,test}_fold_k.jsonl, or .json: keys are "<dataset>-<id>"."""
    parts: dict[str, list[str]] = {}
    for file in sorted(folder.glob(f"*_fold_{k}.json*")):
        part = {"valid": "dev"}.get(name := file.name.split("_fold_")[0].rpartition("_")[2], name)
        lines = file.suffix == ".jsonl"
        rows: Any = (
            [_parsed(file, line) for line in read_text(file).splitlines() if line.strip()] if lines else _parsed(file)
        )
        rows = rows if isinstance(rows, (list, dict)) else [rows]
        keys: list[Any] = [row.get("key") if isinstance(row, dict) else row for row in rows]
        if part not in PARTS or not all(isinstance(key, str) for key in keys):
            raise CorpusError(file, 'train, valid or test, and a "key" for each utterance', "something else")
        parts[part] = [key.partition("-")[2] or key for key in keys]
    return parts


def _s3prl(folder: Path, k: int) -> dict[str, list[str]]:
    """Session<k>/{train,test}_meta_data.json: the id is the stem of "path"."""
    parts = {}
    for part in ("train", "test"):
        data = _parsed(file := folder / f"{part}_meta_data.json")
        rows = data.get("meta_data") if isinstance(data, dict) else None
        if not isinstance(rows, list) or not all(isinstance(r, dict) and isinstance(r.get("path"), str) for r in rows):
            raise CorpusError(file, '"meta_data" with a "path" for each utterance', "something else")
        parts[part] = [PurePosixPath(row["path"]).stem for row in rows]
    return parts


def _emo_superb(file: Path, k: int) -> dict[str, list[str]]:
    """labels_consensus_<k>.csv: FileName, and Split_Set of Train, Development, Test (the number is no session)."""
    parts: dict[str, list[str]] = {}
    for row in read_table(file, ["FileName", "Split_Set"]):
        part = {"Train": "train", "Development": "dev", "Test": "test"}.get(row["Split_Set"])
        if part is None:
            raise CorpusError(f"{file} line {row['line']}", "Train, Development or Test", repr(row["Split_Set"]))
        parts.setdefault(part, []).append(PurePosixPath(row["FileName"]).stem)
    return parts


_FOLDERS = {r"fold_(\d+)": _emobox, r"Session(\d+)": _s3prl, r"labels_consensus_(\d+)\.csv": _emo_superb}


def _parsed(file: Path, line: str | None = None) -> dict | list:
    if line is None:
        return read_json(file, "a partition")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(file, "a JSON object in each line", f"{line[:80]!r}: {error}"[:200]) from None


# ------------------------------------------------------------------------------------------------------ what crosses


def crossing(corpus: Corpus) -> pd.DataFrame:
    """What stands in more than one part of a fold, a row a fold: groups, and texts of at least five words.

    Columns: fold, and of session, speaker, dialogue and text those that the corpus names. Where a count is not 0, a
    network may know the group, or the sentence, of a test utterance from its train part.
    """
    named: dict[str, Any] = {}
    for by in GROUPS:
        if (group := groups(corpus, by)) is not None:
            named[f"{by}s"] = group
    if (said := _said(corpus)) is not None:
        named["texts"] = said
    rows = []
    for k, fold in corpus.folds.items():
        row = {"fold": k}
        for what, of in named.items():
            count = Counter(x for rows in fold for x in {of[r] for r in rows} if x)
            row[what] = sum(n > 1 for n in count.values())
        rows.append(row)
    return pd.DataFrame(rows, columns=["fold", *named])


def leaks(corpus: Corpus) -> list[str]:
    """What crosses the parts of a fold, at most, in sentences."""
    worst = crossing(corpus).drop(columns="fold").max() if corpus.folds else {}
    where = "stand in two parts of a fold"
    return [f"{int(n)} {what} {where}, at most." if n else f"No {what} {where}." for what, n in worst.items()]


def lacking(corpus: Corpus) -> list[str]:
    """Which parts of which folds have no utterance of a class, in a sentence: scores over classes leave those out."""
    found = []
    for k, fold in corpus.folds.items():
        for part, rows in zip(PARTS, fold, strict=True):
            there = np.bincount(corpus.label[rows], minlength=len(corpus.classes)) > 0
            if not there.all():
                found.append(f"fold {k} {part} ({', '.join(np.array(corpus.classes)[~there])})")
    told = "; ".join(found[:MOST_NAMED]) + f"; and {len(found) - MOST_NAMED} more" * (len(found) > MOST_NAMED)
    return [f"Parts without an utterance of a class: {told}."] if found else []


def _said(corpus: Corpus) -> list | None:
    """Each text of at least five words in a form that can be compared, others as ""; None if there are no texts."""
    if corpus.texts is not None:
        words: Iterable = (re.findall(r"\w+", text.casefold()) for text in corpus.texts)
    elif "tokens" in corpus.arrays:
        words = (row[:n].tolist() for row, n in zip(corpus.column("tokens"), corpus.lengths["text"], strict=True))
    else:
        return None
    return [tuple(said) if len(said) >= WORDS else "" for said in words]
