"""What a bug report needs, and what is wrong with the set-up: python -m mmer_core doctor."""

import os
import shutil
import sys
from pathlib import Path

import torch
from loky import cpu_count

from mmer_core.errors import MmerError
from mmer_core.folds import lacking
from mmer_core.kernels.machinery import cache_folder
from mmer_core.paths import root
from mmer_core.provenance import free_memory, made_here, version
from mmer_core.study import open_study

ROOM = 2  # GB on the disk below which a study may not be filed
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # that tests of panels can drive


def report(study: str | Path | None = None) -> int:
    """Print it; returns 1 if something is wrong, else 0."""
    wrong: list[str] = []
    free = shutil.disk_usage(root()).free / 1e9
    browser = next((name for name in BROWSERS if shutil.which(name)), "none")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    told = {
        **made_here(),
        **{name: version(name) for name in ("pandas", "scipy", "jupyterlab", "ipywidgets")},
        **{"cores": cpu_count(), "threads of torch": torch.get_num_threads(), "GPU": gpu, "browser": browser},
        **{
            "folder": root(),
            "free disk": f"{free:.0f} GB",
            "free memory": f"{free_memory() / 1e9:.1f} GB",
            "compiled kernels": cache_folder(),
        },
        **{name: os.environ[name] for name in ("MMER_ROOT", "MMER_STUDY", "NUMBA_CACHE_DIR") if name in os.environ},
    }
    wrong += [f"only {free:.1f} GB are free on the disk"] if free < ROOM else []
    wrong += [] if os.access(root(), os.W_OK) else [f"{root()} cannot be written to"]
    wrong += (
        [] if sys.version_info < (3, 14) else [f"Python {sys.version_info.major}.{sys.version_info.minor} is untried"]
    )
    try:
        opened = open_study(study)
        told |= {"study": opened, "corpus": opened.corpus}
        wrong += [*lacking(opened.corpus), *(f"{run} failed: {why}" for run, why in opened.failed().items())]
    except MmerError as error:
        wrong.append(str(error))
    print(*(f"{name}: {value}" for name, value in told.items()), sep="\n")
    print("", *([f"WRONG: {what}" for what in wrong] or ["Nothing wrong was found."]), sep="\n")
    return int(bool(wrong))
