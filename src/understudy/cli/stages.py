"""One stage of a run again: teach, label, train, export, evaluate, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.dials import AsJson
from understudy.cli.progress import listening
from understudy.cli.results import show_run

_STAGES = {
    "teach": "Fine-tunes the teacher of a run on its data, where the recipe says so.",
    "label": "Asks the teacher for every row that the store does not know yet.",
    "train": "Trains the student, its twin and the baselines.",
    "export": "Exports the student to INT8 and puts it through its gates.",
    "evaluate": "Measures teacher, student, twin, baselines and artefact on the test split.",
    "report": "Writes the report of a run from its facts.",
}

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run that distill has begun.")]


def _command(stage: str, claim: str) -> Callable[..., int]:
    def command(run: RunFolder, as_json: AsJson = False) -> int:
        from understudy.pipeline import stage as run_stage

        with listening() as progress:
            done = run_stage(stage, Path(run), progress=progress)
        return show_run(done, as_json=as_json)

    command.__name__ = stage
    command.__doc__ = f"""{claim}

    Runs this stage of the run again; stages before it are reused from their folders.

    \b
    Examples:
      understudy {stage} runs/tickets
      understudy {stage} runs/tickets --json
    """
    return command


COMMANDS = {stage: _command(stage, claim) for stage, claim in _STAGES.items()}
