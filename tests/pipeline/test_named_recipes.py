"""Every recipe that is known by name: what its file looks like, and that it trains on real rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from understudy.pipeline.recipe import NAMED, load_recipe

from .test_main_job import distilled_until, stage_facts

METHODS = sorted(NAMED.keys() - {"careful", "demo", "quick"})
IMAGES = ("attention-transfer", "be-your-own-teacher", "fitnets", "online", "rkd", "teacher-assistant")
TERMS = {  # what the student's last training hears
    "attention-transfer": ["soft_labels", "hard_labels", "attention_transfer"],
    "be-your-own-teacher": ["hard_labels", "hard_labels/exit-0", "soft_labels/exit-0/self"],
    "born-again": ["soft_labels", "hard_labels"],
    "crd": ["soft_labels", "hard_labels", "contrastive"],
    "dist": ["hard_labels", "dist"],
    "distilbert": ["soft_labels", "hard_labels", "hidden_states"],
    "dkd": ["hard_labels", "decoupled_kd"],
    "ensemble": ["soft_labels", "hard_labels"],
    "fitnets": ["soft_labels", "hard_labels"],
    "hinton": ["soft_labels", "hard_labels"],
    "logit-standard": ["hard_labels", "logit_standardisation"],
    "minilm": ["soft_labels", "hard_labels", "self_attention_relations"],
    "mutual": ["hard_labels", "hard_labels/peer-1", "soft_labels/peer-1", "soft_labels/peer-1/student"],
    "online": ["hard_labels/peer-1", "hard_labels", "soft_labels/peer-1"],
    "pkd": ["soft_labels", "hard_labels", "patient"],
    "rkd": ["soft_labels", "hard_labels", "rkd_distance", "rkd_angle"],
    "similarity": ["soft_labels", "hard_labels", "similarity_preserving"],
    "teacher-assistant": ["soft_labels", "hard_labels"],
    "tinybert": ["soft_labels", "hard_labels"],
}
STEPS = {
    "born-again": ["step-first-generation-0"],
    "fitnets": ["step-hints-0"],
    "teacher-assistant": ["step-assistant-0"],
    "tinybert": ["step-layers-0"],
}


def test_every_method_of_the_field_has_a_file() -> None:
    folder = Path(next(iter(NAMED.values()))).parent
    assert {path.stem for path in folder.iterdir()} == set(NAMED)
    assert len(NAMED) == 22
    assert set(METHODS) == set(TERMS)
    assert len(METHODS) == 19


@pytest.mark.parametrize("name", NAMED)
def test_a_file_is_short_says_what_it_does_and_where_it_is_from(name: str) -> None:
    lines = NAMED[name].read_text(encoding="utf-8").splitlines()
    assert 3 <= len(lines) <= 25
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("# ")
    assert lines[0].endswith(".")
    if name in METHODS:
        assert lines[1].startswith("# Source: ")
        assert any(word in lines[1] for word in ("arXiv ", "KDD"))
    assert isinstance(yaml.safe_load("\n".join(lines)), dict)


def tried(name: str, tmp_path: Path, options: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Everything up to the export; the facts of the student's last training."""
    quick = {"train.epochs": 2, "train.precision": "fp32", "train.batch_size": 16, "train.max_steps": 12}
    out = tmp_path / name
    recipe = load_recipe(name, options={**quick, **options})
    listener = distilled_until("export", recipe, out)
    trained = [stage for stage in listener.stages if stage.startswith(("step-", "train-"))]
    assert trained == [*STEPS.get(name, []), "train-student-0", "train-twin-0"]
    facts = stage_facts(out, "train-student-0")
    last = facts["history"][-1]
    assert all(math.isfinite(value) for value in last["terms"].values())
    assert [term["name"] for term in facts["objective"]] == TERMS[name] == list(last["terms"]) == list(last["weights"])
    assert (out / "student" / "config.json").is_file()
    return out, facts


@pytest.mark.parametrize("name", METHODS)
def test_trains_on_texts(name: str, finished: Any, tmp_path: Path) -> None:
    options = {"teacher.path": str(finished.teacher), "data.path": str(finished.data), "student.family": "cut"}
    if name == "ensemble":
        options |= {"teacher.fine_tune": "always", "teacher.epochs": 1, "teacher.precision": "fp32"}
    layers = 2 if name == "be-your-own-teacher" else 1
    out, facts = tried(name, tmp_path, options | {"student.layers": layers})
    twin = stage_facts(out, "train-twin-0")
    first = [stage_facts(out, step)["steps"] for step in STEPS.get(name, []) if name in ("fitnets", "tinybert")]
    assert twin["steps"] == facts["steps"] + sum(first)  # the student's own earlier steps are part of its budget
    if name == "mutual":
        assert set(facts["cohort"]) == {"student", "peer.1"}
        assert facts["best"] == max(facts["cohort"].values())


@pytest.mark.parametrize("name", IMAGES)
def test_trains_on_images(name: str, tmp_path: Path) -> None:
    options = {"data.path": "digits", "teacher.path": "cnn", "student.family": "cnn", "student.width": 4}
    _, facts = tried(name, tmp_path, options | {"teacher.width": 8, "teacher.epochs": 1, "teacher.precision": "fp32"})
    assert facts["steps"] == 12


def test_a_step_is_reused_when_it_is_unchanged(finished: Any, tmp_path: Path) -> None:
    options = {"teacher.path": str(finished.teacher), "data.path": str(finished.data), "student.family": "cut"}
    options |= {"student.layers": 1}
    out, facts = tried("fitnets", tmp_path, options)
    again = distilled_until("export", load_recipe(out / "stages" / "asked.yaml"), out)
    assert not [stage for stage in again.stages if stage.startswith(("step-", "train-"))]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    reused = [line["name"] for line in log if line.get("status") == "reused"]
    assert {"step-hints-0", "train-student-0", "train-twin-0"} <= set(reused)
    assert facts["steps"] == stage_facts(out, "train-student-0")["steps"]


def test_students_of_two_families_teach_each_other_each_with_its_own_encoding(finished: Any, tmp_path: Path) -> None:
    options = {"teacher.path": str(finished.teacher), "data.path": str(finished.data), "student.family": "static"}
    options |= {"student.dimensions": 16, "student.buckets": 64, "train.learning_rate": 5e-3, "train.patience": 1}
    options |= {
        "objective.terms": [{"hard_labels": {"of": "each"}}, {"soft_labels": {"of": "each", "against": "others"}}]
    }
    recipe = load_recipe(options={**options, "peers": [{"family": "cut", "layers": 1}], "train.epochs": 3})
    out = tmp_path / "two"
    distilled_until("export", recipe, out)
    facts = stage_facts(out, "train-student-0")
    assert set(facts["cohort"]) == {"student", "peer.1"}
    assert min(facts["cohort"].values()) > 0.5  # both learn, from 4 balanced labels
    assert facts["ships"] == "student"
    assert json.loads((out / "student" / "config.json").read_text())["understudy_family"] == "static"
    assert facts["history"][-1]["agreement"] is None  # nobody asked the teacher


def test_a_teacher_that_is_no_neural_network_is_labelled_once(finished: Any, tmp_path: Path) -> None:
    import understudy as us

    def rule(rows: list[dict[str, Any]]) -> Any:
        import numpy as np

        words = [("card", "refund", "charge", "invoice", "payment", "balance"), ("song", "album", "guitar", "playlist")]
        words += [("flight", "train", "hotel", "ticket", "passport", "airport")]
        return (
            np.array([[sum(word in row["text"].split() for word in some) for some in (*words, ())] for row in rows])
            * 3.0
        )

    from understudy.teachers import function

    teacher = function(rule, returns="logits", labels=("billing", "music", "travel", "weather"), name="a rule")
    dials = {"train__epochs": 1, "student__dimensions": 16, "student__buckets": 64, "evaluation__latency_rows": 20}
    run = us.distill(teacher, finished.data, "static", tmp_path / "rule", objective__temperature=1.0, **dials)
    assert run.facts["cost"]["teacher_calls"] == 240 + 60 + 80
    assert run.facts["models"]["teacher"]["engine"] == "python"
    assert run.facts["models"]["teacher"]["metrics"]["accuracy"]["value"] > 0.6
