"""python -m mmer_core: the study without notebooks, for a terminal or a cluster."""

import argparse
import sys

import mmer_core as mc


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mmer_core",
        description="Carry out the study that a file declares; without --study that is data/study.toml, the demo.",
        epilog="To use your own corpus, copy data/study.toml, set `corpus` in it, and name it with --study.",
    )
    parser.add_argument("--study", metavar="FILE", help="its declaration (default: $MMER_STUDY or data/study.toml)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="make the synthetic demo corpus in data/demo, or say that it is there")
    run = commands.add_parser("run", help="train the runs that the ledger lacks, one process per core")
    run.add_argument("--variants", nargs="+", metavar="NAME", default=["*"], help='only these, or patterns: "cross_*"')
    run.add_argument("--device", help='train all runs of a variant at once on this device: "cuda" for a GPU')
    run.add_argument("--retry", action="store_true", help="train those that have failed, too")
    commands.add_parser("status", help="runs done, failed and missing, scores so far, hours spent").add_argument(
        "--verify", action="store_true", help="read all records; set aside those that are damaged"
    )
    export = commands.add_parser("export", help="write figures, tables and texts of the finished runs for a paper")
    export.add_argument("--to", metavar="FOLDER", help="where to (default: figures/)")
    export.add_argument("--venue", metavar="NAME", help='widths of its pages, such as "neurips2024" (default: IEEE)')
    export.add_argument("--check", action="store_true", help="write nothing; name what is outdated there (status 1)")
    publish = commands.add_parser("publish", help="write scores and settings of the finished runs, for other groups")
    publish.add_argument("file", metavar="FILE.csv", help="one row a run; no utterance, transcript, id or label")
    options = parser.parse_args(arguments)
    getattr(sys.stdout, "reconfigure", lambda **_: None)(errors="replace")  # a terminal may not know all letters
    try:
        if options.command == "demo":
            print(mc.make_demo_corpus(mc.paths.root() / "data" / "demo"))
            return 0
        study = mc.open_study(options.study)
        print(study)
        if options.command == "run":
            study.select(*options.variants).run(device=options.device, retry=options.retry)
        if options.command == "export" and options.check:
            stale = mc.stale(options.to, study)
            print(*(f"{name}: {why}" for name, why in stale.items()), sep="\n", end="\n" if stale else "")
            print(f"{len(stale)} outdated")
            return int(bool(stale))
        if options.command == "export":
            files = mc.export(study, options.to, options.venue)
            print(f"{len(files)} files in {files[0].parent}\n{mc.tables.REMINDER}")
        elif options.command == "publish":
            print(f"{mc.tables.publish(study, options.file)} of {len(study.runs)} runs are in {options.file}")
        else:
            _status(study, getattr(options, "verify", False))
    except mc.MmerError as error:  # the message says all
        print(f"mmer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmmer: interrupted; finished runs are kept, `run` goes on with the rest", file=sys.stderr)
        return 130
    return 0


def _status(study: mc.Study, verify: bool) -> None:
    for run, why in study.verify(set_aside=True).items() if verify else ():
        print(f"{run} is set aside, `run` trains it again: {why}")
    print(study.status().to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    sys.exit(main())
