"""The entry point: `predict` goes straight to the runtime (no torch, no typer), everything else to the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NoReturn

from understudy.errors import UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. Every error is one line on stderr; UNDERSTUDY_TRACEBACK=1 shows the rest."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["predict"]:
            return _predict(arguments[1:])
        from understudy.cli.app import run

        return run(arguments)
    except (Exception, KeyboardInterrupt) as error:
        from understudy.cli.boundary import report

        return report(error)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"predict: {message}; see understudy predict --help")


def _predict(arguments: list[str]) -> int:
    parser = _Parser(
        prog="understudy predict",
        description='JSON lines in ({"text": ...}, {"image": path} or a quoted string), JSON lines out: the same '
        'object plus label, probabilities and abstained; of {"tokens": [words]} tags and spans, of '
        '{"question", "context"} an answer.',
    )
    parser.add_argument("folder", metavar="RUN|ARTEFACT", help="a run folder or an artefact folder")
    parser.add_argument("file", metavar="FILE|-", nargs="?", default="-", help="JSON lines; - or nothing is stdin")
    parser.add_argument("--threads", type=int, default=1, help="threads of the model (default: 1)")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        raise UsageError(f"--threads is at least 1, got {options.threads}")
    # numpy's matrix product reads this once, when it is loaded, which is below; afterwards nobody can tell it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(options.threads))
    from understudy.runtime import stream

    with ExitStack() as stack:
        if options.file == "-":
            lines = sys.stdin.buffer
        else:
            try:
                lines = stack.enter_context(open(options.file, "rb"))
            except OSError as error:
                raise UsageError(f"cannot read {options.file}: {error.strerror or error}") from error
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        stream(options.folder, lines, sys.stdout, threads=options.threads, chunk=1 if lines.isatty() else 1024)
    return 0


if __name__ == "__main__":
    sys.exit(main())
