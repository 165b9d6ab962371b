"""Which stages of a run are done: a stage whose inputs are unchanged and whose outputs are there is not done again."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from understudy.errors import Interrupted, StoreError
from understudy.files import content_hash, read_json, write_json
from understudy.pipeline.progress import Progress
from understudy.targets.lock import locked

Facts = dict[str, Any]
LOCK = ".lock"


def whole(output: Path) -> bool:
    """Whether a file or folder is there, and if it is a JSON file can be read."""
    if output.suffix != ".json" or not output.is_file():
        return output.suffix != ".json" and output.exists()
    try:
        read_json(output)
    except StoreError:
        return False
    return True


class Journal:
    """The stages of one run, in RUN/stages, and what happened, in RUN/log.jsonl."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self.stages: list[Facts] = []
        self.interrupted: str | None = None
        self._begun = ""

    def stage(
        self, name: str, inputs: Sequence[str], work: Callable[[], Facts], *, outputs: Sequence[Path] = ()
    ) -> Facts:
        """The facts of a stage: read where nothing changed, worked out where it did.

        Args:
            name: of the stage.
            inputs: everything that decides its outcome; their hash is the stage's fingerprint.
            work: writes the outputs (atomically) and returns JSON facts.
            outputs: files and folders that must exist for the stage to count as done, a JSON file whole.
        """
        fingerprint = content_hash(name, *inputs)
        path = self.folder / "stages" / f"{name}.json"
        record = self._record(path)
        if record.get("fingerprint") == fingerprint and all(map(whole, outputs)):
            self._note(name, "reused", record["seconds"], fingerprint)
            facts: Facts = record["facts"]
            return facts
        self.begin(name)
        self.log("stage", name=name, status="started", fingerprint=fingerprint)
        began = time.perf_counter()
        try:
            facts = work()
        except BaseException as error:
            seconds = time.perf_counter() - began
            self.log("stage", name=name, status="failed", seconds=seconds, why=f"{type(error).__name__}: {error}")
            raise
        seconds = time.perf_counter() - began
        write_json(path, {"name": name, "fingerprint": fingerprint, "seconds": seconds, "facts": facts})
        self._note(name, "done", seconds, fingerprint)
        self._check_interrupt(name)
        return facts

    def _record(self, path: Path) -> Facts:
        """What a stage wrote when it was done; empty where it was not."""
        if not path.is_file():
            return {}
        try:
            record: Facts = read_json(path)
            return record
        except StoreError as error:
            raise StoreError(f"{error}; delete it, and the same command does this stage again") from None

    def begin(self, name: str) -> None:
        """Tells who listens that a stage begins, once."""
        if name != self._begun:
            self._begun = name
            self.progress.stage(name)

    def correct(self, name: str, facts: Facts) -> None:
        """Other facts for a stage that is done; its fingerprint stays."""
        path = self.folder / "stages" / f"{name}.json"
        write_json(path, {**self._record(path), "facts": facts})

    def forget(self, name: str) -> None:
        """Makes a stage run again; what it wrote stays until it is replaced."""
        (self.folder / "stages" / f"{name}.json").unlink(missing_ok=True)

    def forget_from(self, names: Sequence[str]) -> None:
        """Makes these stages, with every seed of them, run again."""
        for name in names:
            for path in (self.folder / "stages").glob(f"{name}*.json"):
                self.forget(path.stem)

    def log(self, event: str, **facts: Any) -> None:
        """One line in log.jsonl; a line is written whole."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}, default=str) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(line)

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop at the next good place."""
        return self.interrupted is not None

    def _note(self, name: str, status: str, seconds: float, fingerprint: str) -> None:
        self.stages.append({"name": name, "status": status, "seconds": seconds, "fingerprint": fingerprint})
        self.log("stage", name=name, status=status, seconds=seconds)

    def _check_interrupt(self, name: str) -> None:
        if self.interrupted:
            raise interrupted(f"stopped after stage {name}; the same command goes on from there", self.interrupted)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C stop at the next good place (a step, a shard, a stage); a second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = signal.Signals(number).name
            self.progress.say(f"{self.interrupted}: saving and stopping at the next step (again: stop at once)")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except Interrupted as error:
            if self.interrupted == "SIGINT":
                error.exit_code = 130
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def interrupted(message: str, by: str) -> Interrupted:
    """The error for a stop that somebody asked for."""
    return Interrupted(message, by_user=by == "SIGINT")


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """One process at a time works on a run; the lock of a process that is gone is taken over.

    Raises:
        StoreError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, name=LOCK, doing="working on the run in"):
        yield


def facts_of(folder: Path, stage: str) -> Mapping[str, Any]:
    """What a finished stage recorded; empty where it has not run."""
    path = folder / "stages" / f"{stage}.json"
    return read_json(path)["facts"] if path.is_file() else {}
