"""How fast the networks train, beside the textbook network in float64, which is what the published code does.

`make bench` runs this file; it measures and asserts nothing. All figures are ratios within one run, because the speed
of a machine changes from minute to minute: every core trains its own network on one thread, all at the same time, and
the two networks take turns. The batches are full: no padding, so nothing is gained where padding could be left out.
"""

import json
import platform
import statistics
import tempfile
import threading
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from loky import ProcessPoolExecutor, cpu_count
from textbook import like
from torch.nn import functional as F

import mmer_core as mc
from mmer_core.corpus import Size, Sizes, open_store
from mmer_core.running import KEEP_MEMORY
from mmer_core.store import PARTS, finish_store, new_store
from mmer_core.training import feed

SIZES = {
    "IEMOCAP": Sizes(Size(128, 300), Size(32, 2048), Size(1000, 120), 7),
    "MELD": Sizes(Size(64, 300), Size(16, 108), Size(16, 771), 7),
}
GFLOP = {"self_tva": 29.8, "cross_tva": 30.9}  # a step of the pooled form at IEMOCAP's sizes, batch 32 (design)
BATCH, REPEATS = 32, 5
STEPS = {"IEMOCAP": (1, 4), "MELD": (4, 12)}  # of the textbook network and of ours, each time


@lru_cache(maxsize=4)
def trainer(name, corpus, textbook):
    """A function that makes one training step, warmed up."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = torch.float64 if textbook else torch.float32
    model = mc.FusionModel(mc.PAPER_VARIANTS[name], SIZES[corpus], dtype=dtype)
    x = {m: torch.randn(BATCH, *getattr(SIZES[corpus], m), dtype=dtype) for m in ("text", "video", "audio")}
    label = torch.randint(7, (BATCH,))
    if textbook:
        model = like(model)
    optimiser = torch.optim.Adam(model.parameters(), fused=not textbook)

    def step():
        optimiser.zero_grad()
        logits = model(x, dict.fromkeys(x)) if textbook else model(**x).logits
        F.cross_entropy(logits, label).backward()
        optimiser.step()

    step()
    return step


def seconds_a_step(name, corpus, textbook):
    step = trainer(name, corpus, textbook)
    steps = STEPS[corpus][not textbook]
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - started) / steps


def matmul_gflops(onednn):
    """float32 products of 1536 x 1536 on one thread; None if this path does not compute in float32."""
    torch.set_num_threads(1)
    a, b = torch.randn(2, 1536, 1536)
    exact = a.double() @ b.double()
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    before = getattr(settings, "fp32_precision", None)
    if onednn and before is None:
        return None
    try:
        if onednn:
            settings.fp32_precision = "bf16"  # permits bfloat16; where the processor has none for this, it is float32
        if ((a @ b).double() - exact).abs().max() > 1e-5 * exact.abs().max():
            return None
        started = time.perf_counter()
        for _ in range(6):
            a @ b
        return 6 * 2 * 1536**3 / (time.perf_counter() - started) / 1e9
    finally:
        if onednn:
            settings.fp32_precision = before


def everywhere(cores, function, *arguments):
    """The mean over all cores, which work at the same time."""
    found = [future.result() for future in [core.submit(function, *arguments) for core in cores]]
    return None if None in found else statistics.mean(found)


def large_store(folder, sizes=SIZES["IEMOCAP"], utterances=7487, filled=320):
    """A store of these sizes: random numbers for the first utterances, holes in the files for the others."""
    rng = np.random.default_rng(0)
    with new_store(folder) as scratch:
        for name in ("video", "audio"):
            shape = (utterances, *getattr(sizes, name))
            x = np.lib.format.open_memmap(scratch / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
            x[:filled] = rng.standard_normal((filled, *shape[1:]), dtype=np.float32)
        np.save(scratch / "tokens.npy", rng.integers(1, 3000, (utterances, sizes.text.length), dtype=np.int32))
        np.save(scratch / "embedding.npy", rng.standard_normal((3000, 300), dtype=np.float32))
        np.save(scratch / "label.npy", rng.integers(0, 7, utterances))
        for name in ("text", "video", "audio"):
            np.save(scratch / f"length_{name}.npy", np.full(utterances, getattr(sizes, name).length))
        thirds = np.array_split(np.arange(utterances), [int(0.6 * utterances), int(0.8 * utterances)])
        finish_store(
            scratch,
            digests=[i.to_bytes(16, "little") for i in range(utterances)],
            places={(k, part): rows for k in range(1, 6) for part, rows in zip(PARTS, thirds, strict=True)},
            facts={
                "name": "sizes",
                "source": "random numbers",
                "synthetic": True,
                "classes": list("abcdefg"),
                "ids": [f"fold01/train/{i}" for i in range(utterances)],
                "words": None,
                "findings": [],
            },
        )


def peak_anonymous_memory(folder):
    """GB of RssAnon at most, sampled while tri-modal networks train on the mapped store; None without /proc."""
    torch.set_num_threads(1)
    if not Path("/proc/self/status").exists():
        return None
    peak, done = [0], threading.Event()

    def watch():
        while not done.wait(0.005):
            kib = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]
            peak[0] = max(peak[0], int(kib))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        corpus = open_store(folder)
        for name in GFLOP:
            model = mc.FusionModel(mc.PAPER_VARIANTS[name], corpus.sizes)
            optimiser = torch.optim.Adam(model.parameters(), fused=True)
            for start in range(0, 5 * BATCH, BATCH):
                rows = np.arange(start, start + BATCH)
                optimiser.zero_grad()
                logits = model(**feed(model, corpus, rows, 1)).logits
                F.cross_entropy(logits, torch.from_numpy(corpus.label[rows])).backward()
                optimiser.step()
    finally:
        done.set()
        watcher.join()
    return peak[0] * 1024 / 1e9


def open_again(folder):
    """Seconds to open the store in a process that has the modules already."""
    started = time.perf_counter()
    open_store(folder)
    return time.perf_counter() - started


def processor():
    """The name of the processor, as far as it tells one."""
    info = Path("/proc/cpuinfo")
    names = (
        [x.split(":")[1].strip() for x in info.read_text().splitlines() if "model name" in x] if info.exists() else []
    )
    return f"{platform.system()} {platform.machine()}, {names[0] if names else platform.processor()}"


def show(what, values, unit=""):
    print(f"{what:<58}{statistics.median(values):>9.2f}{min(values):>9.2f}{max(values):>9.2f}  {unit}", flush=True)


def main():
    n = cpu_count()
    book_cores = [ProcessPoolExecutor(1) for _ in range(n)]  # as the published code runs: nothing is set
    cores = [ProcessPoolExecutor(1, env=KEEP_MEMORY) for _ in range(n)]  # as `Study.run` does it
    print(f"{processor()}, {n} cores, one process with one thread on each;", end=" ")
    print(f"Python {platform.python_version()}, torch {torch.__version__}\n")
    print(f"{'':<58}{'median':>9}{'least':>9}{'most':>9}")
    result = {}
    for corpus, key in (("IEMOCAP", ""), ("MELD", "meld_")):
        for name in GFLOP:
            ours, ratios, shares, short = [], [], [], name.split("_")[0]
            for _ in range(REPEATS):
                book = everywhere(book_cores, seconds_a_step, name, corpus, True)
                ours.append(everywhere(cores, seconds_a_step, name, corpus, False))
                ratios.append(book / ours[-1])
                if corpus == "IEMOCAP":
                    peaks = [everywhere(cores, matmul_gflops, onednn) for onednn in (False, True)]
                    shares.append(GFLOP[name] / max(p for p in peaks if p) / ours[-1])
            result[f"{key}{short}_ratio"] = statistics.median(ratios)
            show(f"{corpus} sizes, {name}: times as fast as the textbook", ratios)
            show(f"{corpus} sizes, {name}: a step", [1e3 * t for t in ours], "ms")
            if shares:
                result[f"{short}_floor_share"] = statistics.median(shares)
                show(f"{corpus} sizes, {name}: share of the float32 floor", [100 * x for x in shares], "%")
    for core in cores + book_cores:
        core.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        large_store(Path(folder) / "store")
        with ProcessPoolExecutor(1, env=KEEP_MEMORY) as core:
            times = [core.submit(open_again, Path(folder) / "store").result() for _ in range(REPEATS)]
            memory = core.submit(peak_anonymous_memory, Path(folder) / "store").result()
    result |= {"worker_rss_gb": memory, "store_open_s": statistics.median(times)}
    show("a store of IEMOCAP's sizes, opened again", times, "s")
    if memory:
        show("anonymous memory of a worker, IEMOCAP sizes, at most", [memory], "GB")
    print(json.dumps({k: v if v is None else round(v, 3) for k, v in result.items()}))


if __name__ == "__main__":
    import bench  # as a module, so that the other processes find its functions

    bench.main()
