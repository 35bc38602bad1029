"""python -m mmer_core: the study without notebooks, for a terminal or a cluster."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import mmer_core as mc


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    getattr(sys.stdout, "reconfigure", lambda **_: None)(errors="replace")  # a terminal may not know all letters
    try:
        if options.command == "demo":
            print(mc.make_demo_corpus(mc.paths.root() / "data" / "demo"))
            return 0
        if options.command == "extract":
            return _extract(options)
        if options.command == "doctor":
            return mc.doctor.report(options.study)
        study = _watched(options) if options.command in ("status", "prune") else mc.open_study(options.study)
        print(study)
        return _COMMANDS[options.command](study, options) or 0
    except mc.MmerError as error:  # the message says all
        print(f"mmer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmmer: interrupted; finished runs are kept, `run` goes on with the rest", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmer_core",
        description="Carry out the study that a file declares; without --study that is data/study.toml, the demo.",
        epilog="To use your own corpus, copy data/study.toml, set `corpus` in it, and name it with --study.",
    )
    parser.add_argument("--study", metavar="FILE", help="its declaration (default: $MMER_STUDY or data/study.toml)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="make the synthetic demo corpus in data/demo, or say that it is there")
    commands.add_parser("doctor", help="versions, machine and state of the study, for a bug report; and what is wrong")
    extract = commands.add_parser("extract", help="compute features of recordings, as a folder that a study can name")
    extract.add_argument("source", metavar="SOURCE", help="recordings, IEMOCAP's release, or MELD's")
    extract.add_argument("out", metavar="OUT", help="the folder of features")
    extract.add_argument("--csv", metavar="FILE", help="the table of utterances (default: SOURCE/utterances.csv)")
    extract.add_argument("--recipe", metavar="NAME", default="study", help="study, modern, or a file (default: study)")
    for modality in ("text", "video", "audio"):
        extract.add_argument(
            f"--{modality}", metavar="EXTRACTOR", help='in place of the recipe\'s; "none" leaves it out'
        )
    extract.add_argument("--skip", action="store_true", help="leave out recordings that cannot be read, and tell which")
    extract.add_argument("--device", default="cpu", help='where encoders run: "cuda" for a GPU')
    run = commands.add_parser("run", help="train the runs that the ledger lacks, one process per core")
    run.add_argument("--variants", nargs="+", metavar="NAME", default=["*"], help='only these, or patterns: "cross_*"')
    run.add_argument("--device", help='train all runs of a variant at once on this device: "cuda" for a GPU')
    run.add_argument("--retry", action="store_true", help="train those that have failed, too")
    status = commands.add_parser("status", help="runs done, failed and missing, scores so far, hours spent")
    status.add_argument("--verify", action="store_true", help="read all records; set aside those that are damaged")
    status.add_argument("--follow", action="store_true", help="tell what happens until all runs are tried")
    prune = commands.add_parser("prune", help="give up the weights of finished runs to save room; all else stays")
    prune.add_argument("variants", nargs="*", metavar="VARIANT", default=["*"], help='only these: "cross_*"')
    for name, what in {
        "show": "tell where a run comes from",
        "rerun": "train a run again and compare every bit",
    }.items():
        commands.add_parser(name, help=what).add_argument(
            "run",
            metavar="RUN",
            help="self_tva/1/2 (variant, fold, seed); of several sets of features modern/self_tva/1/2",
        )
    export = commands.add_parser("export", help="write figures, tables and texts of the finished runs for a paper")
    export.add_argument("--to", metavar="FOLDER", help="where to (default: figures/)")
    export.add_argument("--venue", metavar="NAME", help='widths of its pages, such as "neurips2024" (default: IEEE)')
    export.add_argument("--check", action="store_true", help="write nothing; name what is outdated there (status 1)")
    publish = commands.add_parser("publish", help="write scores and settings of the finished runs, for other groups")
    publish.add_argument("file", metavar="FILE.csv", help="one row a run; no utterance, transcript, id or label")
    return parser


def _extract(options: argparse.Namespace) -> int:
    try:
        from mmer_core.extract.work import extract, recipe
    except ImportError as error:
        raise mc.MmerError(f"extract needs more packages: pip install -e '.[extract]' ({error})") from None
    chosen = {m: name for m in ("text", "video", "audio") if (name := getattr(options, m))}
    settings = recipe(options.recipe, chosen)
    print(*extract(options.source, options.out, settings, options.csv, options.skip, options.device), sep="\n")
    return 0


def _run(study: "mc.Study", options: argparse.Namespace) -> None:
    for each in study.by_features().values():
        each.select(*options.variants).run(device=options.device, retry=options.retry)
    _status(study)


def _watched(options: argparse.Namespace) -> Any:
    """The study to be looked at: that needs no torch, which takes seconds to load."""
    declaration = mc.declaration.read(options.study)
    return mc.watching.Watched(declaration.open_corpus(), declaration)


def _status(study: Any, options: argparse.Namespace | None = None) -> None:
    for sentence in mc.folds.lacking(study.corpus):
        print(sentence)
    for name, each in study.by_features().items():
        for run, why in each.verify(set_aside=True).items() if options and options.verify else ():
            print(f"{run} is set aside, `run` trains it again: {why}")
        if options and options.verify and (pruned := sum(record.pruned for _, record in each.finished())):
            print(f"The weights of {pruned} runs are pruned; all else of them is there.")
        table = each.status().to_string(index=False, float_format="{:.3f}".format)
        print(*[f"Features: {name}"] * bool(name), table, each.progress(), sep="\n")
    if options and options.follow:
        _follow(study.by_features())


def _follow(studies: dict[str, Any]) -> None:
    """Tell every event of their ledgers once, and of each study how far it is whenever one of its runs is tried."""
    wanted = {name: [run for run in s.missing() if not s.ledger.failure(run)] for name, s in studies.items()}
    watches = {name: mc.watching.Watch(s, wanted[name]) for name, s in studies.items()}
    tells = {s.ledger.log.file: name for name, s in studies.items()}
    while any(watch.waiting for watch in watches.values()):
        for name, watch in watches.items():
            done, news = watch.done, watch.news()
            if tells[watch.study.ledger.log.file] == name:
                print(*map(mc.events.in_words, news), sep="\n", end="\n" if news else "")
            if watch.done > done:
                print(f"Features {name}: {watch}" if name else watch, flush=True)
        time.sleep(1)


def _prune(study: Any, options: argparse.Namespace) -> None:
    pruned = [each.prune(*options.variants) for each in study.by_features().values()]
    runs, freed = map(sum, zip(*pruned, strict=True))
    print(
        f"The weights of {runs} runs are pruned, which frees {freed / 1e6:.1f} MB. Scores, predictions and curves stay."
    )
    print("Attention maps and checks of these networks need them: `rerun RUN` trains a run again and puts them back.")


def _named(study: "mc.Study", name: str) -> tuple["mc.Study", "mc.Run"]:
    """The run that is meant, and its study: of several sets of features, SET/VARIANT/FOLD/SEED names one."""
    sets, (first, _, rest) = study.by_features(), name.partition("/")
    if first in sets:
        return sets[first], sets[first].named(rest)
    by_key = [(each, run) for each in sets.values() for run in each.runs if run.key.startswith(name)]
    if len(sets) > 1 and len(by_key) != 1:
        raise mc.MmerError(f"RUN is SET/VARIANT/FOLD/SEED, with a SET of {', '.join(sets)}; got {name!r}")
    return by_key[0] if len(by_key) == 1 else (study, study.named(name))


def _show(study: "mc.Study", options: argparse.Namespace) -> None:
    its, run = _named(study, options.run)
    record = its.ledger.read(run)
    long = ("curve", "confusion", "classes", "files")
    told = {name: value for name, value in record.summary.items() if name not in long}
    print(json.dumps({**told, "record": str(record.folder)}, indent=1))


def _rerun(study: "mc.Study", options: argparse.Namespace) -> int:
    its, run = _named(study, options.run)
    differs = its.rerun(run)
    print("\n".join(["It differs:", *differs]) if differs else "The same bits: weights, logits and learning curve.")
    return int(bool(differs))


def _export(study: "mc.Study", options: argparse.Namespace) -> int:
    if not options.check:
        files = mc.export(study, options.to, options.venue)
        print(f"{len(files)} files in {files[0].parent}\n{mc.tables.REMINDER}")
        return 0
    stale = mc.stale(options.to, study)
    print(*(f"{name}: {why}" for name, why in stale.items()), sep="\n", end="\n" if stale else "")
    print(f"{len(stale)} outdated")
    return int(bool(stale))


def _publish(study: "mc.Study", options: argparse.Namespace) -> None:
    runs = sum(len(each.runs) for each in study.by_features().values())
    print(f"{mc.tables.publish(study, options.file)} of {runs} runs are in {options.file}")


_COMMANDS: dict[str, Callable[[Any, argparse.Namespace], int | None]] = {
    **{"run": _run, "status": _status, "show": _show, "rerun": _rerun, "export": _export, "publish": _publish},
    "prune": _prune,
}

if __name__ == "__main__":
    sys.exit(main())
