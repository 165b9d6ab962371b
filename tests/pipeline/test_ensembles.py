"""Several teachers as one, and callables, through the whole job: what is trained, stored, measured and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import understudy as us
from understudy import teachers
from understudy.errors import LabelError, TeacherError, UsageError
from understudy.statistics import softmax

LABELS = ("billing", "music", "travel", "weather")  # as the data has them
FAST: dict[str, Any] = {
    "train__epochs": 3, "train__learning_rate": 1e-2, "objective__temperature": 2.0, "student__buckets": 256,
    "student__dimensions": 32, "evaluation__latency_rows": 20, "evaluation__threads": 1,
}  # fmt: skip
TRAINED = {"teacher__epochs": 3, "teacher__learning_rate": 2e-3, "teacher__precision": "fp32"}


class Quiet:
    """Listens, and remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        pass


def recipe_of(data: Path, members: dict[str, Any] | None = None, **more: Any) -> Any:
    from understudy.pipeline.recipe import load_recipe

    options = {"data.path": str(data), "student.family": "static"}
    options |= {key.replace("__", "."): value for key, value in {**FAST, **more}.items()}
    if members is not None:
        options["teacher.members"] = members
    return load_recipe(options=options)


def material_of(recipe: Any, out: Path, progress: Any = None) -> Any:
    """What ``teach`` is given, without the stages before it."""
    from understudy.pipeline.journal import Journal
    from understudy.pipeline.material import Material
    from understudy.pipeline.opening import store_of
    from understudy.pipeline.stages import load_splits, settled

    name, splits = load_splits(recipe)
    task, ready = settled(recipe, name, splits)
    out.mkdir(parents=True, exist_ok=True)
    return Material(ready, task, splits, out, store_of(recipe, out), Journal(out, progress or Quiet()))


def foreign(source: Path, to: Path) -> Path:
    """A trained body whose head knows other labels: an epoch or two make a teacher of it."""
    folder = Path(shutil.copytree(source, to))
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": dict(enumerate("wxyz")), "label2id": {name: i for i, name in enumerate("wxyz")}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., Path]) -> Path:
    """A body that knows little: what is made of it errs."""
    return foreign(tiny_bert(steps=30), tmp_path_factory.mktemp("weak") / "body")


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory, finished: Any) -> Path:
    """A body that knows enough."""
    return foreign(finished.teacher, tmp_path_factory.mktemp("body") / "body")


@pytest.fixture(scope="module")
def old(tiny_bert: Callable[..., Path]) -> Path:
    """A teacher that is trained already, a little."""
    return tiny_bert(seed=3, steps=35)


def members_of(old: Path) -> dict[str, Any]:
    return {"zero": {"seed": 0}, "one": {"seed": 1, "weight": 2.0}, "old": {"path": str(old)}}


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory, finished: Any, weak: Path, old: Path) -> Path:
    """A run whose teacher is three: two seeds of one encoder, trained in the run, and a folder of a trained one."""
    from understudy.pipeline import distill

    out = tmp_path_factory.mktemp("trio") / "runs" / "trio"
    recipe = recipe_of(finished.data, members_of(old), teacher__path=str(weak), **{**TRAINED, "teacher__epochs": 2})
    distill(recipe, out)
    return out


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return facts


def test_each_member_is_a_stored_teacher(trio: Path) -> None:
    store = trio.parent / ".store"
    taught = json.loads((trio / "stages" / "teach.json").read_text())["facts"]
    members = {one["name"]: one for one in taught["members"]}
    assert list(members) == ["zero", "one", "old"]
    assert [one["trained"] for one in taught["members"]] == [True, True, False]
    folders = {one["folder"] for one in taught["members"]} - {None}
    assert {f"teachers/{path.name}" for path in (store / "teachers").iterdir() if path.is_dir()} == folders
    assert len(folders) == 2  # two seeds of one encoder are two teachers
    assert len(list((store / "calibrations").iterdir())) == 3
    assert all(0.3 < one["validation"] < 1 for one in members.values())
    assert all(one["temperature"] != 1 for one in members.values())
    assert members["one"]["weight"] == 2.0
    assert taught["seconds"] == pytest.approx(members["zero"]["seconds"] + members["one"]["seconds"])


def test_what_each_is_worth_is_measured(trio: Path, finished: Any, old: Path) -> None:
    """The stored teachers are opened here and mixed by hand: the numbers of run.json come out."""
    from understudy.data import load

    facts = facts_of(trio)
    rows = load(str(finished.data))[1].test
    taught = json.loads((trio / "stages" / "teach.json").read_text())["facts"]["members"]
    said = []
    for one in taught:
        folder = old if one["folder"] is None else trio.parent / ".store" / one["folder"] / "model"
        loaded = teachers.open_teacher(folder, task="text-classification", label_names=LABELS)
        said.append(softmax(loaded.scores(rows.inputs), temperature=one["temperature"]))
    weights = np.array([1.0, 2.0, 1.0])

    def accuracy(which: list[int]) -> float:
        mixed = sum(weights[i] * said[i] for i in which)
        return float((mixed.argmax(1) == rows.labels).mean())

    assert facts["models"]["teacher"]["metrics"]["accuracy"]["value"] == pytest.approx(accuracy([0, 1, 2]))
    for i, one in enumerate(facts["ensemble"]):
        assert one["name"] == taught[i]["name"]
        assert one["weight"] == weights[i]
        assert one["temperature"] == taught[i]["temperature"]
        assert one["rows"] == 100
        assert one["labels"] == 4
        assert one["metric"] == pytest.approx(accuracy([i]))
        assert one["without"] == pytest.approx(accuracy([j for j in range(3) if j != i]))
    assert len({one["metric"] for one in facts["ensemble"]} | {one["without"] for one in facts["ensemble"]}) > 3


def test_an_ensemble_is_sized_and_shown(trio: Path, old: Path) -> None:
    facts = facts_of(trio)
    teacher = facts["models"]["teacher"]
    folders = [old, *((trio.parent / ".store" / "teachers").glob("*/model"))]
    files = [
        path for folder in folders for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".txt")
    ]
    assert len(folders) == 3
    assert teacher["bytes"] == sum(path.stat().st_size for path in files)
    assert facts["comparison"]["compression"] == pytest.approx(teacher["bytes"] / facts["models"]["artefact"]["bytes"])
    assert teacher["model"].startswith("3 teachers (probabilities): zero (BertForSequenceClassification")
    assert set(teacher["engines"]) == {"torch", "onnxruntime"}  # all read alike, so that it has an ONNX form
    page = (trio / "report.html").read_text()
    assert "Who teaches" in page
    assert '<th scope="row">zero</th>' in page
    assert "another order" in " ".join(note for note in facts["notes"] if note.startswith("old: "))


def test_the_same_ensemble_again_asks_nobody(trio: Path, finished: Any, weak: Path, old: Path) -> None:
    """Another run beside it: nobody is trained, calibrated or asked about a row that is stored."""
    from understudy.pipeline.label import label
    from understudy.pipeline.teach import teach

    dials = {**TRAINED, "teacher__epochs": 2, "teacher__path": str(weak)}
    recipe = recipe_of(finished.data, members_of(old), **dials)
    listener = Quiet()
    material = material_of(recipe, trio.parent / "beside", listener)
    joined, _ = teach(material)
    assert listener.said == []
    assert listener.stages == []
    assert label(material, joined)["teacher_calls"] == 0
    lighter = recipe_of(finished.data, {**members_of(old), "one": {"seed": 1}}, **dials)
    other, _ = teach(material_of(lighter, trio.parent / "lighter"))
    assert other.fingerprint != joined.fingerprint  # other weights are another teacher


def test_one_path_twice_is_one_teacher(finished: Any, tmp_path: Path) -> None:
    from understudy.pipeline.teach import teach

    members = {"a": {"path": str(finished.teacher)}, "b": {"path": str(finished.teacher), "seed": 1}}
    with pytest.raises(UsageError, match=r'"a" and "b" are the same teacher.*fine_tune=always'):
        teach(material_of(recipe_of(finished.data, members), tmp_path / "runs" / "twice"))


def test_members_that_cannot_be_are_named(finished: Any, tmp_path: Path) -> None:
    from understudy.pipeline.teach import teach

    def refused(members: dict[str, Any], **more: Any) -> None:
        teach(material_of(recipe_of(finished.data, members, **more), tmp_path / "runs" / "no"))

    good = {"path": str(finished.teacher)}
    with pytest.raises(TeacherError, match=r'teacher "b": no teacher at'):
        refused({"a": good, "b": {"path": str(tmp_path / "nowhere")}})
    with pytest.raises(TeacherError, match=r"teacher\.members\.b has no path"):
        refused({"a": good, "b": {"seed": 1}})
    with pytest.raises(TeacherError, match="built-in teacher cnn reads images"):
        refused({"a": good, "b": {"path": "cnn"}})
    with pytest.raises(LabelError, match=r'"a" is said to know "musik".*did you mean "music"'):
        refused({"a": {**good, "labels": ["musik", "travel"]}})
    with pytest.raises(UsageError, match="no teacher of the ensemble knows every label"):
        refused({"a": {**good, "labels": ["music", "travel"]}}, student__family="cut")


def test_members_that_know_some_labels(finished: Any, body: Path, tmp_path: Path) -> None:
    """Each is trained on the rows whose label it knows; together they sort all four."""
    from understudy.pipeline.label import label, validation_logits
    from understudy.pipeline.members import left_out
    from understudy.pipeline.teach import teach

    members = {"left": {"labels": ["travel", "billing", "music"]}, "right": {"labels": ["music", "weather"], "seed": 1}}
    recipe = recipe_of(finished.data, members, teacher__path=str(body), **TRAINED)
    material = material_of(recipe, tmp_path / "runs" / "partial")
    joined, taught = teach(material)
    assert [one["labels"] for one in taught["members"]] == [3, 2]
    assert [one.support for one in joined.members] == [(True, True, True, False), (False, True, False, True)]
    assert label(material, joined)["agreement"] > 0.9
    assert validation_logits(material, joined).shape == (80, 4)

    rows = material.splits.test
    said = [one.teacher.scores(rows.inputs) for one in joined.members]
    left, right = left_out(joined.members, said, joined.space, rows, "accuracy")
    assert (left["rows"], right["rows"]) == (75, 50)  # the test rows of music are both's
    known = np.isin(rows.labels, [1, 3])
    assert right["metric"] == pytest.approx((np.array([1, 3])[said[1].argmax(1)] == rows.labels)[known].mean())
    assert right["metric"] > 0.9
    assert left["without"] is None  # nobody else knows travel and billing


def test_label_sets_are_refused_before_anything_is_trained(finished: Any, body: Path, tmp_path: Path) -> None:
    from understudy.pipeline.teach import teach, untaught

    apart = {"left": {"labels": ["travel", "billing"]}, "right": {"labels": ["music", "weather"]}}
    bridged = {**apart, "both": {"labels": ["travel", "music"]}}
    material = material_of(recipe_of(finished.data, apart, teacher__path=str(body)), tmp_path / "runs" / "apart")
    for ask in (teach, untaught):
        with pytest.raises(LabelError, match='nothing relates what "left" and "right" know'):
            ask(material)
    recipe = recipe_of(finished.data, bridged, teacher__path=str(body), teacher__space="logits")
    with pytest.raises(UsageError, match="no common origin"):
        teach(material_of(recipe, tmp_path / "runs" / "logits"))
    del bridged["right"]
    with pytest.raises(LabelError, match=r"1 labels are known to no teacher \(weather\)"):
        teach(material_of(recipe_of(finished.data, bridged, teacher__path=str(body)), tmp_path / "runs" / "lost"))
    assert not (tmp_path / "runs" / ".store").exists()


def test_dials_follow_the_kind_of_the_member(tmp_path: Path) -> None:
    """teacher.path is unset: its dials are an encoder's; each member's become those of its own kind."""
    from understudy.pipeline.defaults import TEACHERS
    from understudy.pipeline.members import alone

    members = {"a": {"path": "cnn", "width": 6}, "b": {"path": "mlp", "seed": 3}}
    recipe = recipe_of(Path("digits"), members, student__family="mlp", teacher__epochs=2)
    material = material_of(recipe, tmp_path / "runs" / "kinds")
    a, b = (alone(material, name).recipe.teacher for name in "ab")
    assert (a.path, a.width, a.epochs, a.seed) == ("cnn", 6, 2, 0)  # epochs were said
    assert (b.path, b.width, b.epochs, b.seed) == ("mlp", TEACHERS["mlp"]["width"], 2, 3)
    assert (a.learning_rate, b.learning_rate) == (TEACHERS["cnn"]["learning_rate"], TEACHERS["mlp"]["learning_rate"])
    assert a.members is None


def test_images_of_two_families(tmp_path: Path) -> None:
    """A cnn and an mlp of digits as one live teacher of logits; it trains in every step."""
    from understudy.pipeline.teach import teach, untaught

    members = {"conv": {"path": "cnn", "width": 6}, "dense": {"path": "mlp", "width": 32}}
    recipe = recipe_of(
        Path("digits"), members, student__family="mlp", teacher__epochs=8, teacher__space="logits",
        teacher__calibrate=False,
    )  # fmt: skip
    material = material_of(recipe, tmp_path / "runs" / "images")
    before, trains = untaught(material)
    assert trains
    assert [one.name for one in before.members] == ["conv", "dense"]
    joined, taught = teach(material)
    assert [one["temperature"] for one in taught["members"]] == [1.0, 1.0]
    rows = material.splits.validation
    by_hand = np.mean([one.teacher.scores(rows.inputs) for one in joined.members], axis=0)
    np.testing.assert_allclose(joined.scores(rows.inputs), by_hand, atol=1e-4)
    assert (by_hand.argmax(1) == rows.labels).mean() > 0.8
    assert untaught(material_of(recipe, tmp_path / "runs" / "again"))[1]  # knows of no store


# --- callables -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def estimator(finished: Any) -> Any:
    lines = (finished.data / "train.csv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=20)).fit(texts, labels)


def test_an_estimator_teaches_through_the_whole_job(
    estimator: Any, finished: Any, tmp_path: Path, tiny_texts: Callable[..., Any]
) -> None:
    asked: list[int] = []

    def score(rows: list[dict[str, Any]]) -> Any:
        asked.append(len(rows))
        return estimator.predict_proba([row["text"] for row in rows])

    teacher = teachers.function(score, name="linear", labels=estimator.classes_, fingerprint="1")
    run = us.distill(teacher, finished.data, "static", tmp_path / "runs" / "svm", **{**FAST, "train__epochs": 12})
    facts = run.facts
    assert facts["cost"]["teacher_calls"] == 240 + 80 + 60
    assert facts["models"]["teacher"]["model"] == "linear"
    assert facts["models"]["teacher"]["bytes"] is None  # nobody knows
    assert facts["models"]["teacher"]["parameters"] is None
    assert facts["models"]["teacher"]["engine"] == "python"
    assert facts["comparison"]["compression"] is None
    assert facts["comparison"]["speedup"] > 0
    assert facts["models"]["teacher"]["metrics"]["accuracy"]["value"] > 0.9
    assert "ensemble" not in facts
    assert "linear" in (run.folder / "report.html").read_text()
    assert "accuracy" in run.summary()
    texts, ids = tiny_texts(80, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = run.artefact.predict(texts)
    assert np.mean([one["label"] == names[i] for one, i in zip(said, ids, strict=True)]) > 0.85

    asked.clear()
    again = us.distill(teacher, finished.data, "static", tmp_path / "runs" / "svm", **{**FAST, "train__epochs": 12})
    assert {one["status"] for one in again.facts["stages"]} == {"reused", "done"}
    assert asked == []  # everything is stored, and the run is the same


def test_a_bare_estimator_is_enough(estimator: Any, finished: Any, tmp_path: Path) -> None:
    """Its fingerprint is what it says about 32 validation rows; its classes are aligned by name."""
    from understudy.pipeline.label import label, validation_logits
    from understudy.pipeline.teach import teach

    material = material_of(recipe_of(finished.data), tmp_path / "runs" / "bare")
    met, _ = teach(material, teachers.function(estimator))
    assert met.fingerprint
    assert label(material, met)["teacher_calls"] == 380
    rows = material.splits.validation
    wanted = estimator.predict_proba(rows.inputs["text"])[:, [list(estimator.classes_).index(n) for n in LABELS]]
    np.testing.assert_allclose(np.exp(validation_logits(material, met)), wanted, atol=1e-6)


def test_a_callable_does_not_teach_live(estimator: Any, finished: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"function of raw rows.*teacher\.targets=stored"):
        us.distill(estimator, finished.data, "static", tmp_path / "runs" / "live", **FAST, teacher__targets="live")


def test_a_module_is_no_function(finished: Any, tmp_path: Path) -> None:
    from torch import nn

    with pytest.raises(UsageError, match=r"teachers\.given"):
        us.distill(nn.Linear(2, 2), finished.data, "static", tmp_path / "runs" / "module", **FAST)
    assert not (tmp_path / "runs").exists()


def test_a_lost_calibration_is_made_again(trio: Path, finished: Any, weak: Path, old: Path, tmp_path: Path) -> None:
    from understudy.pipeline.teach import teach

    runs = Path(shutil.copytree(trio.parent, tmp_path / "runs"))
    dials = {**TRAINED, "teacher__epochs": 2, "teacher__path": str(weak)}
    recipe = recipe_of(finished.data, members_of(old), **dials)
    before, _ = teach(material_of(recipe, runs / "a"))
    shutil.rmtree(runs / ".store" / "calibrations")
    listener = Quiet()
    after, _ = teach(material_of(recipe, runs / "b", listener))
    assert after.fingerprint == before.fingerprint
    assert listener.said == ["the teacher is asked about 80 validation rows, for its temperature"] * 3


def test_the_table_of_members_bears_anything() -> None:
    from understudy import report

    rows = [
        {"name": "<b>x</b>", "weight": 2.0, "temperature": float("nan"), "labels": 3, "rows": 7, "metric": 0.5},
        {"name": None, "without": 0.25, "labels": 4},
    ]
    metrics = {"accuracy": {"value": 0.75, "low": 0.7, "high": 0.8}}
    facts = {"ensemble": rows, "comparison": {"metric": "accuracy"}, "models": {"teacher": {"metrics": metrics}}}
    page = report.html(facts, {})
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x" not in page
    assert "−50.0 points" in page.replace("\u00a0", " ")
    assert "measured on their rows alone" in page
    assert ">nan<" not in page
    assert "Who teaches" not in report.html({**facts, "ensemble": []}, {})
