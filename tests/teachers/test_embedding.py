"""Sentence encoders from folders, and teachers as a narrower student hears them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from understudy.errors import TeacherError
from understudy.records import Batch
from understudy.teachers import Live, Narrowed, open_teacher


def opened(folder: Path) -> Any:
    return open_teacher(folder, task="sentence-embedding", label_names=())


def sentence_folder(source: Path, to: Path, *, pooling: dict[str, Any], modules: list[str]) -> Path:
    shutil.copytree(source, to)
    (to / "modules.json").write_text(json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in modules]))
    (to / "1_Pooling").mkdir()
    (to / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return to


def test_an_encoder_is_pooled_by_its_mean_and_says_so(tiny_encoder: Path) -> None:
    teacher = opened(tiny_encoder)
    assert not teacher.fresh_head
    assert any("the mean over tokens is taken" in note for note in teacher.notes)
    vectors = teacher.scores({"text": ["my card please", "rain"]})
    assert vectors.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    ids = teacher.tokenizer(["rain"], return_tensors="pt")
    with torch.no_grad():
        mean = teacher.model.base_model(**ids).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(vectors[1], (mean / mean.norm()).numpy(), atol=1e-5)


def test_a_folder_says_how_it_pools(tiny_encoder: Path, tmp_path: Path) -> None:
    kinds = ["Transformer", "Pooling", "Normalize"]
    cls = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "word_embedding_dimension": 32}
    teacher = opened(sentence_folder(tiny_encoder, tmp_path / "cls", pooling=cls, modules=kinds))
    assert teacher.model.pooling == "cls"
    assert teacher.notes == ()
    assert teacher.fingerprint != opened(tiny_encoder).fingerprint
    both = {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}
    with pytest.raises(TeacherError, match="pools by cls_token and max_tokens"):
        opened(sentence_folder(tiny_encoder, tmp_path / "both", pooling=both, modules=kinds))
    with pytest.raises(TeacherError, match="its vectors go through Dense"):
        opened(sentence_folder(tiny_encoder, tmp_path / "dense", pooling=cls, modules=[*kinds, "Dense"]))


def test_a_classifiers_head_is_left_out(tiny_bert: Any) -> None:
    teacher = opened(tiny_bert())
    assert any("BertForSequenceClassification: its base is asked for vectors" in note for note in teacher.notes)
    assert teacher.scores({"text": ["rain"]}).shape == (1, 32)


def test_a_narrowed_teacher_speaks_along_its_directions() -> None:
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 2)))[0]
    live = Live(nn.Linear(2, 3))
    narrowed = Narrowed(live, matrix)
    batch = Batch(keys=("a",), inputs={"teacher": {"x": torch.ones(1, 2)}}, labels=None, masks={})
    narrowed.bind({"teacher.logits"})
    whole = live.targets(batch)["teacher.logits"]
    torch.testing.assert_close(narrowed.targets(batch)["teacher.logits"], whole @ torch.from_numpy(matrix).float())
    assert narrowed.model is live.model
    assert narrowed.provides == live.provides
    assert narrowed.fingerprint != live.fingerprint
