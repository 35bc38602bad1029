"""What all tests share: shapes in the types of the networks are enforced, and nothing is written into the checkout."""

import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook

KERNELS = [f"mmer_core.kernels.{operation}" for operation in ("attention", "dropout", "gru", "linear")]
CHECKED = ["mmer_core.layers", "mmer_core.model", "mmer_core.training", *KERNELS]
install_import_hook(CHECKED, "beartype.beartype")  # before they are imported

import torch  # noqa: E402

import mmer_core as mc  # noqa: E402
from mmer_core import running  # noqa: E402
from mmer_core.training import Trained  # noqa: E402

torch.set_num_threads(1)  # as in every worker; two are slower

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = CHECKOUT.parent / "shared"

# The notebooks under test carry out a small study of their own: the demo corpus, three folds, two seeds, two epochs.
STUDY = """
corpus = "demo"
variants = ["paper", "uniform_tva"]
folds = [1, 2, 3]
seeds = [1, 2]
primary_metric = "accuracy"
margin = 0.02
[protocol]
max_epochs = 2
"""


def pytest_configure(config):
    folder = Path(tempfile.mkdtemp(prefix="mmer-tests-"))
    (folder / "data").mkdir()
    (folder / "data" / "study.toml").write_text(STUDY)
    os.environ["MMER_ROOT"] = str(folder)
    os.environ.pop("MMER_STUDY", None)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> mc.Corpus:
    return mc.make_demo_corpus(tmp_path_factory.mktemp("corpora") / "demo")


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """What a test draws without a seed of its own depends on no other test, and is the same on every day."""
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def guessed(monkeypatch) -> None:
    """Nothing is trained: runs are guesses, for tests of what follows from runs."""

    def guess(corpus, variant, fold, seed, protocol, trainer=None):
        rng = np.random.default_rng([len(variant.name), fold, seed])
        logits = {part: rng.normal(size=(len(getattr(corpus.folds[fold], part)), 7)) for part in ("dev", "test")}
        epoch = dict(epoch=1, train_loss=1.0, dev_loss=1.0, dev_accuracy=0.1, learning_rate=0.001)
        return Trained({"w": torch.zeros(1)}, [epoch], 1, logits, 1, 0.1, "cpu")

    monkeypatch.setattr(running, "train", guess)
