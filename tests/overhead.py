"""What the machinery costs: 300 runs that train next to nothing, less what the same training takes alone.

PYTHONPATH=. python tests/overhead.py: a minute. Seconds a run are those of processors, in all processes together, so
that other work on the machine matters little; those at the start are of the wall clock, and want an idle machine.
"""

import resource
import statistics
import tempfile
import time
from pathlib import Path

from loky import ProcessPoolExecutor, cpu_count

import mmer_core as mc
from mmer_core.running import KEEP_MEMORY
from mmer_core.training import train


def processors():
    """Seconds that this process and those of its children that have ended took."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def seconds_a_run(runs):
    """Of a processor, to train them one after another in this process."""
    train(*runs[0])  # kernels are compiled and loaded
    before = processors()
    for run in runs:
        train(*run)
    return (processors() - before) / len(runs)


def carried_out(study):
    """Seconds of processors, and of the wall clock until the first run is filed."""
    filed, write, before, started = [], study.ledger.write, processors(), time.perf_counter()
    study.ledger.write = lambda *a: filed.append(time.perf_counter()) or write(*a)
    study.run(progress=False)
    return processors() - before, filed[0] - started


def main():
    with tempfile.TemporaryDirectory() as folder:
        corpus = mc.make_demo_corpus(Path(folder) / "demo", utterances=100)
        few, many = (
            mc.Study(corpus, ["self_t"], seeds, None, mc.Protocol(max_epochs=1), Path(folder) / f"{len(seeds)}")
            for seeds in (range(1, 2), range(1, 61))
        )
        runs = [(corpus, run.variant, run.fold, run.seed, run.protocol) for run in many.runs]
        cores = cpu_count()  # all at work, as in the study: they share caches
        with ProcessPoolExecutor(cores, env=KEEP_MEMORY) as pool:
            alone = statistics.mean(pool.map(seconds_a_run, [runs[k::cores] for k in range(cores)]))
        start, _ = carried_out(few)
        whole, first = carried_out(many)
        each = (whole - start) / (len(many.runs) - len(few.runs)) - alone
    print(f"{1e3 * alone:.1f} ms to train a run, and {1e3 * each:.1f} ms more in the study; {first:.1f} s at the start")


if __name__ == "__main__":
    import overhead  # as a module, so that the other processes find its functions

    overhead.main()
