"""Folders of students: what is refused, and that a refusal names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from understudy.errors import StoreError, TeacherError, UsageError
from understudy.students import Mlp, Static, Student, bytes_on_disk, load, parameters, save


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save(Static(20, 4, 3, hidden=5, dropout=0.1, word_dropout=0.3), tmp_path / "static")
    return tmp_path / "static"


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_the_layout_is_plain(saved: Path) -> None:
    assert json.loads((saved / "config.json").read_text()) == {
        "understudy_family": "static",
        "rows": 20,
        "dimensions": 4,
        "classes": 3,
        "hidden": 5,
        "dropout": 0.1,
        "word_dropout": 0.3,
        "texts": 1,
    }
    from safetensors.torch import load_file

    assert load_file(saved / "model.safetensors")["table.weight"].shape == (20, 4)
    loaded: Any = load(saved)
    assert loaded.word_dropout == 0.3
    assert loaded.dropout.p == 0.1
    assert bytes_on_disk(saved) == sum(file.stat().st_size for file in saved.iterdir())


def test_saving_again_replaces_the_whole_folder(saved: Path) -> None:
    (saved / "leftover.txt").write_text("x")
    save(Student(Mlp((4, 4), 1, 2)), saved)
    assert {path.name for path in saved.iterdir()} == {"config.json", "model.safetensors"}
    assert isinstance(load(saved), Mlp)


def test_a_failed_save_leaves_the_old_one(saved: Path) -> None:
    class Own(nn.Module):
        pass

    with pytest.raises(UsageError, match="Own is no transformers model"):
        save(Own(), saved)
    assert isinstance(load(saved), Static)
    assert [path.name for path in saved.parent.iterdir()] == ["static"]


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "weights.pkl", "best.ckpt", "model.pth"])
def test_pickles_are_refused_unread(saved: Path, pickle: str) -> None:
    (saved / "model.safetensors").rename(saved / pickle)
    (saved / pickle).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(TeacherError, match=f"pickle.*{pickle}|{pickle}.*pickle"):
        load(saved)
    (saved / "config.json").unlink()
    with pytest.raises(TeacherError, match="pickle"):
        load(saved)


def test_a_transformers_pickle_is_refused(hugging: Any, tmp_path: Path) -> None:
    hugging("bert").config.save_pretrained(tmp_path)
    edit(tmp_path, architectures=["BertForSequenceClassification"])
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(TeacherError, match=r"pytorch_model\.bin"):
        load(tmp_path)


def test_corrupt_and_foreign_folders_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is none at"):
        load(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"no config\.json"):
        load(tmp_path)
    with pytest.raises(StoreError, match="no folder at"):
        bytes_on_disk(tmp_path / "nowhere")
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"model\.safetensors cannot be read"):
        load(saved)
    weights.unlink()
    with pytest.raises(StoreError, match=r"model\.safetensors cannot be read"):
        load(saved)
    (saved / "config.json").write_text("[1]")
    with pytest.raises(StoreError, match="holds list"):
        load(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(StoreError, match=r"config\.json"):
        load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"understudy_family": "statik"}, 'did you mean "static"'),
        ({"understudy_family": ["static"]}, "known: bag, cnn, conv, embedder, exits, factorised, gru, mlp"),
        ({"rows": 0}, "does not describe a Static"),
        ({"rows": None}, "does not describe a Static"),
        ({"rows": "many"}, "does not describe a Static"),
        ({"width": 3}, "does not describe a Static"),
        ({"rows": 21}, "cannot be read as the weights of this config"),
        ({"understudy_family": None}, "names the architecture"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    edit(saved, **changes)
    with pytest.raises((StoreError, TeacherError), match=message):
        load(saved)


@pytest.mark.parametrize("names", [["os.system"], ["AutoModel"], ["BertConfig"], ["BertModel", "BertModel"], [], [3]])
def test_only_models_of_transformers_are_looked_up(hugging: Any, tmp_path: Path, names: list[Any]) -> None:
    save(hugging("bert"), tmp_path / "bert")
    edit(tmp_path / "bert", architectures=names, auto_map={"AutoModel": "evil.Evil"})
    with pytest.raises(TeacherError, match="own code is never run"):
        load(tmp_path / "bert")


def test_a_head_that_would_be_made_up_is_refused(hugging: Any, tmp_path: Path) -> None:
    save(hugging("bert").bert, tmp_path / "body")
    edit(tmp_path / "body", architectures=["BertForSequenceClassification"])
    with pytest.raises(TeacherError, match=r"lacks weights.*classifier"):
        load(tmp_path / "body")


def test_a_corrupt_transformers_folder_is_a_store_error(hugging: Any, tmp_path: Path) -> None:
    save(hugging("bert"), tmp_path / "bert")
    weights = tmp_path / "bert" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(StoreError, match="cannot be loaded as BertForSequenceClassification"):
        load(tmp_path / "bert")


def test_tied_weights_count_once(hugging: Any) -> None:
    model = hugging("masked")
    names = dict(model.named_parameters(remove_duplicate=False))
    assert "cls.predictions.decoder.weight" in names
    assert parameters(model) == sum(p.numel() for n, p in names.items() if "decoder" not in n)
