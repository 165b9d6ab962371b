"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from understudy.pipeline.progress import Progress

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def listening() -> Iterator[Progress]:
    """Someone who shows what a run says on stderr, for as long as the block lasts."""
    if sys.stderr.isatty():
        bar = Bar()
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield Lines(sys.stderr)


def written(facts: dict[str, float | str]) -> str:
    """Measurements in one line.

    >>> written({"loss": 0.51234, "agreement": "97 %"})
    'loss 0.512, agreement 97 %'
    """
    parts = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()]
    return ", ".join(parts)


class Lines:
    """Plain lines: each stage, each sentence, and every few seconds how far it is."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._name = ""
        self._begin(0, 0)

    def _begin(self, done: int, total: int) -> None:
        self._total, self._first, self._last = total, done, done
        self._since = self._shown = self._clock()

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def stage(self, name: str) -> None:
        """A line with the stage's name."""
        self._name = name
        self._begin(0, 0)
        self._print(name)

    def say(self, sentence: str) -> None:
        """The sentence, below its stage."""
        self._print(f"  {sentence}")

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        """A line at the end, and otherwise at most one every five seconds."""
        from understudy.report.formats import seconds

        now = self._clock()
        if total != self._total or done < self._last:  # another count begins; a resumed one does not start at 0
            self._begin(done, total)
        ended = done >= total and self._last < total
        self._last = done
        if not ended and now - self._shown < _SECONDS_BETWEEN_LINES:
            return
        self._shown = now
        measured = f", {written(facts)}" if facts else ""
        gone = done - self._first
        left = "" if ended or not gone else f", {seconds((total - done) * (now - self._since) / gone)} left"
        self._print(f"  {self._name} {done}/{total}{measured}{left}")


class Bar:
    """A bar with every measurement and the time left; sentences stay above it."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, facts="", visible=False)
        self._last = (0, 0)
        self._bar.start()

    def stage(self, name: str) -> None:
        """The stage's name above the bar, and an empty bar."""
        self._bar.console.print(name, markup=False, highlight=False, style="bold")
        self._bar.reset(self._task, description=name, total=None, facts="", visible=False)
        self._last = (0, 0)

    def say(self, sentence: str) -> None:
        """The sentence above the bar."""
        self._bar.console.print(f"  {sentence}", markup=False, highlight=False)

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        """The bar at ``done`` of ``total``."""
        if total != self._last[1] or done < self._last[0]:
            self._bar.reset(self._task, total=total, visible=True)
        self._last = (done, total)
        self._bar.update(self._task, completed=done, total=total, facts=written(facts), visible=True)

    def close(self) -> None:
        """Gives the terminal back."""
        self._bar.stop()
