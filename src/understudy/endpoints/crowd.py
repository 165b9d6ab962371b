"""Bounded concurrency: a few threads that ask, and one place where their answers arrive.

The threads are daemons, unlike those of ``concurrent.futures``: a second Ctrl-C need not wait for a slow server.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class Crowd(Generic[In, Out]):
    """Runs ``work(item)`` in up to ``width`` threads; results come in the order in which they are ready."""

    def __init__(self, work: Callable[[In], Out], width: int) -> None:
        self._work, self._width = work, width
        self._inbox: queue.SimpleQueue[In | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[In, Out | BaseException]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.flying = 0

    def start(self, item: In) -> None:
        """Hand out one item; a thread is made where none may be free."""
        self.flying += 1
        if len(self._threads) < min(self._width, self.flying):
            thread = threading.Thread(target=self._run, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._inbox.put(item)

    def next(self) -> tuple[In, Out | BaseException]:
        """Wait for one result; what was raised is returned."""
        got = self._outbox.get()
        self.flying -= 1
        return got

    def close(self) -> None:
        """Send the threads home when they are done."""
        for _ in self._threads:
            self._inbox.put(None)
        self._threads.clear()

    def _run(self) -> None:
        while (item := self._inbox.get()) is not None:
            try:
                self._outbox.put((item, self._work(item)))
            except BaseException as error:
                self._outbox.put((item, error))
