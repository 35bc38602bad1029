"""Where a number comes from: versions, the state of the code, and the machine."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

import psutil

CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # what we are in, and what is allowed to each
PACKAGES = ("mmer_core", "torch", "numpy", "numba")


@lru_cache
def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # it is on the path, and not installed
        return "not installed"


@lru_cache
def made_here() -> dict[str, str]:
    """What a record notes of the process that trained it. No name of the machine or its user."""
    machine = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    return {**{name: version(name) for name in PACKAGES}, **machine, "processor": processor(), "code": code()}


def processor() -> str:
    """The type of the processor, as far as the system tells it: the same bits are promised on the same type only."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Hardware", "cpu model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def code() -> str:
    """The commit of the checkout, with "-dirty" behind if files were changed since; "no checkout" elsewhere."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "no checkout"
    ask = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            ask, capture_output=True, text=True, timeout=10, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        )
        return done.stdout.strip() or "unknown"
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def free_memory() -> int:
    """Bytes that may be taken: free on this machine, and allowed to the container or the job that we are in."""
    limits = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError):
        for line in CGROUPS[0].read_text(encoding="utf-8").splitlines():
            _, old, place = line.split(":", 2)  # "0::/job", or in the old form "4:memory:/job"
            if old not in ("", "memory"):
                continue
            while place := place.rstrip("/"):
                limits += _limit(CGROUPS[1] / old / place[1:], old)
                place = place.rpartition("/")[0]
            limits += _limit(CGROUPS[1] / old, old)
    return min(limits)


def _limit(group: Path, old: str) -> list[int]:
    try:
        return [int((group / ("memory.limit_in_bytes" if old else "memory.max")).read_text())]
    except (OSError, ValueError):  # "max"
        return []
