"""What goes wrong in workers, for tests of what becomes of the others. A module, so that processes can import it."""

import os
import signal
import time

from mmer_core import checkpoint
from mmer_core.running import trained
from mmer_core.training import Trainer


def faulty(where, run, **told):
    """Seed 2 of fold 1 kills its worker, each time; seed 3 of fold 1 diverges."""
    if (run.fold, run.seed) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
    if (run.fold, run.seed) == (1, 3):
        raise FloatingPointError(f"{run}: loss not finite in epoch 1")
    return trained(where, run, **told)


def once(where, run, **told):
    """The first worker that comes to fold 2 is killed, and no other."""
    marker = os.environ["MMER_KILLED_ONCE"]
    if run.fold == 2 and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return trained(where, run, **told)


def endless(where, run, **told):
    """Tells who it is, and trains for ever."""
    with open(os.path.join(os.environ["MMER_ENDLESS"], str(os.getpid())), "w") as f:
        f.write(str(run))
    time.sleep(600)


def cut_short(where, run, **told):
    """A checkpoint after every epoch, a line of a file for every step, and the process is killed once, in epoch 3."""
    checkpoint._EVERY = 0.0
    checkpoint.Resuming.step = _step
    return trained(where, run, **told)


def _step(trainer, states, rows, seeds):
    told, marker = os.environ["MMER_STEPS"], os.environ["MMER_STEPS"] + "-killed"
    if len(states[0].curve) == 2 and not os.path.exists(marker) and rows[0][0] % 5 == 0:
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    with open(told, "a") as f:
        f.write(f"{len(states[0].curve) + 1}\n")
    return Trainer.step(trainer, states, rows, seeds)


def endless_but_one(where, run, **told):
    """Trains seed 1, and the others for ever."""
    return trained(where, run, **told) if run.seed == 1 else endless(where, run, **told)
