"""Transformers' vision models as teachers and, cut, as students: trained for real on a few hundred digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy import runtime

SETTINGS = {
    "size": {"height": 8, "width": 8}, "image_mean": [0.3], "image_std": [0.4], "do_resize": True, "do_rescale": True,
    "do_normalize": True, "rescale_factor": 1 / 255, "resample": 2,
}  # fmt: skip
DIALS = {
    "teacher.fine_tune": "always", "teacher.epochs": 10, "teacher.learning_rate": 3e-3, "teacher.precision": "fp32",
    "train.precision": "fp32", "train.epochs": 6, "train.learning_rate": 3e-3, "evaluation.latency_rows": 20,
    "export.max_drop": 3.0,
}  # fmt: skip


def teacher(kind: str, folder: Path) -> Path:
    """A fresh tiny model with its own preprocessing."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    common = {"num_channels": 1, "num_labels": 10}
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    model: Any
    if kind == "vit":
        model = hf.ViTForImageClassification(hf.ViTConfig(**sizes, image_size=8, patch_size=2, **common))
    else:
        shape: Any = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
        model = hf.ResNetForImageClassification(hf.ResNetConfig(**shape, **common))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS))
    return folder


def pictures(folder: Path) -> Path:
    """500 of scikit-learn's digits."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from understudy.data import digits

    folder.mkdir()
    splits = digits()
    for name, rows in (("train", 300), ("validation", 100), ("test", 100)):
        some = getattr(splits, name).take(range(rows))
        labels = [splits.label_names[label] for label in some.labels]
        parquet.write_table(pa.table({"image": some.inputs["image"], "label": labels}), folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize(("kind", "student"), [("vit", {"layers": 1, "width": 16}), ("resnet", None)])
def test_a_vision_model_teaches_what_is_cut_from_it_or_a_cnn(
    kind: str, student: dict[str, int] | None, tmp_path: Path
) -> None:
    from understudy.pipeline import distill
    from understudy.pipeline.recipe import load_recipe

    options = {"data.path": str(pictures(tmp_path / "data")), "teacher.path": str(teacher(kind, tmp_path / "teacher"))}
    options["student.family"] = "cnn" if student is None else "cut"
    cut = {f"student.{key}": value for key, value in (student or {}).items()}
    run = distill(load_recipe(options={**DIALS, **options, **cut}), tmp_path / "run")
    models = run.facts["models"]
    values = {name: models[name]["metrics"]["accuracy"]["value"] for name in ("teacher", "student", "artefact")}
    assert min(values.values()) > 0.3  # chance is 0.1
    assert values["artefact"] == pytest.approx(values["student"], abs=0.05)
    assert models["teacher"]["bytes"] > 4 * models["teacher"]["parameters"]
    if student is not None:
        assert models["student"]["parameters"] < 0.4 * models["teacher"]["parameters"]
        assert models["student"]["inheritance"]["sentence"]
    image = {"image": pictures_of(tmp_path / "data")[0]}
    assert set(runtime.load(run.folder).predict([image])[0]) == {"image", "label", "probabilities", "abstained"}


def pictures_of(folder: Path) -> list[bytes]:
    import pyarrow.parquet as parquet

    found: list[bytes] = parquet.read_table(folder / "test.parquet").column("image").to_pylist()
    return found
