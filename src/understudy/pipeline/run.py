"""A run: one folder with everything that one recipe produced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from understudy import report, runtime
from understudy.errors import StoreError
from understudy.files import read_json


@dataclass(frozen=True)
class Run:
    """What ``distill`` gives back, and what ``Run.open`` finds.

    Attributes:
        folder: the run's folder.
        facts: the content of run.json; empty while no evaluation is done.
    """

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """The run in a folder. Raises StoreError where there is none."""
        folder = Path(folder)
        if not (folder / "recipe.yaml").is_file():
            raise StoreError(
                f"{folder} is not a run: no recipe.yaml in it; start one with understudy distill --out {folder}"
            )
        facts = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
        return cls(folder, facts)

    def summary(self) -> str:
        """The verdict, the table and the advice, as text."""
        return report.summary(dict(self.facts))

    @cached_property
    def artefact(self) -> runtime.Predictor:
        """The torch-free predictor. Raises ArtefactError where a gate failed and nothing ships."""
        return runtime.load(self.folder / "artefact")

    @property
    def gates_failed(self) -> list[dict[str, Any]]:
        """Gates that the exported model did not pass."""
        return [gate for gate in self.facts.get("verdict", {}).get("gates", []) if not gate["passed"]]
