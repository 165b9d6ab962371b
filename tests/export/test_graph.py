"""PyTorch and ONNX say the same, on every shape, and nothing of this machine ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import understudy
from understudy.errors import GateError, UsageError
from understudy.export import to_onnx

from .conftest import Exported, answer, images, tokens

SHAPES = [(1, 5), (3, 17), (8, 64), (1, 1), (2, 128)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_transformers_on_every_shape(name: str, shape: tuple[int, int], request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    inputs = tokens(*shape, types=name == "bert", seed=sum(shape))
    wanted = exported.wanted(inputs)
    assert np.abs(wanted).max() > 0.1, "logits near zero would prove nothing"
    np.testing.assert_allclose(answer(exported.path, inputs), wanted, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 33])
@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_images_on_every_batch(name: str, rows: int, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    inputs = images(rows, seed=rows)
    np.testing.assert_allclose(answer(exported.path, inputs), exported.wanted(inputs), atol=1e-4)


def test_padding_changes_nothing(bert: Exported) -> None:
    inputs = tokens(1, 9)
    padded = {key: np.pad(array, ((0, 0), (0, 6))) for key, array in inputs.items()}
    padded["input_ids"][:, 9:] = 17
    np.testing.assert_allclose(answer(bert.path, padded), answer(bert.path, inputs), atol=1e-5)


def test_the_file_has_the_stated_form_and_no_local_path(bert: Exported, cnn: Exported) -> None:
    places = [Path(understudy.__file__).parents[2], Path(torch.__file__).parents[2], bert.path.parent, Path.home()]
    for exported in (bert, cnn):
        data = exported.path.read_bytes()
        for place in places:
            assert str(place).encode() not in data
        assert b".py" not in data
        assert b"site-packages" not in data
        graph = onnx.load_from_string(data)
        onnx.checker.check_model(graph)
        assert [node.name for node in graph.graph.output] == ["logits"]
        assert not graph.graph.value_info
        assert not graph.metadata_props
        assert {file.name for file in exported.path.parent.iterdir()} == {exported.path.name}, "one file"
        for node in graph.graph.input:
            assert node.type.tensor_type.shape.dim[0].dim_param == "N"
    kinds = {node.name: node.type.tensor_type.elem_type for node in onnx.load(cnn.path).graph.input}
    assert kinds == {"pixels": onnx.TensorProto.UINT8}


@pytest.mark.parametrize("name", ["bert", "cnn", "mlp"])
def test_the_module_comes_back_as_it_went(name: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(name).untouched, "weights, statistics and the training mode"


def test_attention_is_restored(bert: Exported) -> None:
    assert bert.module.config._attn_implementation == "sdpa"


class Moody(nn.Module):
    """Adds noise even in eval mode, so that no export can be faithful."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float().flatten(1)[:, :3] / 255 + torch.rand(3)


def test_a_graph_that_differs_from_its_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="differs from the module by"):
        to_onnx(Moody(), {"pixels": torch.as_tensor(images(2)["pixels"])}, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_inputs_without_a_place(mlp: Exported, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='did you mean "pixels"'):
        to_onnx(mlp.module, {"pixel": torch.zeros(2, 3)}, tmp_path / "x.onnx")
