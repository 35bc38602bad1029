"""Where things lie: one root folder with data/ (studies, stores, ledgers) and figures/ in it."""

import os
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
