"""The everyday dials: one table that gives ``distill`` and ``check`` the same options, each with its key in the recipe.

Values travel as text: the recipe knows the ranges and explains what is wrong with them, so this room does not.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from understudy.pipeline.named import NAMED


@dataclass(frozen=True)
class Dial:
    """One option of the command line: its name, the recipe's key, what to write after it, what it does."""

    option: str
    key: str
    value: str
    help: str

    @property
    def parameter(self) -> str:
        """The name as a Python parameter."""
        return self.option.removeprefix("--").replace("-", "_")


DIALS = (
    Dial(
        "--teacher",
        "teacher.path",
        "P",
        "Folder or hub name of a transformers model; cnn, mlp (images), boosting (tables); an endpoint's URL.",
    ),
    Dial("--model", "teacher.model", "NAME", "An endpoint's name of the model."),
    Dial("--data", "data.path", "D", "Folder of train|validation|test|unlabelled files, one file, or a hub name."),
    Dial(
        "--student",
        "student.family",
        "S",
        "Text: static, ngram, conv, gru, transformer, cut; images: cnn, mlp, cut; tables: mlp; auto: by --max-mb/ms.",
    ),
    Dial("--text", "data.text", "COLUMN", "Column of the text (default: text); A,B for a pair (sentence1,sentence2)."),
    Dial("--label", "data.label", "COLUMN", "Column of the label (default: label; score of a regression)."),
    Dial("--image", "data.image", "COLUMN", "Column of the image (default: image)."),
    Dial("--task", "task", "NAME", "What the rows are and what is learnt (understudy init says); inferred, and shown."),
    Dial("--temperature", "objective.temperature", "NUMBER|auto", "Softens both sides; auto chooses on validation."),
    Dial("--alpha", "objective.alpha", "NUMBER|auto", "Weight of the hard labels, 0 to 1; auto chooses on validation."),
    Dial("--epochs", "train.epochs", "N", "Passes over the data for student and twin."),
    Dial("--seed", "seed", "N", "Seed of everything random."),
    Dial("--seeds", "seeds", "N", "Train student and twin this many times: the verdict then covers seeds."),
    Dial("--metric", "evaluation.metric", "NAME", "Primary metric: accuracy, macro_f1, spearman, ..."),
    Dial("--max-ms", "export.max_ms", "MS", "Gate: p95 for one row, from raw input to label."),
    Dial("--max-mb", "export.max_mb", "MB", "Gate: size of the artefact, vocabulary included."),
    Dial("--max-drop", "export.max_drop", "POINTS", "Gate: most points that INT8 may lose (default: 0.5)."),
    Dial("--store", "store", "DIR", "Folder of teachers and targets, shared by runs (default: .store beside RUN)."),
    Dial("--max-requests", "teacher.max_requests", "N", "An endpoint: most requests now, retries included."),
    Dial("--max-cost", "teacher.max_cost", "MONEY", "An endpoint: most money for all its answers to these rows."),
    Dial("--price-in", "teacher.price_in", "MONEY", "An endpoint: a million tokens read."),
    Dial("--price-out", "teacher.price_out", "MONEY", "An endpoint: a million tokens written."),
    Dial("--key-env", "teacher.key_env", "NAME", "Environment variable of its key (OPENAI_API_KEY); none: no key."),
    Dial("--track", "train.track", "NAME", "An accelerate tracker, such as tensorboard."),
    Dial("--calls-per-day", "evaluation.calls_per_day", "N", "Expected load, for the break-even."),
    Dial(
        "--teacher-cost-per-million", "evaluation.teacher_cost_per_million", "MONEY", "A million teacher calls today."
    ),
)

Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Any other key of the recipe; may be repeated.")
]
RecipeFile = Annotated[
    str | None, typer.Option("--recipe", metavar="F|NAME", help=f"A YAML file, or a name: {', '.join(NAMED)}.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[
    str | None, typer.Option("--out", metavar="RUN", help="Folder of the run (default: runs/NAME of the data).")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start this run over; the store is never deleted.")]


def with_dials(command: Callable[..., int]) -> Callable[..., int]:
    """The command with every dial as an option; it gets ``options``: recipe key -> text, None where unsaid."""
    own = inspect.signature(command, eval_str=True)
    kept = [parameter for name, parameter in own.parameters.items() if name != "options"]
    dials = [
        inspect.Parameter(
            dial.parameter,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(dial.option, metavar=dial.value, help=dial.help)],
        )
        for dial in DIALS
    ]

    @functools.wraps(command)
    def wrapped(**said: Any) -> int:
        options = {dial.key: said.pop(dial.parameter) for dial in DIALS}
        return command(options=options, **said)

    by_kind = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in kept]
    wrapped.__signature__ = own.replace(parameters=[*dials, *by_kind])  # type: ignore[attr-defined]
    return wrapped
