"""One stage of a run again: teach, label, train, evaluate, report; export, which takes more, is in exporting.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.dials import AsJson
from understudy.cli.exporting import export
from understudy.cli.progress import listening
from understudy.cli.results import show_run

ORDER = ("teach", "label", "train", "export", "evaluate", "report")
_STAGES = {
    "teach": "Fine-tunes the teacher of a run on its data, where the recipe says so.",
    "label": "Asks the teacher for every row that the store does not know yet.",
    "train": "Trains the student, its twin and the baselines.",
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


COMMANDS: dict[str, Callable[..., int]] = {stage: _command(stage, claim) for stage, claim in _STAGES.items()}
COMMANDS = {name: {**COMMANDS, "export": export}[name] for name in ORDER}
