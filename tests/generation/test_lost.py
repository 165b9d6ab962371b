"""What becomes of money where a server takes a request and breaks off: every such try is booked at its worst case."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from understudy.endpoints.asked import Limits, Sampling, job
from understudy.endpoints.budget import Budget
from understudy.endpoints.client import Endpoint
from understudy.errors import TeacherError

HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
BEGUN = HEAD % b"200 OK" + b'{"choices": '
FAULT = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}"


def read(connection: socket.socket) -> None:
    """A whole request."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < int(length.split(b":")[1]):
        body += connection.recv(65536)


@contextmanager
def serving(sent: bytes, *, open_ended: bool = False) -> Iterator[str]:
    """A server that reads a request, sends these bytes, and closes; or says no more and stays."""
    listening, over = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            read(connection)
            connection.sendall(sent)
            if open_ended:
                over.wait(20)

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        over.set()
        listening.close()


def asked(url: str, **limits: Any) -> tuple[Endpoint, float]:
    """One request with its retries; and how many tries are booked as lost."""
    sampling = Sampling(max_tokens=100)
    dials: dict[str, Any] = {"max_cost": 10.0, "price_in": 1.0, "price_out": 1.0, "timeout": 0.4, **limits}
    limit = Limits(**dials)
    budget = Budget(limit, sampling.max_tokens)
    endpoint = Endpoint(url, "m", sampling, limit, budget, key_env="none")
    one = job(endpoint.identity, [{"role": "user", "content": "x"}], sampling, 0)
    ignore: Callable[..., None] = lambda *_: None  # noqa: E731
    with suppress(TeacherError):
        list(endpoint.answers([one], ignore))
    return endpoint, budget.possible / budget.worst(one)


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize(("sent", "stays"), [(b"", False), (BEGUN, False), (BEGUN, True), (b"", True)])
def test_a_try_that_was_broken_off_is_booked(sent: bytes, stays: bool, retries: int) -> None:
    """Before the first byte, and in the middle of a reply that began with 200: an answer may have been made."""
    with serving(sent, open_ended=stays) as url:
        endpoint, booked = asked(url, retries=retries)
    assert endpoint.requests == retries + 1
    assert booked == pytest.approx(endpoint.requests)


def test_an_error_that_came_whole_is_not_booked() -> None:
    with serving(FAULT) as url:
        endpoint, booked = asked(url, retries=1)
    assert (endpoint.requests, booked) == (2, 0)


def test_nobody_there_costs_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    endpoint, booked = asked(f"http://127.0.0.1:{port}/v1", retries=0)
    assert (endpoint.requests, booked) == (1, 0)


def test_the_last_try_that_a_limit_allows_is_booked_too() -> None:
    with serving(b"") as url:
        endpoint, booked = asked(url, retries=4, max_requests=2)
    assert endpoint.stopped == "--max-requests 2"
    assert (endpoint.requests, booked) == (2, 2)
