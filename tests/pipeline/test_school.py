"""What is refused before anything is trained, and what steps, peers and a user's own student are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy.data import digits
from understudy.errors import RecipeError, UsageError
from understudy.pipeline.before import refuse
from understudy.pipeline.defaults import resolved
from understudy.pipeline.recipe import load_recipe
from understudy.pipeline.steps import of_step

from .test_main_job import Until, distilled_until, stage_facts

TINY = {"teacher.width": 4, "teacher.epochs": 1, "teacher.precision": "fp32", "train.epochs": 2, "student.width": 4}
TINY |= {"data.path": "digits", "teacher.path": "cnn", "student.family": "cnn", "train.precision": "fp32"}


def asked(name: str | None = None, **changes: Any) -> Any:
    return load_recipe(name, options={**TINY, **{key.replace("__", "."): value for key, value in changes.items()}})


def looked_at(recipe: Any) -> Any:
    ready = resolved(recipe, "image-classification", metric="accuracy")
    refuse(ready, digits())
    return ready


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peers": [{}], "ships": "best", "student__exits": "all"}, "ships: best and student.exits do not go together"),
        ({"peers": [{}], "objective__alpha": "auto"}, "objective.alpha: auto is chosen by short runs"),
        ({"steps": [{"name": "a"}], "objective__temperature": "auto"}, "this recipe has steps: say a number"),
        ({"steps": [{"name": "a", "objective": {"alpha": "auto"}}]}, "objective.alpha: auto"),
        ({"steps": [{"name": "a", "student": {"width": 6}}], "student__start": "a"}, "cannot start from step a"),
        ({"steps": [{"name": "a", "size": "between"}], "student__start": "a"}, "cannot start from step a"),
        ({"steps": [{"name": "a", "objective": {"terms": [{"hints": {"layers": "top"}}]}}], "learns_from": "a"},
         "steps, a, objective.terms: nothing that is taught there"),
        ({"peers": [{"family": "teacher", "width": 3}]}, "width of peer 1 would change nothing"),
        ({"peers": [{"start": "a"}]}, "start of peer 1 would change nothing"),
        ({"teacher__members": {"a": {}, "b": {"seed": 1}}, "objective__terms": [{"shorthand": {}}, {"rkd_angle": {}}]},
         "several teachers share no layers"),
        ({"steps": [{"name": "a", "objective": {"terms": 5}}]}, "objective.terms: got 5"),
        ({"steps": [{"name": "a", "student": {"family": "static"}}]}, 'student "static" cannot do image'),
        ({"peers": [{"family": "static"}]}, 'student "static" cannot do image'),
        ({"steps": [{"name": "a", "objective": {"terms": [None]}}]}, "objective.terms: got null"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_looking_at_the_recipe(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        looked_at(asked(**changes))
    assert words in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective__terms": [{"soft_labels": {"weight": {}}}]}, "weight: wanted a number, or a schedule"),
        ({"objective__terms": [{"soft_labels": {"weight": "a"}}]}, "weight: wanted a number, or a schedule"),
        ({"objective__terms": [{"soft_labels": {"weight": {"linear": {"weight": "a", "steps": 5}}}}]}, "linear cannot"),
        ({"objective__terms": [{"soft_labels": {"divergence": {"jensen_shannon": 0.5}}}]}, "divergence: wanted"),
        ({"objective__terms": [{"soft_labels": {"divergence": {"jensen_shannon": {"bta": 1}}}}]}, 'takes no "bta"'),
        ({"objective__terms": [{"hard_labels": {"name": ["a"]}}]}, "wanted name as a name"),
        ({"objective__terms": [{"hard_labels": {"weight": True}}]}, "got true"),
        ({"objective__terms": [{"logit_standardisation": {}}]}, "logit_standardisation cannot be made of nothing"),
        ({"objective__terms": [{"logit_standardisation": {"term": "soft_labels"}}]}, "term: wanted a term"),
        ({"objective__terms": [{"logit_standardisation": {"term": {}}}]}, "term: wanted a term"),
        ({"objective__terms": [{"soft_labels": {"of": ["a"]}}, {"hard_labels": {}}]}, "wanted of as a name"),
        ({"objective__terms": [{"soft_labels": {"temperature": "hot"}}]}, "temperature"),
        ({"objective__terms": [{"soft_labels": {}}, {"soft_labels": {}}]}, "every term needs a name of its own"),
        ({"objective__terms": [{"shorthand": {}}, {"patient": {"layers": {1: 2}}}]}, 'cannot give "hidden.1"'),
        ({"student__exits": [9]}, "exits are after some of the 2 stages"),
        ({"student__exits": "all", "student__family": "mlp"}, "exits"),
    ],
)  # fmt: skip
def test_what_no_model_can_do_is_refused_before_the_teacher_is_trained(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    from understudy.pipeline import distill

    listener = Until("never")
    with pytest.raises((RecipeError, UsageError)) as caught:
        distill(asked(**changes), tmp_path / "run", progress=listener)
    assert words in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert "teach" not in listener.stages


def test_a_step_of_another_family_has_that_family_s_dials() -> None:
    recipe = looked_at(
        load_recipe(
            options={"data.path": "digits", "teacher.path": "cnn", "student.family": "cnn", "train.epochs": 2,
                     "steps": [{"name": "a", "student": {"family": "mlp"}}], "learns_from": "a"}
        )
    )  # fmt: skip
    inner = of_step(recipe, recipe.steps[0])
    assert (inner.student.width, inner.train.learning_rate, inner.train.epochs) == (64, 1e-3, 2)


def test_a_copy_of_a_teacher_speaks_in_the_data_s_order(tiny_bert: Any, tiny_labels: tuple[str, ...]) -> None:
    from understudy.pipeline.school import in_data_order
    from understudy.teachers import open_teacher

    shuffled = tuple(reversed(tiny_labels))
    teacher = open_teacher(tiny_bert(shuffled, steps=80), task="text-classification", label_names=tiny_labels)
    assert teacher.label_order is not None
    rows = {"text": ["my card and a refund", "rain and snow today"]}
    model = in_data_order(teacher, tiny_labels)
    assert model is not teacher.model
    from understudy.teachers import score_rows

    torch.testing.assert_close(
        torch.from_numpy(score_rows(model, teacher.encoder, rows)), torch.from_numpy(teacher.scores(rows))
    )


def test_a_student_of_your_own_is_what_every_step_and_peer_is(tmp_path: Path) -> None:
    from understudy import students
    from understudy.data import digits
    from understudy.encoding import PixelEncoder
    from understudy.pipeline import distill_models
    from understudy.teachers import given

    mine = students.Cnn((8, 8), 1, 10, width=5)
    teacher = given(students.Cnn((8, 8), 1, 10, width=6), PixelEncoder((8, 8), 1))
    listener = Until("export")
    from .test_main_job import Enough

    for name in ("born-again", "mutual"):
        recipe = asked(name)
        with pytest.raises(Enough):
            distill_models(
                teacher, digits(), recipe, tmp_path / name, student=mine, encoder=PixelEncoder((8, 8), 1),
                progress=listener,
            )  # fmt: skip
        saved = json.loads((tmp_path / name / "student" / "config.json").read_text())
        assert saved["width"] == 5
    step = json.loads((tmp_path / "born-again" / "steps" / "first-generation" / "config.json").read_text())
    assert step["width"] == 5
    with pytest.raises(RecipeError, match="of a student of your own cannot be changed"):
        distill_models(
            teacher, digits(), asked("teacher-assistant"), tmp_path / "no", student=mine,
            encoder=PixelEncoder((8, 8), 1),
        )  # fmt: skip


def test_norms_are_measured_once(tmp_path: Path) -> None:
    recipe = asked("rkd", train__max_steps=4, train__checkpoint_seconds=0)
    out = tmp_path / "run"
    distilled_until("train-twin-0", recipe, out)
    first = stage_facts(out, "train-student-0")
    from understudy.pipeline.learn import Classroom

    kept = tmp_path / "norms.json"
    kept.write_text(json.dumps({"soft_labels": 2.0}))
    assert Classroom._norms(None, recipe, {}, [], None, 0, tmp_path) == {"soft_labels": 2.0}  # type: ignore[arg-type]
    assert any(note.startswith("weights balanced by gradients: ") for note in first["notes"])


def test_static_students_of_a_cohort_get_a_number_for_a_temperature(finished: Any) -> None:
    options = {"data.path": str(finished.data), "student.family": "static"}
    alone = resolved(load_recipe(options=options), "text-classification", metric="accuracy")
    together = resolved(load_recipe(options={**options, "peers": [{}]}), "text-classification", metric="accuracy")
    assert (alone.objective.temperature, together.objective.temperature) == ("auto", 1.0)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"name": "a", "epochs": 3}], "steps.0.epochs is not a key of a recipe"),
        ([{"name": "../x"}], "steps.0.name: got"),
        ([{}], "steps.0.name is missing"),
        ([{"name": "a", "share": 0}], "steps.0.share: got 0"),
    ],
)
def test_a_mistake_inside_a_step_names_its_place(steps: Any, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        asked(steps=steps)
    assert words in str(caught.value), str(caught.value)
