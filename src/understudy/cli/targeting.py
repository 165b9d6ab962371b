"""Commands on stored targets: targets plan, stats, verify."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from understudy.cli.dials import AsJson
from understudy.cli.progress import listening
from understudy.cli.results import print_json

HELP = "Stored targets: plan a budget, look at a store, ask its teacher again."
_UNITS = {"": 1, **{unit: 1000**power for power, unit in enumerate(("B", "KB", "MB", "GB", "TB"))}}
_UNITS |= {unit: 1024**power for power, unit in enumerate(("KIB", "MIB", "GIB", "TIB"), 1)}
_LARGE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


class Last(TyperGroup):
    """Commands in the order of their table, groups of commands behind them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, as --help shows them."""
        return sorted(self.commands, key=lambda name: isinstance(self.commands[name], TyperGroup))


def plan(
    budget: Annotated[str, typer.Option("--budget", metavar="SIZE", help="Such as 50GB, 800MB or 40GiB.")],
    tokens: Annotated[
        str, typer.Option("--tokens", metavar="N", help="Tokens that count, which are stored: 1000000000, 1e9 or 1B.")
    ],
    vocabulary: Annotated[str, typer.Option("--vocabulary", metavar="V", help="Tokens of the teacher: 128000, 128k.")],
    eight_bits: Annotated[bool, typer.Option("--eight-bits", help="Log-probabilities in 8 bits, not 16.")] = False,
    ratio: Annotated[int, typer.Option("--ratio", metavar="R", help="Tokens drawn for each of the head.")] = 2,
    as_json: AsJson = False,
) -> int:
    """Which head (k) and which sample of the tail (n) of a language model's tokens fit a budget.

    \b
    Examples:
      understudy targets plan --budget 50GB --tokens 1e9 --vocabulary 128000
      understudy targets plan --budget 50GB --tokens 1e9 --vocabulary 128000 --eight-bits --json
    """
    from dataclasses import asdict

    from understudy.report.formats import size
    from understudy.targets.plan import BYTES_PER_ROW, MOST
    from understudy.targets.plan import plan as choices

    count, size_of = _count(tokens), _count(vocabulary)
    found = choices(_bytes(budget), count, size_of, eight_bits=eight_bits, ratio=ratio)
    best = found[0]
    full = best.n == ratio * best.k
    what = f"the largest head up to {MOST} with its tail that fits" if full else "all that fits, a tail that is short,"
    why = (
        f"k = {best.k}, n = {best.n} is {what} {'' if full else 'in '}{budget}. The bytes are exact (and "
        f"{BYTES_PER_ROW} for every row of text beside them); that {ratio} tokens of the tail for each of the head are "
        "a good share, and that more is better, is judgement: understudy targets stats measures the mass of the head"
    )
    if as_json:
        rows = [asdict(one) for one in found]
        print_json({"budget": _bytes(budget), "tokens": count, "vocabulary": size_of, "why": why, "choices": rows})
        return 0
    print(f"{why}.")
    head = ("k", "n", "bits", "bytes a token", "total", "")
    lines = [(one.k, one.n, one.log_p_bits, one.bytes_per_token, size(one.total), one.what) for one in found]
    _print([head, *lines])
    chosen = f"--set teacher.targets=stored --set teacher.kept={best.k} --set teacher.drawn={best.n}"
    chosen += " --set teacher.log_p_bits=8" if best.log_p_bits == 8 else ""
    print(f"understudy distill ... {chosen}")
    return 0


def stats(
    folder: Annotated[str, typer.Argument(metavar="STORE_OR_RUN", help="A folder of STORE/targets, or a run.")],
    as_json: AsJson = False,
) -> int:
    """What a store of targets holds: rows, bytes on disk, signals; of tokens the mass of their heads too.

    \b
    Examples:
      understudy targets stats runs/small
      understudy targets stats runs/.store/targets/0123456789abcdef0123456789abcdef --json
    """
    from understudy.pipeline.stores import stats as look
    from understudy.report.formats import size

    with listening():
        facts = look(Path(folder))
    if as_json:
        print_json(facts)
        return 0
    rows: list[tuple[object, ...]] = [
        ("folder", facts["folder"]),
        ("rows", f"{facts['rows']:,} in {facts['shards']:,} shards"),
        ("on disk", f"{size(facts['bytes'])}, {facts['bytes_per_row']:,.1f} bytes a row"),
    ]
    if facts["set_aside"]:
        rows.append(("set aside", f"{facts['set_aside']} corrupt shards; their rows are to be labelled again"))
    rows += [("tokens", f"{facts['tokens']:,}, {facts['bytes_per_token']:.1f} bytes each")] if "tokens" in facts else []
    rows += _said_of_heads(facts)
    for name, signal in facts["signals"].items():
        rows.append((name, f"{signal['dtype']} {['any' if one < 0 else one for one in signal['shape']]}"))
    _print(rows)
    return 0


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run whose targets are stored.")],
    rows: Annotated[int, typer.Option("--rows", min=1, metavar="N", help="Rows to ask about, at most.")] = 32,
    as_json: AsJson = False,
) -> int:
    """Asks the teacher of a run again about stored rows: the largest difference. It trains and stores nothing.

    Exit code 3: the answers differ by more than the tolerance that is stated; 4: the teacher is not there any more.

    \b
    Examples:
      understudy targets verify runs/small
      understudy targets verify runs/small --rows 200 --json
    """
    from understudy.pipeline.stores import verify as ask_again

    with listening() as progress:
        facts = ask_again(Path(run), rows, progress=progress)
    if as_json:
        print_json(facts)
        return 0
    unit = "nats" if facts["unit"] == "nats" else "of |again - stored| / (1 + |stored|)"
    print(
        f"{facts['rows']:,} stored rows asked again: the largest difference is {facts['max_error']:.2g} {unit} "
        f"(allowed {facts['tolerance']:.2g}), and {facts['agreement']:.1%} agree on what is likeliest"
    )
    if not facts["same_weights"]:
        print("the teacher's weights are not those of then, bit for bit; its answers are")
    return 0


def _said_of_heads(facts: Mapping[str, Any]) -> list[tuple[object, ...]]:
    identity, mass = facts["identity"], facts.get("head_mass")
    if "tokens" not in facts:
        return []
    kept = [f"{name} = {identity[name]}" for name in ("k", "n", "temperature", "vocabulary") if name in identity]
    rows: list[tuple[object, ...]] = [("stored", ", ".join(kept))]
    if mass:
        between = f"5 % {mass['p5']:.1%}, half {mass['p50']:.1%}, 95 % {mass['p95']:.1%}"
        rows.append(("mass of the head", f"mean {mass['mean']:.1%}; at most, of the tokens: {between}"))
    error = f"{facts['log_p_bits']} bits, at most {facts['log_p_error']:.2g} nats off"
    below = facts.get("log_p_lowest")
    return [*rows, ("log-probabilities", error + ("" if below is None else f" above {below:g}, and not less than it"))]


def _print(rows: Iterable[Iterable[object]]) -> None:
    """Columns, numbers to the right."""
    cells = [[str(one).replace("\u00a0", " ") for one in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    numeric = [all(re.match(r"[\d,.]", row[column]) for row in cells[1:]) for column in range(len(cells[0]))]
    for row in cells:
        parts = (
            one.rjust(width) if right else one.ljust(width)
            for one, width, right in zip(row, widths, numeric, strict=True)
        )
        print("  ".join(parts).rstrip())


def _bytes(text: str) -> int:
    """A size in bytes.

    >>> _bytes("50GB"), _bytes("1.5 kB"), _bytes("2KiB"), _bytes("17")
    (50000000000, 1500, 2048, 17)
    """
    from understudy.errors import UsageError

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise UsageError(f'wanted a size such as 50GB, 800MB or 40GiB, got "{text}"')
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _count(text: str) -> int:
    """A number of tokens, as people write large ones.

    >>> _count("1e9"), _count("2.5B"), _count("300 m"), _count("1_000,000"), _count("17")
    (1000000000, 2500000000, 300000000, 1000000, 17)
    """
    from decimal import Decimal

    from understudy.errors import UsageError

    plain = re.sub(r"(?<=\d)[_,](?=\d)", "", text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\d{1,2})?)\s*([KMBTkmbt]?)\s*", plain)
    number = Decimal(match[1]) * _LARGE[match[2].upper()] if match else None
    if number is None or number != int(number):
        raise UsageError(f'wanted a number of tokens such as 1000000000, 1e9 or 1B, got "{text}"')
    return int(number)


COMMANDS: dict[str, Callable[..., int]] = {"plan": plan, "stats": stats, "verify": verify}
GROUPS = {"targets": (HELP, COMMANDS)}
"""Groups of commands: name -> what they are about, and the commands."""
