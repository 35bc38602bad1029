"""How fast stacks of runs train on a GPU, beside the textbook network on the same card.

`python tests/bench_gpu.py` measures and asserts nothing. Batches are full, of random numbers, at the sizes of IEMOCAP
and MELD; a study's time is added up from measured steps for EPOCHS epochs a run.
"""

import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench import BATCH, GFLOP, SIZES, large_store
from textbook import like
from torch.nn import functional as F

import mmer_core as mc
from mmer_core.corpus import open_store
from mmer_core.stack import Stack
from mmer_core.training import Protocol, RunState
from mmer_core.variant import PAPER_VARIANTS, Variant

DEVICE = "cuda"
RUNS, EPOCHS, SEEDS, FOLDS = 50, 25, 10, 5
UTTERANCES = {"IEMOCAP": 7487, "MELD": 13708}
TRAIN, DEV = 0.6, 0.2


def seconds(function, repeats=5):
    """The median of some calls, warmed up, waiting for the device."""
    took = []
    for _ in range(repeats + 2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - started)
    return statistics.median(took[2:])


def textbook_seconds(name, sizes, dtype):
    """One step of one run of the textbook network."""
    model = like(mc.FusionModel(PAPER_VARIANTS[name], sizes, dtype=dtype)).to(DEVICE)
    x = {m: torch.randn(BATCH, *getattr(sizes, m), dtype=dtype, device=DEVICE) for m in ("text", "video", "audio")}
    label, optimiser = torch.randint(7, (BATCH,), device=DEVICE), torch.optim.Adam(model.parameters())

    def step():
        optimiser.zero_grad()
        F.cross_entropy(model(x, dict.fromkeys(x)), label).backward()
        optimiser.step()

    return seconds(step)


def stacked(corpus, variant, runs=RUNS):
    """A stack and its runs, with random numbers as features and full lengths."""
    stack = Stack(corpus, variant, Protocol(), DEVICE)
    for array, x in stack.batches.arrays.items():
        if x.is_floating_point():
            x.normal_()
        elif array == "tokens":
            x.random_(1, 3000)
    places = [(fold, seed) for seed in range(1, runs // FOLDS + 1) for fold in range(1, FOLDS + 1)]
    return stack, [RunState(corpus, variant, *place, Protocol(), DEVICE) for place in places]


def measured(corpus, variant, runs=RUNS):
    """Seconds of a train step and of a batch without gradients, for all runs at once; GB of memory at most."""
    stack, states = stacked(corpus, variant, runs)
    rng, n = np.random.default_rng(0), len(corpus.label)
    rows = [rng.integers(0, n, BATCH) for _ in states]
    seeds = [torch.randint(2**62, (1 + len(variant.blocks),)) for _ in states]
    torch.cuda.reset_peak_memory_stats()
    train = seconds(lambda: stack.step(states, rows, seeds).tolist())
    without = seconds(lambda: stack.predict(states, rows))
    return train, without, torch.cuda.max_memory_allocated() / 1e9


def ceilings():
    """TFLOP/s of float32 products, TB/s of a copy."""
    a, x = torch.randn(50, 4096, 1024, device=DEVICE), torch.empty(2**30, device=DEVICE)
    product, copy = seconds(lambda: a @ a.mT), seconds(lambda: x.clone())
    return 50 * 2 * 4096**2 * 1024 / product / 1e12, 8 * 2**30 / copy / 1e12


def main():
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    tflops, _ = found = ceilings()
    print("float32 products {:.1f} TFLOP/s, copies {:.2f} TB/s".format(*found))
    for name, sizes in SIZES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        for variant in GFLOP:
            one, two = (textbook_seconds(variant, sizes, x) for x in (torch.float64, torch.float32))
            print(f"{name} {variant}: textbook {1 / one:.0f} (float64), {1 / two:.0f} (float32) run-steps a second")
        with tempfile.TemporaryDirectory() as folder:
            large_store(Path(folder) / "store", sizes, UTTERANCES[name], filled=0)
            corpus, total = open_store(Path(folder) / "store"), 0.0
            batches = [math.ceil(UTTERANCES[name] * part / BATCH) for part in (TRAIN, DEV)]
            for variant in [*PAPER_VARIANTS.values(), Variant("tva", "cross", preset="corrected")]:
                train, without, memory = measured(corpus, variant)
                whole = EPOCHS * (batches[0] * train + batches[1] * without) + batches[1] * without
                share = (
                    GFLOP.get(variant.name, math.nan) * RUNS / 1e3 / tflops / train if name == "IEMOCAP" else math.nan
                )
                print(
                    f"{name} {variant.name}: step {1e3 * train:.1f} ms, evaluation {1e3 * without:.1f} ms, "
                    f"{RUNS / train:.0f} run-steps a second, {share:.0%} of float32, {memory:.1f} GB, "
                    f"{RUNS} runs {whole:.0f} s"
                )
                total += whole * (variant in PAPER_VARIANTS.values())
            print(f"{name}: the study's {len(PAPER_VARIANTS)} variants, {RUNS} runs each: {total / 60:.0f} minutes")


if __name__ == "__main__":
    main()
