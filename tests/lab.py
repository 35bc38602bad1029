"""A notebook in a real JupyterLab, opened and run in a headless Chromium."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 120  # seconds: for any single thing to happen, on a machine that has other work to do
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",  # needed where everything runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # talk to this machine and to no other
    *(f"--disable-{what}" for what in ("quic", "sync", "default-apps", "domain-reliability", "component-update")),
    "--disable-background-networking",
]
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # else cells out of sight lose their outputs
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# The page looks idle before it has a kernel, and running cells then would ask which kernel to take.
WAIT_FOR_KERNEL = """async () => {
    const notebook = window.jupyterapp.shell.currentWidget, session = notebook.sessionContext;
    await Promise.all([notebook.context.ready, notebook.revealed, session.ready]);
    while (!session.session?.kernel) await new Promise(done => setTimeout(done, 100));
    await session.session.kernel.info;
}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => null)"


def lacking() -> str | None:
    """What a browser test needs and this machine does not have, or None."""
    if CHROMIUM is None:
        return "there is no chromium on this machine"
    packages = [name for name in ("playwright", "jupyterlab", "ipywidgets") if not importlib.util.find_spec(name)]
    return f"not installed: {', '.join(packages)}" if packages else None


@contextlib.contextmanager
def browser() -> Iterator:
    """A headless Chromium that talks to this machine only."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


def open_notebook(browser, address: str, token: str, name: str):
    """The page of a notebook in which all cells are being run, on a small laptop's screen.

    What the page reports as errors is kept in `page.mmer_errors`.
    """
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.mmer_errors = []
    page.on("pageerror", lambda error: page.mmer_errors.append(str(error)))
    page.goto(f"{address}/lab/tree/{name}.ipynb?token={token}&reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", state="attached")
    page.evaluate(WAIT_FOR_KERNEL)
    page.evaluate(RUN_ALL)
    return page


@contextlib.contextmanager
def jupyterlab(folder: Path, scratch: Path, environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Run a JupyterLab that shares no file with the user's own; yield its address and token."""
    for plugin, values in SETTINGS.items():
        file = scratch / "lab" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    homes = {"JUPYTERLAB_SETTINGS_DIR": "lab", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    homes |= {f"JUPYTER_{what}_DIR": what.lower() for what in ("CONFIG", "RUNTIME", "DATA")}
    environment = {**os.environ, **{name: str(scratch / home) for name, home in homes.items()}, **environment}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, token = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    command += [f"--IdentityProvider.token={token}"]
    with open(scratch / "lab.log", "w") as log:
        lab = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _await_answer(lab, f"{address}/api/status?token={token}", scratch / "lab.log")
        yield address, token
    finally:
        lab.terminate()  # it ends its kernels, then itself
        try:
            lab.wait(PATIENCE / 4)
        except subprocess.TimeoutExpired:
            os.killpg(lab.pid, signal.SIGKILL)
            lab.wait()


def _await_answer(lab: subprocess.Popen, url: str, log: Path) -> None:
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last and lab.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not answer:\n{log.read_text()[-2000:]}")
