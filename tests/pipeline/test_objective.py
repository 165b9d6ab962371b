"""From a recipe's terms to an objective: words for cohorts and layers, and one line for every mistake."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from torch import nn

from understudy import students
from understudy.errors import RecipeError
from understudy.pipeline.before import refuse
from understudy.pipeline.objective import (
    build,
    entries,
    reads_only_logits,
    refuse_silence,
    refuse_terms,
    without_teacher,
)
from understudy.pipeline.recipe import load_recipe
from understudy.pipeline.steps import of_step, refuse_steps, started_from


def recipe(terms: Any = None, *, sets: tuple[str, ...] = (), **options: Any) -> Any:
    said = {"data.path": "d", "student.family": "cnn", "objective.terms": terms}
    return load_recipe(options={**said, **options}, sets=sets)


def cohort(*peers: str) -> dict[str, nn.Module]:
    return {name: students.Cnn((16, 16), 1, 3, width=4) for name in ("student", *peers)}


@pytest.fixture
def teacher() -> nn.Module:
    return students.Cnn((16, 16), 1, 3, width=8)


def test_without_a_list_the_objective_is_the_shorthand(teacher: nn.Module) -> None:
    said = recipe(**{"objective.alpha": 0.25, "objective.temperature": 3.0})
    assert entries(said) == [("shorthand", {})]
    assert [(term.name, term.weight) for term in build(said, cohort(), teacher)] == [
        ("soft_labels", 0.75),
        ("hard_labels", 0.25),
    ]


def test_everybody_learns_from_the_others(teacher: nn.Module) -> None:
    said = recipe(
        [{"hard_labels": {"of": "each"}}, {"soft_labels": {"of": "each", "against": "others", "weight": 0.6}}]
    )
    found = build(said, cohort("peer.1", "peer.2"), teacher)
    assert [term.of for term in found[:3]] == ["student", "peer.1", "peer.2"]
    assert {(term.of, term.against) for term in found[3:]} == {
        (a, b) for a in ("student", "peer.1", "peer.2") for b in ("student", "peer.1", "peer.2") if a != b
    }
    assert {term.weight for term in found[3:]} == {0.3}
    assert len({term.name for term in found}) == len(found) == 9


def test_layers_are_worked_out_from_both_models(teacher: nn.Module) -> None:
    (uniform,) = build(recipe([{"hints": {"layers": "uniform"}}]), cohort(), teacher)
    (top,) = build(recipe([{"hints": {"layers": "top"}}]), cohort(), teacher)
    assert len(uniform.needs.learner) == len(uniform.needs.source) == 6  # two blocks at each of three resolutions
    assert top.needs.learner == {"module:stages.7"}
    assert uniform.per == "examples"


def test_layers_by_number_survive_json() -> None:
    (term,) = build(recipe([{"hidden_states": {"layers": {"1": 3}}}]), cohort(), None)
    assert (term.needs.learner, term.needs.source) == ({"hidden.1"}, {"hidden.3"})


def test_weights_and_divergences_may_have_settings(teacher: nn.Module) -> None:
    weight = {"linear": {"weight": 2.0, "steps": 4}}
    divergence = {"jensen_shannon": {"beta": 0.1}}
    (term,) = build(recipe([{"soft_labels": {"weight": weight, "divergence": divergence}}]), cohort(), teacher)
    assert [term.weight_at(step) for step in (0, 2, 9)] == [0.0, 1.0, 2.0]
    assert "jensen_shannon" in term.formula


def test_a_wrapped_term_is_built_inside_out(teacher: nn.Module) -> None:
    inner = {"soft_labels": {"temperature": 2.0, "weight": 0.9}}
    (term,) = build(recipe([{"logit_standardisation": {"term": inner}}]), cohort(), teacher)
    assert term.weight == 0.9


def test_exits_learn_and_the_twin_hears_labels_at_every_exit(teacher: nn.Module) -> None:
    mine = {"student": students.with_exits(cohort()["student"], "all")}
    found = build(recipe([{"hard_labels": {}}, {"soft_labels": {"of": "exits", "against": "self"}}]), mine, None)
    assert [(term.of, term.against) for term in found] == [
        ("student", "labels"),
        ("exit.0", "self"),
        ("exit.1", "self"),
    ]
    assert [term.of for term in without_teacher(mine)] == ["student", "exit.0", "exit.1"]


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([{"soft_label": {}}], ('no term "soft_label"', "soft_labels")),
        ([{"soft_labels": {"temprature": 2}}], ("soft_labels takes no", "temperature")),
        ([{"shorthand": {"alpha": 1}}], ("shorthand takes no", "objective.alpha")),
        ([{"hints": {}}], ("hints wants layers", "uniform")),
        ([{"hints": {"layers": "unifrom"}}], ("uniform",)),
        ([{"hard_labels": {"of": "exits"}}], ("student.exits",)),
        ([{"soft_labels": {"against": "others"}}], ("peers",)),
        ([{"soft_labels": {"weight": {"linea": {"weight": 1}}}}], ("schedule", "linear")),
        ([{"soft_labels": {"weight": {"linear": {"wait": 1}}}}], ("linear", "wait")),
        ([{"soft_labels": {"divergence": {"jensen": {}}}}], ("jensen_shannon",)),
        ([{"attention_maps": {"layers": "uniform"}}], ("transformers",)),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(terms: Any, words: tuple[str, ...], teacher: nn.Module) -> None:
    from understudy.errors import UsageError

    with pytest.raises((RecipeError, UsageError)) as caught:
        build(recipe(terms), cohort(), teacher)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_names_are_checked_before_any_model_is_there() -> None:
    with pytest.raises(RecipeError, match='no term "softlabels"'):
        refuse_terms(recipe([{"softlabels": {}}]))


def test_a_student_whose_head_would_learn_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"\(hints\) reads the student"):
        refuse_silence(recipe([{"hints": {"layers": "uniform"}}, {"soft_labels": {"of": "peer.1"}}]))
    refuse_silence(recipe([{"hints": {"layers": "uniform"}}, {"soft_labels": {"of": "each"}}]))


def test_stored_targets_serve_what_reads_logits_only() -> None:
    assert reads_only_logits(recipe([{"decoupled_kd": {}}, {"hard_labels": {}}]))
    assert reads_only_logits(recipe([{"hints": {"layers": {"a": "b"}, "against": "peer.1"}}]))  # asks no teacher
    assert not reads_only_logits(recipe([{"shorthand": {}}, {"rkd_angle": {}}]))


def test_a_dial_that_nothing_reads_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"objective\.temperature would change nothing"):
        recipe([{"decoupled_kd": {}}], **{"objective.temperature": 2.0})
    with pytest.raises(RecipeError, match=r"objective\.alpha would change nothing"):
        recipe([{"decoupled_kd": {}}], sets=("objective.alpha=0.3",))
    recipe([{"shorthand": {}}, {"decoupled_kd": {}}], **{"objective.temperature": 2.0})


def steps(*said: dict[str, Any], **more: Any) -> Any:
    return recipe(**{"steps": list(said), "train.epochs": 9, **more})


def test_a_step_is_the_recipe_with_what_it_says() -> None:
    whole = steps({"name": "hints", "share": 0.34, "objective": {"terms": [{"hints": {"layers": "uniform"}}]}},
                  **{"student.start": "hints"})  # fmt: skip
    inner = of_step(whole, whole.steps[0])
    assert inner.train.epochs == 3
    assert inner.student.start is None
    assert inner.teacher.targets == "live"
    assert entries(inner) == [("hints", {"layers": "uniform"})]
    assert started_from(whole) == [whole.steps[0]]


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        (lambda: steps({"name": "a"}, {"name": "a"}), 'two are called "a"'),
        (lambda: steps({"name": "a", "learns_from": "b"}, {"name": "b"}), 'no step "b" before it'),
        (lambda: steps({"name": "a"}, learns_from="assistant"), 'learns_from: no step "assistant"'),
        (lambda: steps({"name": "a"}, **{"student.start": "teacher"}), "student.start"),
        (lambda: steps(**{"student.start": "hints"}), "there are no steps"),
    ],
)
def test_steps_lean_on_earlier_ones(whole: Any, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        refuse_steps(whole())
    assert words in str(caught.value)


def test_best_of_a_cohort_wants_peers_like_the_student(tmp_path: Any) -> None:
    from understudy.data import digits
    from understudy.pipeline.defaults import resolved

    whole = recipe(**{"peers": [{"width": 16}], "ships": "best", "data.path": "digits", "teacher.path": "cnn"})
    with pytest.raises(RecipeError, match="differs in width"):
        refuse(resolved(whole, "image-classification", metric="accuracy"), digits())
    alone = copy.deepcopy(whole).model_copy(update={"peers": ()})
    with pytest.raises(RecipeError, match="there are none"):
        refuse(resolved(alone, "image-classification", metric="accuracy"), digits())
