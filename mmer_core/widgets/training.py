"""Train the missing runs of a variant from a panel, see how far it is, and stop it."""

import html
import threading
from collections.abc import Callable

import ipywidgets as W

from mmer_core.errors import MmerError
from mmer_core.study import Study
from mmer_core.typeset import variants_named
from mmer_core.watching import Watch, duration
from mmer_core.widgets.kit import View


class Training(W.HBox):
    """Two buttons and a line: they offer the missing runs of a study, train them aside, and stop.

    One panel of a notebook trains at a time; all others stay alive meanwhile. To stop costs the runs in flight.
    """

    _going = threading.Lock()

    def __init__(self, view: View, study: Study, done: Callable[[], None]):
        whole = dict(width="auto", flex="0 0 auto")  # a long message beside a button does not cut its text
        self.button = W.Button(button_style="primary", layout=W.Layout(**whole), tooltip="train what is missing")
        self.stop = W.Button(description="Stop", button_style="warning", layout=W.Layout(**whole, display="none"))
        self.stop.tooltip = "stop the training; the runs that are done stay in the ledger"
        self.line = W.HTML()
        super().__init__([self.button, self.stop, self.line], layout=W.Layout(min_height="32px", align_items="center"))
        self.button.on_click(lambda _: view.act(self._train))
        self.stop.on_click(lambda _: self._stop())
        self._offered = self._whole = study  # the whole one tells how long runs take
        self._stopped, self._training, self._done = threading.Event(), False, done

    def offer(self, study: Study) -> None:
        """Offer to train what this study lacks, and when all of that was tried and failed, to try it again."""
        self._offered, missing, failed = study, study.missing(), study.failed()
        new = [run for run in missing if run not in failed]
        name, left = variants_named(*study.variants), self._whole.seconds_left(new)
        about = f", about {duration(left)}" if left else ""
        self.button.layout.display = "" if missing and not self._training else "none"
        self.button.description = f"Train {name} ({len(new)} of {len(study.runs)} runs missing{about})"
        if failed and not new:
            self.button.description = f"Try {name} again ({len(failed)} of {len(study.runs)} runs failed)"
        if not self._training:
            some = next((why if str(run) in why else f"{run}: {why}" for run, why in failed.items()), "")
            self.line.value = html.escape(f"{len(failed)} failed, such as {some}" if failed else "")

    def _stop(self) -> None:
        self._stopped.set()
        self.stop.disabled, self.line.value = True, "stopping …"

    def _train(self) -> None:
        study = self._offered
        retry = set(study.missing()) == set(study.failed())
        if not Training._going.acquire(blocking=False):
            raise MmerError("another training of this notebook is going on; stop it or wait for it")
        self._stopped.clear()
        self._training = True
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(study, over, retry), daemon=True)
        self.button.layout.display, self.stop.layout.display, self.stop.disabled = "none", "", False
        try:
            ticker.start()
            study.run(progress=False, stop=self._stopped, retry=retry)
        finally:
            over.set()
            ticker.join()
            self._training = False
            Training._going.release()
            self.stop.layout.display, self.line.value = "none", ""
            self._done()

    def _tick(self, study: Study, over: threading.Event, retry: bool) -> None:
        """Tell twice a second how many runs are done, how long the others may take, and what was heard last."""
        failed = {} if retry else study.failed()
        watch = Watch(self._whole, [run for run in study.missing() if run not in failed])
        while True:
            watch.news()
            if not self._stopped.is_set():
                last = f". {watch.last}" if watch.last else ""
                self.line.value = html.escape(f"Training {variants_named(*study.variants)}: {watch}{last}")
            if over.wait(0.5):
                return
