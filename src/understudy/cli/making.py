"""Commands that make something: demo, init, check, distill."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Annotated

import typer

from understudy.cli.dials import AsJson, Fresh, Out, RecipeFile, Sets, with_dials
from understudy.cli.progress import listening
from understudy.cli.results import print_json, show_run


def demo(
    out: Annotated[str, typer.Option("--out", metavar="RUN", help="Folder of the run.")] = "runs/demo",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> int:
    """The main job on bundled data (handwritten digits), in a minute or two.

    Trains a teacher, stores its targets, trains a small student and its twin, exports INT8, measures, and writes a
    report. Nothing is downloaded.

    \b
    Examples:
      understudy demo
      understudy demo --out runs/first --json
    """
    from understudy.pipeline import demo as run_demo

    with listening() as progress:
        run = run_demo(Path(out), fresh=fresh, progress=progress)
    return show_run(run, as_json=as_json)


def init(
    data: Annotated[str, typer.Option("--data", metavar="D", help="Folder, file or hub name.")],
    text: Annotated[str, typer.Option("--text", metavar="COLUMN", help="Column of the text.")] = "text",
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="Column of the label.")] = "label",
    image: Annotated[str, typer.Option("--image", metavar="COLUMN", help="Column of the image.")] = "image",
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="What is to be learnt; else what the data looks like.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write the recipe here, not to stdout.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Looks at the data and writes a commented recipe.

    \b
    Examples:
      understudy init --data tickets.csv
      understudy init --data ./texts --task sentence-embedding
      understudy init --data ./tickets --label intent --out tickets.yaml
    """
    from understudy.pipeline.init import init as look

    recipe = look(data, text=text, label=label, image=image, task=task)
    if out is not None:
        from understudy.errors import UsageError
        from understudy.files import write_text

        if Path(out).exists():
            raise UsageError(f"{out} is already there; name another file with --out, or remove it")
        write_text(Path(out), recipe)
    if as_json:
        print_json({"recipe": recipe, "file": out})
    else:
        print(f"understudy distill --recipe {out}" if out is not None else recipe)
    return 0


@with_dials
def check(
    *,
    options: dict[str, str | None],
    out: Out = None,
    recipe: RecipeFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> int:
    """Validates everything and trains nothing: takes what distill takes.

    One screen: the teacher's score beside the majority class, label order, tokenizers, leaks between splits, every
    term on one batch with its gradient, sizes, and a forecast of time and disk.

    \b
    Examples:
      understudy check --teacher ./my-bert --data ./tickets --student static
      understudy check --recipe tickets.yaml --json
    """
    from understudy.pipeline.recipe import load_recipe

    resolved = load_recipe(recipe, options=options, sets=sets or ())
    from understudy.cli.screens import show_check
    from understudy.pipeline import check as run_check

    with listening() as progress:
        found = run_check(resolved, run_folder(out, resolved.data.path), progress=progress)
    if as_json:
        print_json(found)
    else:
        show_check(found)
    return 0


@with_dials
def distill(
    *,
    options: dict[str, str | None],
    out: Out = None,
    recipe: RecipeFile = None,
    sets: Sets = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> int:
    """All stages: teach, label, train, export, evaluate, report.

    The same command again resumes. A changed recipe is an error that shows what changed; --fresh starts over.

    \b
    Examples:
      understudy distill --teacher ./my-bert --data ./tickets --student static --out runs/tickets
      understudy distill --teacher cnn --data ./digits --student mlp --max-mb 1 --set train.batch_size=64
      understudy distill --teacher https://HOST/v1 --model NAME --data ./tickets --student static --max-requests 5000
      understudy distill --recipe tickets.yaml --temperature auto --seeds 3 --out runs/tickets-3
    """
    from understudy.pipeline.recipe import load_recipe

    resolved = load_recipe(recipe, options=options, sets=sets or ())
    from understudy.pipeline import distill as run_distill

    with listening() as progress:
        run = run_distill(resolved, run_folder(out, resolved.data.path), fresh=fresh, progress=progress)
    return show_run(run, as_json=as_json)


def run_folder(out: str | None, data: str) -> Path:
    """Where a run goes: as said, or ``runs/`` and the name of the data.

    >>> run_folder(None, "../tickets.csv").as_posix()
    'runs/tickets'
    """
    if out is not None:
        return Path(out)
    name = re.sub(r"[^\w.-]+", "-", PurePath(data).stem).strip(".-")
    return Path("runs") / (name or "run")


COMMANDS = {"demo": demo, "init": init, "check": check, "distill": distill}
