"""Students with less of everything, through the whole job: what is inherited, what ships, what is refused first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.errors import RecipeError, UsageError

SMALL: dict[str, Any] = {
    "student__layers": 1,
    "student__width": 16,
    "student__feed_forward": 48,
    "student__vocabulary": 120,
    "student__rank": 12,
    "train__precision": "fp32",
    "evaluation__latency_rows": 20,
    "export__max_drop": 2.0,  # of 80 validation rows one is 1.25 points
}


def test_less_of_everything_is_distilled_and_ships(finished: Any, tmp_path: Path, tiny_texts: Any) -> None:
    import understudy as us

    more = {"train__epochs": 6, "train__learning_rate": 3e-3}
    run = us.distill(finished.teacher, finished.data, "cut", tmp_path / "runs" / "cut", **SMALL, **more)
    facts = run.facts
    assert facts["export"]["passed"]
    assert facts["export"]["parity"]["max_abs_error"] < 1e-4
    assert facts["export"]["parity"]["rows"] >= 256
    found = facts["models"]["student"]["inheritance"]
    assert found["layers"] == {"0": 0}
    assert (found["channels"]["kept"], found["channels"]["of"], found["channels"]["how"]) == (16, 32, "copied")
    assert (found["heads"]["kept"], found["feed_forward"]["kept"]) == (1, 48)
    assert found["heads"]["from"] in ([[0]], [[1]])
    assert found["feed_forward"]["from"] == ["48 entries"]
    assert (found["vocabulary"]["kept"], found["vocabulary"]["how"]) == (120, "copied")
    assert found["rank"]["rank"] == 12
    assert 0.5 < found["rank"]["energy"] < found["rank"]["used"] < 1
    assert found["fresh"] == []
    assert found["chosen_by"] == "activations on 240 rows"
    assert found["sentence"] in facts["notes"]
    table, head = 120 * 12 + 12 * 16, 16 * 16 + 16 + 16 * 4 + 4
    layer = 4 * (16 * 16 + 16) + 2 * 16 * 48 + 48 + 16 + 4 * 16
    counted = table + (64 + 2 + 2) * 16 + layer + head
    assert facts["models"]["student"]["parameters"] == counted == found["parameters"]["student"]
    saved = json.loads((run.folder / "student" / "config.json").read_text())
    assert (saved["understudy_family"], saved["config"]["vocab_size"]) == ("factorised", 120)
    tokenizer = json.loads((run.folder / "artefact" / "tokenizer.json").read_text())
    assert len(tokenizer["model"]["vocab"]) == 120
    assert json.loads((run.folder / "run.json").read_text())["models"]["student"]["inheritance"] == found
    texts, ids = tiny_texts(80, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = run.artefact.predict([*texts, "naïve 日本語 🙂", ""])
    assert np.mean([one["label"] == names[i] for one, i in zip(said, ids, strict=False)]) > 0.8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"student__layers": 7}, "between 1 and 2 of 2 layers, not 7"),
        ({"student__width": 20}, "16 or 32 would work"),
        ({"student__vocabulary": 9}, "would lose special tokens"),
        ({"student__rank": 17}, "between 1 and the width of the table, 16, not 17"),
    ],
)
def test_what_cannot_be_cut_is_refused_before_anything_is_trained(
    finished: Any, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    import understudy as us

    with pytest.raises(UsageError, match=words):
        us.distill(
            finished.teacher, finished.data, "cut", tmp_path / "runs" / "cut",
            **{**SMALL, "teacher__fine_tune": "always", **change},
        )  # fmt: skip
    assert not list(tmp_path.rglob("*.safetensors"))


def test_tokens_that_do_not_align_are_refused(finished: Any, tmp_path: Path) -> None:
    from understudy.pipeline import check
    from understudy.pipeline.recipe import load_recipe

    def checked(vocabulary: int) -> dict[str, Any]:
        options = {
            "teacher.path": str(finished.teacher), "data.path": str(finished.data), "student.family": "cut",
            "student.layers": 1, "student.width": 16, "student.vocabulary": vocabulary,
            "objective.terms": [{"shorthand": {}}, {"hidden_states": {"layers": "last"}}],
        }  # fmt: skip
        return check(load_recipe(options=options), tmp_path / "run")

    with pytest.raises(RecipeError, match=r"hidden_states compares student and teacher token by token, and \d+ of"):
        checked(100)
    found = checked(131)  # every piece of the texts is there
    assert "hidden_states" in [row["name"] for row in found["terms"]]
