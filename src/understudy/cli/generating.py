"""Text from a generative teacher: one command."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli.dials import AsJson
from understudy.cli.progress import listening
from understudy.cli.results import print_json

_NOT_COMPLETE = 75


def _option(name: str, metavar: str | None, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text)


def generate(
    prompts: Annotated[str, _option("--prompts", "P", "A .csv, .jsonl or .parquet file.")],
    teacher: Annotated[str, _option("--teacher", "URL|MODEL", "An OpenAI-compatible endpoint, or a model's folder.")],
    out: Annotated[str, _option("--out", "FILE", "The table: .parquet or .jsonl; its card goes beside it.")],
    model: Annotated[str | None, _option("--model", "NAME", "The endpoint's name of the model.")] = None,
    prompt: Annotated[str | None, _option("--prompt", "COLUMN", "Column of prompts (prompt, else messages).")] = None,
    template: Annotated[str | None, _option("--template", "TEXT", 'Such as "Rewrite: {text}"; names columns.')] = None,
    system: Annotated[str | None, _option("--system", "TEXT", "A system prompt before every chat.")] = None,
    samples: Annotated[int, _option("--samples", "N", "Answers for each prompt.")] = 1,
    temperature: Annotated[float, _option("--temperature", "T", "Of the sampling; 0: the likeliest token.")] = 1.0,
    top_p: Annotated[float, _option("--top-p", "P", "Share of probability that is sampled from.")] = 1.0,
    max_tokens: Annotated[int, _option("--max-tokens", "N", "Most tokens of one answer.")] = 512,
    seed: Annotated[int | None, _option("--seed", "N", "Of the sampling; an endpoint need not heed it.")] = None,
    max_requests: Annotated[int | None, _option("--max-requests", "N", "Most requests now, retries included.")] = None,
    max_cost: Annotated[float | None, _option("--max-cost", "MONEY", "Most for the table, over all calls.")] = None,
    price_in: Annotated[float | None, _option("--price-in", "MONEY", "A million tokens read.")] = None,
    price_out: Annotated[float | None, _option("--price-out", "MONEY", "A million tokens written.")] = None,
    concurrency: Annotated[int, _option("--concurrency", "N", "Most requests under way at once.")] = 8,
    timeout: Annotated[float, _option("--timeout", "SECONDS", "Until a request is given up.")] = 120.0,
    retries: Annotated[int, _option("--retries", "N", "Tries after a rate limit or an error of the server.")] = 4,
    batch: Annotated[int, _option("--batch", "N", "Prompts that a local model answers at once.")] = 8,
    key_env: Annotated[
        str, _option("--key-env", "NAME", "Environment variable that holds the key; none: no key.")
    ] = "OPENAI_API_KEY",
    keep_truncated: Annotated[bool, _option("--keep-truncated", None, "Keep what ended at --max-tokens.")] = False,
    keep_refusals: Annotated[bool, _option("--keep-refusals", None, "Keep what begins like a refusal.")] = False,
    min_chars: Annotated[int, _option("--min-chars", "N", "Fewest characters of a completion.")] = 1,
    max_chars: Annotated[int | None, _option("--max-chars", "N", "Most characters of a completion.")] = None,
    min_script: Annotated[
        float, _option("--min-script", "SHARE", "Letters in the prompt's scripts, at least; 0: off.")
    ] = 0.5,
    near: Annotated[float, _option("--near", "SHARE", "Near duplicates: word 3-grams in common; 0: off.")] = 0.8,
    avoid: Annotated[str | None, _option("--avoid", "D", "Evaluation data: a folder's validation and test.")] = None,
    licence: Annotated[str | None, _option("--licence", "TEXT", "Licence and terms of prompts and answers.")] = None,
    store: Annotated[str | None, _option("--store", "DIR", "Answers that are paid for (.store beside FILE).")] = None,
    fresh: Annotated[bool, _option("--fresh", None, "Replace another job's table; answers stay.")] = False,
    as_json: AsJson = False,
) -> int:
    """Text from a generative teacher: an endpoint's or a local model's answers, filtered, with a data card.

    Every answer is stored as it arrives: the same command again goes on, and pays for nothing twice. Exit code 75: a
    budget was reached or requests failed; what was answered is written.

    \b
    Examples:
      understudy generate --prompts q.csv --teacher https://HOST/v1 --model NAME --out a.parquet --max-requests 500
      understudy generate --prompts q.csv --teacher ./my-llm --out a.jsonl --template "Rewrite: {text}" --samples 2
    """
    from understudy.generation import Limits, Prompting, Rules, Sampling
    from understudy.generation import generate as run

    with listening() as progress:
        facts = run(
            Path(prompts),
            teacher,
            Path(out),
            model=model,
            prompting=Prompting(prompt, template, system),
            sampling=Sampling(samples, temperature, top_p, max_tokens, seed),
            limits=Limits(max_requests, max_cost, price_in, price_out, concurrency, timeout, retries, batch),
            rules=Rules(not keep_truncated, not keep_refusals, min_chars, max_chars, min_script, near),
            avoid=avoid,
            licence=licence,
            store=store,
            key_env=key_env,
            fresh=fresh,
            today=datetime.date.today(),
            progress=progress,
        )
    if as_json:
        print_json(facts)
    else:
        _show(facts, Path(out))
    return _complete(facts)


def _show(facts: dict[str, Any], out: Path) -> None:
    """The attrition table, the cost, the file."""
    from understudy.generation.card import money

    rows = [(one["filter"], f"{one['taken']:,}", f"{one['left']:,}", one["rule"]) for one in facts["attrition"]]
    rows = [("filter", "took", "left", ""), ("", "", f"{facts['counts']['wanted']:,}", "answers wanted"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, taken, left, rule in rows:
        print(f"{name:<{widths[0]}}  {taken:>{widths[1]}}  {left:>{widths[2]}}  {rule}".rstrip())
    tokens = facts["tokens"]
    print(f"tokens: {tokens['in']:,} read, {tokens['out']:,} written; cost: {money(facts['cost'])}")
    if facts["licence"] is None:
        print("licence and terms are not stated: --licence fills them in")
    print(out)


def _complete(facts: dict[str, Any]) -> int:
    """The exit code, and on stderr what is missing."""
    from understudy.cli.boundary import say

    missing = f"{facts['unanswered']:,} answers are missing"
    if facts["stopped"]:
        say(f"{facts['stopped']} is reached: {missing}; what was answered is written, a higher limit goes on")
    elif facts["unanswered"]:
        say(f"{missing} ({facts['why']}); what was answered is written, the same command asks for the rest")
    else:
        return 0
    return _NOT_COMPLETE


COMMANDS = {"generate": generate}
