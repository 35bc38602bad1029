"""Where things lie: one root folder with data/ (studies, stores, ledgers) and figures/ in it."""

import contextlib
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path


def root() -> Path:
    """The folder that holds data/study.toml.

    $MMER_ROOT if that is set; else the nearest folder with data/study.toml, from the working directory upward
    (a notebook's working directory is notebooks/); else the checkout this module lies in; else the working directory.
    """
    if os.environ.get("MMER_ROOT"):
        return Path(os.environ["MMER_ROOT"]).expanduser().resolve()
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "data" / "study.toml").is_file():
            return folder
    return here


def write_whole(file: Path, data: bytes) -> None:
    """Write a small file whole or not at all, also where others write it at the same time; OSError if it cannot be."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        scratch.write_bytes(data)
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)


@lru_cache
def own_folder() -> Path:
    """Where this user keeps what can be made again: ~/.cache/mmer; a container may have no home, then in /tmp.

    What lies there is run (compiled kernels), so in /tmp it has to be a folder that nobody else can write into.
    """
    home = Path(os.path.expanduser("~")) / ".cache" / "mmer"
    if writable(home):
        return home
    user = getattr(os, "getuid", int)()
    shared = Path(tempfile.gettempdir()) / f"mmer-{user}"
    with contextlib.suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        about = shared.lstat()
        if stat.S_ISDIR(about.st_mode) and about.st_uid == user and not about.st_mode & 0o022 and writable(shared):
            return shared
    return Path(tempfile.mkdtemp(prefix="mmer-"))  # somebody took the name


def writable(folder: Path) -> bool:
    """Whether files can be made there; the folder is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.is_absolute()
    except OSError:
        return False
