"""Trackers: what a training says step by step arrives in the files of the tracker that the recipe names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.small import Numbers, Small, examples, feed, objective, score

from understudy.data import Splits
from understudy.errors import UsageError
from understudy.pipeline.apprentice import own_module
from understudy.pipeline.defaults import resolved
from understudy.pipeline.journal import Journal
from understudy.pipeline.learn import Classroom, learn
from understudy.pipeline.material import Material
from understudy.pipeline.progress import Silent
from understudy.pipeline.recipe import load_recipe
from understudy.pipeline.watching import check_tracker, watching
from understudy.tasks import task_named
from understudy.teachers import Live, Loaded
from understudy.training import Settings, Step, train

pytest.importorskip("tensorboard", reason="the tracker's package is not installed")


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """tag -> (step, value) of every scalar in a folder's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_term_of_every_step_is_in_the_event_file(tmp_path: Path) -> None:
    data, seen = feed(), []
    with watching(Silent(), "student", tracker="tensorboard", folder=tmp_path / "student-0") as tell:

        def both(step: Step) -> None:
            seen.append(step)
            tell(step)

        train(
            Small(), data, objective=objective(), teacher=Live(Small(seed=9)), watch=both, validate=score(data),
            settings=Settings(epochs=2, batch_size=4), device="cpu",
        )  # fmt: skip
    found = curves(tmp_path / "student-0")
    assert set(found) == {"loss", "agreement", "validation", "terms/soft_labels", "terms/hard_labels"}
    steps = list(range(1, 9))
    for tag, values in (
        ("loss", [step.loss for step in seen]),
        ("terms/soft_labels", [step.terms["soft_labels"] for step in seen]),
    ):
        assert [at for at, _ in found[tag]] == steps
        assert [value for _, value in found[tag]] == pytest.approx(values, rel=1e-5)
    assert [at for at, _ in found["validation"]] == [4, 8]  # at the end of each epoch


def test_the_recipe_names_the_tracker(tmp_path: Path) -> None:
    """A student and its twin are tracked each in a folder of its own; the short runs that choose a dial are not."""
    options = {"data.path": "rows", "student.family": "cut", "train.track": "tensorboard", "teacher.targets": "live"}
    options |= {"train.epochs": 1, "train.batch_size": 8, "train.precision": "fp32", "objective.temperature": 2.0}
    task = task_named("text-classification")
    recipe = resolved(load_recipe(options=options), task.name, metric=task.primary)
    rows = examples(24, unlabelled=0.0)
    some = rows.take(np.arange(6))
    splits = Splits(rows, some, some, None, ("a", "b", "c"))
    material = Material(recipe, task, splits, tmp_path / "run", tmp_path / "store", Journal(tmp_path, Silent()))
    encoder: Any = Numbers()
    teacher = Loaded(Small(seed=9), encoder, None, False, "small", "small")
    room = Classroom(material, teacher, own_module(Small(), encoder))
    room.teach(recipe.model_copy(), role="student", seed=0)
    assert not (tmp_path / "run" / "track").exists()
    for role in ("student", "twin"):
        learn(room, recipe.model_copy(), role=role, seed=3, folder=tmp_path / "run" / role)
    found = {role: curves(tmp_path / "run" / "track" / f"{role}-3") for role in ("student", "twin")}
    assert {"terms/soft_labels", "terms/hard_labels", "validation"} <= set(found["student"])
    assert "terms/soft_labels" not in found["twin"]
    assert [at for at, _ in found["student"]["loss"]] == [1, 2, 3]


def test_trackers_that_are_not_there() -> None:
    check_tracker(None)
    check_tracker("tensorboard")
    with pytest.raises(UsageError, match=r'train.track: no tracker "tensorbord": did you mean "tensorboard"'):
        check_tracker("tensorbord")


def test_a_tracker_without_its_package_is_named() -> None:
    from accelerate.tracking import get_available_trackers

    missing = sorted({"aim", "clearml", "dvclive"} - {str(name) for name in get_available_trackers()})
    if not missing:
        pytest.skip("every tracker is installed here")
    with pytest.raises(UsageError, match=rf"{missing[0]} needs a package .* pip install {missing[0]}"):
        check_tracker(missing[0])
