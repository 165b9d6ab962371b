"""Money, before it is spent: a request goes out only while its worst case still fits."""

from __future__ import annotations

import threading

from understudy.endpoints.asked import Answer, Failure, Job, Limits

_TEMPLATE_TOKENS = 64
_MESSAGE_TOKENS = 8
_PER = 1e6


class Budget:
    """What was spent and what is promised, in the currency of the prices.

    The worst case of a request is ``max_tokens`` written, and as many tokens read as its messages have UTF-8 bytes
    (a token of a text is a byte at least), plus 8 for each message and 64 for the chat template. Answers for which the
    server counts no tokens are booked at their worst case; so are requests that timed out, as nobody says whether they
    were billed.
    """

    def __init__(self, limits: Limits, max_tokens: int) -> None:
        self._limits, self._max_tokens = limits, max_tokens
        self.spent = 0.0
        self.possible = 0.0  # booked for requests that timed out
        self.uncounted = 0  # answers without token counts
        self._promised = 0.0
        self._lock = threading.Lock()  # tries are lost in the threads that make them

    @property
    def priced(self) -> bool:
        """Whether prices are known."""
        return self._limits.price_in is not None

    def worst(self, job: Job) -> float:
        """The most that one request can cost."""
        read = sum(len(m["content"].encode("utf-8", "surrogatepass")) + _MESSAGE_TOKENS for m in job.messages)
        return self._money(read + _TEMPLATE_TOKENS, self._max_tokens)

    def admits(self, job: Job) -> bool:
        """Whether this request may go out, whatever becomes of it and of those under way."""
        if self._limits.max_cost is None:
            return True
        return self.spent + self.possible + self._promised + self.worst(job) <= self._limits.max_cost * (1 + 1e-12)

    def lose(self, job: Job) -> bool:
        """Books a try of a request under way that nobody answered; whether another one still fits."""
        with self._lock:
            self.possible += self.worst(job)
            most = self._limits.max_cost
            return most is None or self.spent + self.possible + self._promised <= most * (1 + 1e-12)

    def begin(self, job: Job) -> None:
        """The request goes out."""
        self._promised += self.worst(job)

    def end(self, job: Job, said: Answer | Failure | BaseException) -> None:
        """It came back."""
        self._promised -= self.worst(job)
        if isinstance(said, Answer):
            self.book(job, said)
        elif isinstance(said, Failure) and said.maybe_paid:
            with self._lock:
                self.possible += self.worst(job)

    def book(self, job: Job, answer: Answer) -> None:
        """An answer's cost, of now or of an earlier call."""
        if answer.tokens_in is None or answer.tokens_out is None:
            self.uncounted += 1
            self.spent += self.worst(job)
        else:
            self.spent += self._money(answer.tokens_in, answer.tokens_out)

    def _money(self, read: int, written: int) -> float:
        return (read * (self._limits.price_in or 0.0) + written * (self._limits.price_out or 0.0)) / _PER
