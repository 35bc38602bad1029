"""Where a number comes from: versions, the state of the code, and the machine."""

import importlib.metadata
import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

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
