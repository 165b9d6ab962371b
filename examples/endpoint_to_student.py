"""From an endpoint to a student: prompts are answered, the answers filtered, and a small decoder learns what is left.

    python examples/endpoint_to_student.py --prompts PROMPTS --teacher URL --model NAME --student FOLDER --out OUT

PROMPTS is a .csv, .jsonl or .parquet file with a column `prompt`. URL is the base URL of an OpenAI-compatible server,
on this machine (`http://127.0.0.1:8000/v1`: `transformers serve`, vLLM, llama.cpp) or elsewhere; its key is read from
OPENAI_API_KEY. FOLDER is a decoder with its tokenizer, which need not be the teacher's: the student learns from texts.

The same as two commands:

    understudy generate --prompts PROMPTS --teacher URL --model NAME --out OUT/answers.jsonl
    understudy distill --data OUT/answers.jsonl --student cut --set student.folder=FOLDER --out OUT/run

Every answer is kept as it arrives, in OUT/.store: the same command again asks for nothing twice, and goes on where it
stopped. What the run shows is the student before (the row `teacher`) and after, on answers that it did not see.
Whether their terms allow to train on a provider's answers, only those can say.

Source: Kim, Rush 2016 (sequence-level knowledge distillation), arXiv 1606.07947.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.cli.progress import listening
from understudy.errors import Interrupted
from understudy.generation import Limits, Rules, Sampling, generate
from understudy.generation.card import money
from understudy.pipeline import distill
from understudy.pipeline.progress import Progress
from understudy.pipeline.recipe import load_recipe
from understudy.pipeline.run import Run


def main(arguments: Sequence[str] | None = None) -> Run:
    """Both halves; what was asked, kept, learnt and where the report is goes to stdout."""
    said = parser().parse_args(arguments)
    table = Path(said.out) / "answers.jsonl"
    with listening() as progress:
        made = answers(said, table, progress)
        for line in attrition(made):
            print(line)
        run = distill(recipe_of(said, table), Path(said.out) / "run", progress=progress)
    metric = str(run.facts["comparison"]["metric"])
    before, after = (run.facts["models"][who]["metrics"][metric]["value"] for who in ("teacher", "student"))
    print(f"{metric} on {run.facts['data']['test']['rows']} answers not seen: {before:.3f} before, {after:.3f} after")
    print(run.folder / "report.html")
    return run


def answers(said: argparse.Namespace, table: Path, progress: Progress) -> dict[str, Any]:
    """The table of filtered answers, and the facts of its card.

    Raises:
        Interrupted: a limit was reached, or requests failed; what was answered is kept.
    """
    made = generate(
        said.prompts,
        said.teacher,
        table,
        model=said.model,
        sampling=Sampling(said.samples, said.temperature, max_tokens=said.max_tokens),
        limits=Limits(said.max_requests, said.max_cost, said.price_in, said.price_out, said.concurrency),
        rules=Rules(near=said.near),
        key_env=said.key_env,
        progress=progress,
    )
    if made["stopped"] or made["unanswered"]:
        why = f"{made['stopped']} is reached" if made["stopped"] else made["why"]
        raise Interrupted(f"{made['unanswered']:,} answers are missing ({why}): the same command asks for the rest")
    return made


def attrition(made: Mapping[str, Any]) -> list[str]:
    """What was asked for, what each filter took, and what it cost."""
    counts = made["counts"]
    lines = [f"{counts['wanted']:>6,} answers wanted, {counts['requests']:,} requests sent"]
    lines += [f"{one['taken']:>6,} taken: {one['filter']}" for one in made["attrition"] if one["taken"]]
    return [*lines, f"{counts['kept']:>6,} kept; cost: {money(made['cost'])}"]


def recipe_of(said: argparse.Namespace, table: Path) -> Any:
    """Fine-tuning on the answers alone, from the student as it is."""
    options = {
        "task": "causal-lm",
        "data.path": str(table),
        "student.family": "cut",
        "student.folder": said.student,
        "train.epochs": said.epochs,
        "train.learning_rate": said.learning_rate,
        "seed": said.seed,
    }
    return load_recipe(options=options, sets=said.set)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--prompts", required=True, help="a .csv, .jsonl or .parquet file with a column prompt")
    made.add_argument("--teacher", required=True, help="base URL of an OpenAI-compatible server")
    made.add_argument("--model", help="the server's name of the model")
    made.add_argument("--student", required=True, help="folder of a decoder and its tokenizer")
    made.add_argument("--out", required=True, help="folder of the answers and of the run")
    made.add_argument("--samples", type=int, default=1, help="answers for each prompt")
    made.add_argument("--temperature", type=float, default=1.0, help="of the sampling")
    made.add_argument("--max-tokens", type=int, default=256, help="of one answer")
    made.add_argument("--near", type=float, default=0.8, help="near duplicates: word 3-grams in common; 0: off")
    made.add_argument("--max-requests", type=int, help="most requests now, retries included")
    made.add_argument("--max-cost", type=float, help="most money, over all calls; wants both prices")
    made.add_argument("--price-in", type=float, help="of a million tokens read")
    made.add_argument("--price-out", type=float, help="of a million tokens written")
    made.add_argument("--concurrency", type=int, default=8, help="most requests under way at once")
    made.add_argument("--key-env", default="OPENAI_API_KEY", help="environment variable that holds the key, or none")
    made.add_argument("--epochs", type=int, default=4, help="passes over the answers")
    made.add_argument("--learning-rate", type=float, default=1e-4, help="peak learning rate")
    made.add_argument("--seed", type=int, default=0, help="of everything random in the training")
    made.add_argument("--set", action="append", default=[], metavar="A.B=C", help="any other key of the recipe")
    return made


if __name__ == "__main__":
    main()
