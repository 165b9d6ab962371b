"""The same artefact in a browser: 1,000 rows under onnxruntime-web in headless Chromium, beside the Python runtime.

    npm install onnxruntime-web
    python examples/edge.py --artefact RUN --rows DATA/test.parquet --ort node_modules/onnxruntime-web/dist
    python examples/edge.py --artefact RUN --ort node_modules/onnxruntime-web/dist --serve     # and try it by hand

RUN is a run whose student reads words in order (``conv``, ``gru``, ``transformer``), or its artefact folder. The page,
``examples/edge.html``, has the word encoder in JavaScript; ids and labels have to be the same for every row. Rows are
answered one by one on both sides, on one thread.

Not checked in the browser: the hashes of the files (its cryptography has no BLAKE2). Letters that a newer Unicode
added are words in one of the two and marks in the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from understudy import runtime
from understudy.data import load
from understudy.errors import UsageError
from understudy.runtime.artefact import find

PAGE = Path(__file__).with_name("edge.html")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, and a place to send answers to."""

    def __init__(self, *arguments: Any, answers: list[dict[str, Any]], **more: Any) -> None:
        self.answers = answers
        super().__init__(*arguments, **more)

    def do_POST(self) -> None:
        self.answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves the page; compares, unless it is only served."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artefact", type=Path, required=True, help="a run or its artefact")
    parser.add_argument("--ort", type=Path, required=True, help="dist folder of the npm package onnxruntime-web")
    parser.add_argument("--rows", help="texts: what `understudy distill --data` takes; its test split is read")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help="serve the page for a browser of your own")
    parser.add_argument("--port", type=int, default=0)
    said = parser.parse_args(arguments)
    if not (said.ort / "ort.wasm.min.js").is_file():
        parser.error(f"no ort.wasm.min.js in {said.ort}: npm install onnxruntime-web, then its dist folder")
    if said.rows is None and not said.serve:
        parser.error("--rows says which texts are compared; --serve only serves the page")
    rows = [] if said.rows is None else list(load(said.rows)[1].test.inputs["text"])[: said.count]
    answers: list[dict[str, Any]] = []
    with served(find(said.artefact), said.ort, rows, answers, port=said.port) as address:
        if said.serve:
            print(f"{address}/edge.html (Ctrl-C ends)")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            return 0
        there = asked(f"{address}/edge.html?check", answers)
    predictor = runtime.load(said.artefact, threads=1)
    began = time.perf_counter()
    here = [predictor.predict_one(text)["label"] for text in rows]
    seconds = time.perf_counter() - began
    other = [i for i, (a, b) in enumerate(zip(here, there["answers"], strict=True)) if a != b]
    print(f"{len(rows) - len(other):,} of {len(rows):,} labels are the same")
    print(f"one row at a time: Python {len(rows) / seconds:,.0f} rows/s, browser {len(rows) / there['seconds']:,.0f}")
    for i in other[:5]:
        print(f"  {rows[i]!r}: Python {here[i]}, browser {there['answers'][i]}")
    return int(bool(other))


@contextlib.contextmanager
def served(artefact: Path, ort: Path, rows: list[str], answers: list[dict[str, Any]], *, port: int) -> Iterator[str]:
    """The address of a folder with the page, the artefact, onnxruntime-web and the rows."""
    with tempfile.TemporaryDirectory(prefix="understudy-") as place:
        folder = Path(place)
        shutil.copy(PAGE, folder)
        shutil.copytree(artefact, folder / "artefact")
        shutil.copytree(ort, folder / "ort", ignore=shutil.ignore_patterns("*.map"))
        (folder / "rows.json").write_text(json.dumps(rows))
        handler = partial(Handler, directory=place, answers=answers)
        with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()


def asked(address: str, answers: list[dict[str, Any]], *, seconds: float = 300.0) -> dict[str, Any]:
    """What a headless browser that opens the page sends back."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise UsageError(f"no browser here: one of {', '.join(BROWSERS)} is wanted")
    with tempfile.TemporaryDirectory(prefix="understudy-") as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", address]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + seconds
            while not answers and time.monotonic() < end and process.poll() is None:
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait()
    if not answers or "error" in answers[0]:
        raise UsageError(f"the page did not answer: {answers[0]['error'] if answers else 'nothing came back'}")
    return answers[0]


if __name__ == "__main__":
    raise SystemExit(main())
