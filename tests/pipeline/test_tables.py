"""Tables: gradient boosting teaches a small network; scikit-learn's bundled data, from files to an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from understudy import runtime
from understudy.encoding import RowError
from understudy.errors import DataError, RecipeError, TeacherError

DIALS = {
    "student.family": "mlp",
    "teacher.path": "boosting",
    "train.epochs": 30,
    "export.max_drop": 3.0,
    "evaluation.latency_rows": 20,
}


def cancer() -> pd.DataFrame:
    """569 tumours; one column of numbers is turned into names, another has holes, a third names rows."""
    loaded = datasets.load_breast_cancer(as_frame=True)
    frame = loaded.data.iloc[:, :12].copy()
    frame["mean area"] = pd.cut(frame["mean area"], 4, labels=["small", "medium", "large", "huge"]).astype(str)
    frame.loc[frame.index % 7 == 0, "mean texture"] = np.nan
    frame["patient"] = [f"p{i}" for i in range(len(frame))]
    frame["label"] = [loaded.target_names[i] for i in loaded.target]
    return frame.sample(frac=1, random_state=0)


def diabetes() -> pd.DataFrame:
    loaded = datasets.load_diabetes(as_frame=True, scaled=False)
    frame = loaded.data.copy()
    frame["sex"] = frame["sex"].map({1.0: "one", 2.0: "two"})
    frame["score"] = loaded.target + 0.5
    return frame.sample(frac=1, random_state=0)


def written(frame: pd.DataFrame, folder: Path, suffix: str = "parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    third = len(frame) // 4
    for name, part in (
        ("validation", frame[:third]),
        ("test", frame[third : 2 * third]),
        ("train", frame[2 * third :]),
    ):
        if suffix == "csv":
            part.to_csv(folder / f"{name}.csv", index=False)
        else:
            part.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


def distilled(data: Path, out: Path, **dials: Any) -> Any:
    from understudy.pipeline import distill
    from understudy.pipeline.recipe import load_recipe

    return distill(load_recipe(options={"data.path": str(data), **DIALS, **dials}), out)


@pytest.mark.parametrize(
    ("make", "task", "least"), [(cancer, "tabular-classification", 0.88), (diabetes, "tabular-regression", 0.3)]
)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_trees_teach_a_network(make: Any, task: str, least: float, suffix: str, tmp_path: Path) -> None:
    frame = make()
    data = written(frame, tmp_path / "data", suffix)
    run = distilled(data, tmp_path / "run")
    facts = run.facts
    metric = facts["comparison"]["metric"]
    assert facts["task"] == task
    assert min(facts["models"][name]["metrics"][metric]["value"] for name in ("teacher", "student", "artefact")) > least
    assert any("patient" in note for note in facts["notes"]) == (make is cancer)
    rows = frame.drop(columns=["label", "score"], errors="ignore")[:40]
    said = runtime.load(run.folder).predict(rows.replace({np.nan: None}).to_dict("records"))
    if make is cancer:
        assert np.mean([one["label"] for one in said] == frame["label"][:40]) > least
    else:
        assert np.corrcoef([one["score"] for one in said], frame["score"][:40])[0, 1] > least


def test_a_run_with_the_same_rows_fits_the_same_trees_and_asks_nobody_again(tmp_path: Path) -> None:
    data = written(cancer(), tmp_path / "data")
    first = distilled(data, tmp_path / "one")
    again = distilled(data, tmp_path / "two")
    assert first.facts["cost"]["teacher_calls"] > 0
    assert again.facts["cost"]["teacher_calls"] == 0


def test_your_own_module_and_your_own_teacher(tmp_path: Path) -> None:
    """A module that gives a mapping, and a scikit-learn pipeline of rows."""
    import torch
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from understudy import distill_models, teachers
    from understudy.data import load
    from understudy.encoding import TableEncoder
    from understudy.pipeline.recipe import load_recipe
    from understudy.tasks import LAYOUTS

    class Own(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.output = torch.nn.Linear(width, 2)

        def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.output(features)}

    frame = cancer().drop(columns=["mean texture", "patient"])
    data = written(frame, tmp_path / "data")
    _, splits = load(data, task="tabular-classification", layouts=LAYOUTS)
    rows = [dict(zip(splits.train.inputs, row, strict=True)) for row in zip(*splits.train.inputs.values(), strict=True)]
    names = [splits.label_names[label] for label in splits.train.labels]
    linear = make_pipeline(DictVectorizer(), LogisticRegression(max_iter=2000)).fit(rows, names)
    teacher = teachers.function(linear, fields=splits.fields, fingerprint="linear-1")
    encoder = TableEncoder.fit(splits.train.inputs)
    recipe = load_recipe(options={"data.path": "own", **DIALS, "teacher.path": None, "task": "tabular-classification"})
    run = distill_models(teacher, splits, recipe, tmp_path / "run", student=Own(encoder.size), encoder=encoder)
    assert run.facts["models"]["artefact"]["metrics"]["accuracy"]["value"] > 0.85


def test_check_and_auto_know_tables(tmp_path: Path) -> None:
    from understudy.pipeline.preflight import check
    from understudy.pipeline.recipe import load_recipe

    data = written(diabetes(), tmp_path / "data")
    options = {"data.path": str(data), **DIALS, "student.family": "auto", "export.max_mb": 0.009}
    found = check(load_recipe(options=options), tmp_path / "run")
    assert found["choice"]["name"] == "mlp of width 16"
    assert [term["name"] for term in found["terms"]] == ["regression", "hard_scores"]
    assert found["teacher"]["r2 on 110 validation rows"] > found["majority"]


def test_init_writes_a_recipe_that_check_accepts(tmp_path: Path) -> None:
    from understudy.pipeline.init import init
    from understudy.pipeline.preflight import check
    from understudy.pipeline.recipe import load_recipe

    data = written(cancer(), tmp_path / "data")
    (tmp_path / "recipe.yaml").write_text(init(str(data)))
    assert "columns: mean radius" in (tmp_path / "recipe.yaml").read_text()
    assert check(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run")["task"] == "tabular-classification"


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    frame = cancer()
    mixed = frame.astype({"mean radius": object})
    mixed.iloc[300, 0] = "about 12"
    data = tmp_path / "mixed"
    data.mkdir()
    mixed.to_json(data / "train.jsonl", orient="records", lines=True)
    with pytest.raises(DataError, match=r'column "mean radius" mixes numbers \(row 1\) and names'):
        distilled(data, tmp_path / "a", task="tabular-classification")
    whole = written(frame, tmp_path / "data")
    with pytest.raises(TeacherError, match="--teacher boosting"):
        distilled(whole, tmp_path / "b", **{"teacher.path": str(tmp_path)})
    with pytest.raises(RecipeError, match="cannot do tabular-classification"):
        distilled(whole, tmp_path / "c", **{"student.family": "static"})
    with pytest.raises(RecipeError, match="rows of a table have none"):
        distilled(whole, tmp_path / "c", **{"data.views": 1})
    run = distilled(whole, tmp_path / "d", **{"train.epochs": 1})
    predictor = runtime.load(run.folder)
    row = frame.drop(columns=["label"]).iloc[0].to_dict()
    with pytest.raises(RowError, match="wanted a number, got a str"):
        predictor.predict([{**row, "mean radius": "wide"}])
    with pytest.raises(RowError, match='"mean area": there is no such column'):
        predictor.predict([{name: value for name, value in row.items() if name != "mean area"}])
    assert predictor.predict([{**row, "mean area": "never seen", "mean radius": None}])[0]["label"]
