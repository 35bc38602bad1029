"""The log of a ledger: one line of JSON an event. Whoever watches a study reads it; to lose it loses no result.

    study started                   runs: how many it is going to train
    run started                     by a process of the machine that the study is on; those of others do not tell
    run goes on                     told: its epoch, and accuracy on dev; of long runs, twice a minute
    run filed, run failed           seconds it took; told: its score, or its error
    study ended, study stopped      all that it was going to train is tried; or it was interrupted

Each says utc, host, study and process (their process ids), and where it is about a run, run and key.
"""

import contextlib
import json
import os
import socket
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Event = dict[str, Any]
START = b'{"utc": '  # of every line
GOING = "run started", "run goes on"
TAIL = 2**20  # bytes in which all runs that are going on were begun


@dataclass(frozen=True)
class Log:
    """Events of a ledger; those that are said by this object are of one study."""

    file: Path
    study: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)

    def say(self, event: str, **told: Any) -> None:
        """Append an event in one write: lines of several processes never mix. What cannot be written is left out.

        So is what workers on another machine would say: a file that machines share takes no lines from two of them.
        """
        if socket.gethostname() != self.host:
            return
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        who = {"host": self.host, "study": self.study, "process": os.getpid()}
        line = json.dumps({"utc": at, "event": event, **who, **told}) + "\n"
        with contextlib.suppress(OSError):
            file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)

    def end(self) -> int:
        """Where the next event will stand, in bytes."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def since(self, at: int) -> tuple[list[Event], int]:
        """The events from a place on, and the place behind them. What a killed process left half is not among them."""
        if (end := self.end()) == 0:
            return [], 0
        at = at if at <= end else 0  # it was taken away, and begun anew
        with self.file.open("rb") as file:
            file.seek(at)
            whole = file.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        return [event for line in whole.splitlines() if (event := _read(line))], at + len(whole)

    def running(self) -> dict[str, Event]:
        """By key, the last word of each run that living processes of this machine train (not on Windows)."""
        going: dict[str, Event] = {}
        for event in self.since(max(0, self.end() - TAIL))[0]:
            if event["event"] in GOING:
                going[event.get("key", "")] = event
            else:
                going.pop(event.get("key", ""), None)
        here = {key: event for key, event in going.items() if event.get("host") == socket.gethostname()}
        return {k: e for k, e in here.items() if _alive(e.get("study")) and _alive(e.get("process"))}


def _read(line: bytes) -> Event | None:
    """One event, also behind the half line of a process that was killed."""
    try:
        event = json.loads(line[max(0, line.rfind(START)) :])
        return event if isinstance(event["event"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _alive(process: object) -> bool:
    if type(process) is not int or process <= 0 or sys.platform == "win32":  # there, os.kill would end it
        return False
    try:
        os.kill(process, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def in_words(event: Event) -> str:
    """A line for a terminal, whatever stands in the log."""
    told = [f"{event[name]}" for name in ("run", "told") if name in event]
    told += [f"{event['seconds']} s"] if "seconds" in event else []
    told += [f"{event['runs']} runs"] if "runs" in event else []
    text = f"{str(event.get('utc'))[11:19]} {event['event']}: {', '.join(told)}".rstrip(": ")
    return "".join(letter if letter.isprintable() else "?" for letter in text)
