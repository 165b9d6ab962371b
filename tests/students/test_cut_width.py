"""Narrower students: counts, what is copied, what is refused, for each of the architectures that are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from understudy.errors import UsageError
from understudy.students import cut, inheritance, load, parameters, save

NAMES = ("bert", "roberta", "distilbert", "vit")
MORE = ("electra", "masked")


def teacher(hugging: Any, name: str) -> Any:
    torch.manual_seed(0)
    model = hugging(name)
    with torch.no_grad():  # norms and biases of a fresh model are all alike
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def inputs_of(batch: Any, name: str, rows: int = 4, seed: int = 0) -> dict[str, Any]:
    found = batch("colour" if name == "vit" else "tokens", rows, seed)
    return {"pixel_values": found["pixels"].float() / 255} if name == "vit" else found


def logits(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def counted(name: str, *, layers: int, width: int, units: int, rank: int = 0) -> int:
    """Parameters by hand: table, positions, types or patches, norms, layers, head."""
    table = (60 * rank + rank * width if rank else 60 * width) if name != "vit" else 0
    around = {
        "bert": (40 + 2 + 2) * width + width * width + width,
        "roberta": (40 + 2 + 2) * width + width * width + width,
        "distilbert": (512 + 2) * width + width * width + width,
        "vit": (1 + 5 + 3 * 8 * 8 + 1 + 2) * width,
    }[name]
    layer = 4 * (width * width + width) + 2 * width * units + units + width + 4 * width
    return table + around + layers * layer + 3 * width + 3


@pytest.mark.parametrize("name", [*NAMES, *MORE])
@pytest.mark.parametrize("choose", ["importance", "pca"])
def test_keeping_everything_says_exactly_what_the_teacher_says(
    hugging: Any, batch: Any, name: str, choose: Any
) -> None:
    model, inputs = teacher(hugging, name), inputs_of(batch, name)
    student = cut(model, 6, width=16, heads=2, feed_forward=32, choose=choose, rows=[inputs]).eval()
    assert torch.equal(logits(student, inputs), logits(model, inputs))
    assert inheritance(student, model)["layers"] == {i: i for i in range(6)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("choose", ["importance", "pca"])
def test_counts_shapes_and_the_teacher(hugging: Any, batch: Any, name: str, choose: Any, tmp_path: Path) -> None:
    model, inputs = teacher(hugging, name), inputs_of(batch, name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    dials: dict[str, Any] = {"width": 8, "feed_forward": 20, "choose": choose}
    rank = {} if name == "vit" else {"rank": 3}
    state = torch.get_rng_state()
    student = cut(model, 2, spread="last", **dials, rows=iter([inputs]), **rank)
    assert torch.equal(torch.get_rng_state(), state)
    assert student.training
    assert not model.training
    assert parameters(student) == counted(name, layers=2, width=8, units=20, rank=0 if name == "vit" else 3)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    fresh = cut(model, 2, **dials, **rank, initialise=False)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {k: v.shape for k, v in student.state_dict().items()}
    save(student, tmp_path / "student")
    again = load(tmp_path / "student")
    assert type(again) is type(model)
    assert torch.equal(logits(again, inputs), logits(student.eval(), inputs))
    assert bool(torch.isfinite(logits(student, inputs)).all())


@pytest.mark.parametrize("name", [*NAMES, *MORE])
@pytest.mark.parametrize("measured", [True, False])
def test_importance_copies_and_says_what(hugging: Any, batch: Any, name: str, measured: bool) -> None:
    model, inputs = teacher(hugging, name), inputs_of(batch, name)
    rows = [inputs, inputs_of(batch, name, 3, seed=1)] if measured else None
    student = cut(model, [1, 4], width=12, heads=2, feed_forward=24, rows=rows)
    report = inheritance(student, model)
    assert report["layers"] == {0: 1, 1: 4}
    assert report["fresh"] == []
    assert report["channels"]["how"] == "copied"
    assert report["channels"]["from"] == sorted(set(report["channels"]["from"]))
    assert [len(units) for units in report["feed_forward"]["from"]] == [24, 24]
    assert report["heads"] == {"kept": 2, "of": 2, "how": "whole", "from": None}
    assert report["chosen_by"] == ("activations on 7 rows" if measured else "the lengths of its weights, without rows")
    assert "12 of 16 channels (copied)" in report["sentence"]
    assert str(f"{parameters(student):,} of {parameters(model):,}") in report["sentence"]
    random = inheritance(cut(model, [1, 4], width=12, heads=2, feed_forward=24, initialise=False), model)
    assert (random["channels"]["how"], set(random["layers"].values())) == ("fresh", {None})


def test_what_is_silent_is_left_out(hugging: Any, batch: Any) -> None:
    """A head and units that give nothing, and a channel that is always zero, are not missed at all."""
    model, inputs = teacher(hugging, "vit"), inputs_of(batch, "vit", 6)
    with torch.no_grad():
        for layer in model.vit.layers:
            layer.attention.o_proj.weight[:, 8:] = 0
            layer.mlp.fc2.weight[:, 20:] = 0
    narrow = cut(model, 6, feed_forward=20, rows=[inputs]).eval()
    torch.testing.assert_close(logits(narrow, inputs), logits(model, inputs), atol=1e-6, rtol=1e-6)
    report = inheritance(cut(model, 6, width=8, rows=[inputs]), model)
    assert report["heads"]["from"] == [[0]] * 6
    blind = inheritance(cut(model, 6, width=8), model)
    assert blind["heads"]["from"] == [[0]] * 6


def test_principal_directions_find_a_stream_that_is_flat(hugging: Any, batch: Any) -> None:
    """Channels that repeat each other: half of the directions hold everything, and half of the channels do not."""
    torch.manual_seed(0)
    model, inputs = hugging("vit", hidden_dropout_prob=0.0), inputs_of(batch, "vit", 16)
    turn = torch.linalg.qr(torch.randn(16, 16))[0]
    flat = turn[:, :8] @ turn[:, :8].T
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "embeddings" in name and value.ndim != 4 and value.shape[-1] == 16:
                value.copy_(torch.randn_like(value) @ flat)
            elif name.endswith(("projection.weight", "o_proj.weight", "fc2.weight")):
                value.copy_((flat @ torch.randn_like(value).flatten(1) * 0.3).view_as(value))
    wanted = logits(model, inputs)

    def error(choose: Any) -> float:
        student = cut(model, 6, width=8, heads=2, choose=choose, rows=[inputs]).eval()
        return float((logits(student, inputs) - wanted).norm() / wanted.norm())

    assert error("pca") < error("importance")
    report = inheritance(cut(model, [0, 2], width=8, choose="pca", rows=[inputs]), model)
    assert report["channels"]["how"] == "projected"
    assert "projected" in report["sentence"]
    assert "0, 2 of 6" in report["sentence"]


def test_tied_stays_tied(hugging: Any, batch: Any) -> None:
    model = teacher(hugging, "masked")
    student: Any = cut(model, 2, width=8, rows=[inputs_of(batch, "masked")])
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight
    with pytest.raises(UsageError, match="tied to the embeddings"):
        cut(model, 2, width=8, choose="pca", rows=[inputs_of(batch, "masked")])


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        ({"width": 12}, "a width of 12 is no number of heads of 8: 8 or 16 would work"),
        ({"width": 9, "heads": 2}, "2 heads do not divide a width of 9: a width of 8 or 10 would work, or heads=1"),
        ({"width": 16, "heads": 1}, "more than the teacher's 8: at least 2 heads"),
        ({"width": 32}, "between 1 and the teacher's 16"),
        ({"heads": 3}, "between 1 and the teacher's 2"),
        ({"feed_forward": 0}, "between 1 and the teacher's 32"),
        ({"width": 8, "choose": "pca"}, "choose=pca wants rows"),
        ({"width": 8, "choose": "pca", "rows": []}, "choose=pca wants rows"),
        ({"choose": "size"}, 'no way to choose by "size"'),
        ({"spread": "middle"}, 'no spread of layers "middle"'),
        ({"width": 8, "rows": [{"pixels": torch.zeros(1, 3)}]}, "cannot read a batch of rows"),
        ({"rank": 17}, "between 1 and the width of the table, 16, not 17"),
        ({"rank": 9, "width": 8}, "between 1 and the width of the table, 8, not 9"),
    ],
)
def test_what_cannot_be_is_one_line(hugging: Any, dials: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        cut(hugging("bert"), 2, **dials)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_models_of_other_parts_are_refused_with_what_was_looked_for(hugging: Any) -> None:
    with pytest.raises(UsageError, match="relative_attention_bias"):
        cut(hugging("mpnet"), 2, width=8)
    with pytest.raises(UsageError, match=r"at this size .*embeddings_project"):
        cut(hugging("electra"), 2, width=8)  # as wide as its embeddings, it has no projection of them
    with pytest.raises(UsageError, match="table of a text model"):
        cut(hugging("vit"), 2, rank=4)
    with pytest.raises(UsageError, match="tied to its head"):
        cut(hugging("masked"), 2, rank=4)
    with pytest.raises(UsageError, match="factorised table already"):
        cut(cut(hugging("bert"), 2, rank=4), 1)
