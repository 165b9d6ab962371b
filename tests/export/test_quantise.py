"""INT8 that is smaller, nearly as good, and never written half."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from understudy.errors import UsageError
from understudy.export import parity, quantise_dynamic, quantise_static, to_onnx
from understudy.students import Cnn

from .conftest import VOCABULARY, Exported, answer, images, tokens


@pytest.fixture(scope="module")
def small(bert: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantise_dynamic(bert.path, path)
    return path


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_dynamic_is_small_close_and_one_file(bert: Exported, small: Path) -> None:
    assert small.stat().st_size < 0.4 * bert.path.stat().st_size
    assert [file.name for file in small.parent.iterdir()] == [small.name]
    for shape in [(64, 9), (1, 5), (3, 33)]:
        inputs = tokens(*shape, seed=1)
        found = parity(bert.wanted(inputs), answer(small, inputs))
        assert found["agreement"] >= 0.95
        assert found["mean_abs_error"] < 0.05 * bert.wanted(inputs).std()


def test_dynamic_reaches_every_weight(small: Path) -> None:
    graph = onnx.load(small).graph
    floats = {
        tensor.name: list(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and min(tensor.dims) > 2
    }
    assert [dims for dims in floats.values() if dims != [128, 32]] == [], f"only the position table stays: {floats}"
    int8 = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert sum(array.shape == (3000, 32) for array in int8) == 1
    assert operators(small)["MatMulInteger"] == 2 * 6 + 2
    scales = [tensor for tensor in graph.initializer if list(tensor.dims) == [64] and "scale" in tensor.name]
    assert scales, "per channel"


def test_one_scale_per_row_beats_one_per_table(bert: Exported, small: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = tmp_path / "table.onnx"
    quantize_dynamic(
        bert.path, whole, op_types_to_quantize=["MatMul", "Gemm", "Gather"], per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )  # fmt: skip
    inputs = tokens(128, 12, seed=2)
    wanted = bert.wanted(inputs)
    per_row = parity(wanted, answer(small, inputs))["mean_abs_error"]
    per_table = parity(wanted, answer(whole, inputs))["mean_abs_error"]
    assert per_row < 0.5 * per_table


def test_small_tables_stay_as_they_are(bert: Exported, tmp_path: Path) -> None:
    quantise_dynamic(bert.path, tmp_path / "x.onnx", table_rows=5000)
    kept = [tensor for tensor in onnx.load(tmp_path / "x.onnx").graph.initializer if list(tensor.dims) == [3000, 32]]
    assert [tensor.data_type for tensor in kept] == [onnx.TensorProto.FLOAT]


def calibration() -> list[dict[str, np.ndarray]]:
    return [images(16, seed=seed) for seed in range(100, 108)]


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_static_keeps_nearly_every_label(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    exported: Exported = request.getfixturevalue(name)
    quantise_static(exported.path, tmp_path / "x.onnx", iter(calibration()))
    inputs = images(400, seed=5)
    wanted = exported.wanted(inputs)
    found = parity(wanted, answer(tmp_path / "x.onnx", inputs))
    assert found["agreement"] >= 0.95
    assert found["mean_abs_error"] < 0.1 * wanted.std()
    assert (tmp_path / "x.onnx").stat().st_size < 0.5 * exported.path.stat().st_size
    assert operators(tmp_path / "x.onnx")["QuantizeLinear"] > 0
    assert operators(tmp_path / "x.onnx")["BatchNormalization"] == 0
    assert operators(tmp_path / "x.onnx")["ConvInteger"] == 0
    assert np.abs(answer(tmp_path / "x.onnx", images(1)) - exported.wanted(images(1))).max() < 0.5


def test_depthwise_blocks_are_static_int8_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Cnn((12, 10), 3, 4, width=8, depthwise=True).train()
    with torch.no_grad():
        for seed in range(20):  # batch normalisation that has seen something
            module(torch.as_tensor(images(16, seed=seed)["pixels"]))
    to_onnx(module, {"pixels": torch.as_tensor(images(2)["pixels"])}, tmp_path / "exact.onnx")
    quantise_static(tmp_path / "exact.onnx", tmp_path / "x.onnx", calibration())
    inputs = images(400, seed=5)
    wanted = answer(tmp_path / "exact.onnx", inputs)
    found = parity(wanted, answer(tmp_path / "x.onnx", inputs))
    assert found["mean_abs_error"] < 0.2 * wanted.std()
    assert operators(tmp_path / "x.onnx")["BatchNormalization"] == 0
    weights = [t for t in onnx.load(tmp_path / "x.onnx").graph.initializer if len(t.dims) == 4]
    assert {tuple(t.dims)[:2] for t in weights} >= {(8, 1), (16, 1), (16, 8)}
    assert {t.data_type for t in weights if t.dims[0] > 1} == {onnx.TensorProto.INT8}


def test_static_needs_rows(cnn: Exported, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="calibration rows, got none"):
        quantise_static(cnn.path, tmp_path / "x.onnx", [])
    assert not (tmp_path / "x.onnx").exists()


def test_a_failure_litters_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.onnx").write_bytes(b"not a model")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for call in (
        lambda: quantise_dynamic(tmp_path / "bad" / "x.onnx", "y.onnx"),
        lambda: quantise_static(tmp_path / "bad" / "x.onnx", "y.onnx", calibration()),
    ):
        with pytest.raises(Exception):  # noqa: B017 - whatever onnx says; what counts is what is left behind
            call()
    assert list((tmp_path / "here").iterdir()) == []
    assert [file.name for file in (tmp_path / "bad").iterdir()] == ["x.onnx"]


def test_no_local_path_in_int8(small: Path) -> None:
    data = small.read_bytes()
    assert b"/tmp" not in data
    assert b".py" not in data


def test_a_gelu_is_one_node(bert: Exported, small: Path) -> None:
    """Five of PyTorch's nodes, which ONNX Runtime does not see as one; `to_onnx` has proven that it says the same."""
    for path in (bert.path, small):
        assert operators(path)["Gelu"] == 2
        assert operators(path)["Erf"] == 0


def test_a_gelu_of_another_form_stays() -> None:
    from onnx import TensorProto, helper

    from understudy.export.fusing import fuse_gelu

    def graph(half: float) -> onnx.ModelProto:
        parts = [("Div", ["x", "root"], "a"), ("Erf", ["a"], "b"), ("Add", ["b", "one"], "c"),
                 ("Mul", ["half", "c"], "d"), ("Mul", ["x", "d"], "y")]  # fmt: skip
        nodes = [helper.make_node(kind, read, [made], name=made) for kind, read, made in parts]
        constants = {"root": 2**0.5, "one": 1.0, "half": half}
        tensors = [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", "y")]
        return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors))

    right, wrong = graph(0.5), graph(0.25)
    assert (fuse_gelu(right), fuse_gelu(wrong)) == (1, 0)
    assert [node.op_type for node in right.graph.node] == ["Gelu"]
    assert len(wrong.graph.node) == 5


def test_what_is_kept_stays_in_fp32_and_costs_what_it_weighs(bert: Exported, small: Path, tmp_path: Path) -> None:
    from understudy.export.sensitivity import candidates

    found = candidates(bert.path, kinds=("MatMul", "Gemm"))
    assert len(found) == 2 * 6 + 2
    assert [title for _, title in found[-2:]] == ["bert.pooler.dense", "classifier"]
    last = [found[-1][0], found[-2][0]]
    quantise_dynamic(bert.path, tmp_path / "x.onnx", keep=last)
    assert operators(tmp_path / "x.onnx")["MatMulInteger"] == 2 * 6
    assert (tmp_path / "x.onnx").stat().st_size > small.stat().st_size
    quantise_dynamic(bert.path, tmp_path / "all.onnx", keep=[name for name, _ in found])
    inputs = tokens(16, 9, seed=4)
    rounded = parity(bert.wanted(inputs), answer(small, inputs))["mean_abs_error"]
    tables = parity(bert.wanted(inputs), answer(tmp_path / "all.onnx", inputs))["mean_abs_error"]
    assert tables < rounded


def test_the_most_sensitive_convolution_is_found(cnn: Exported, tmp_path: Path) -> None:
    """Keeping it must do more than keeping any other, and what is kept is a name of the folded graph."""
    from understudy.export import fold, sensitivities

    rows = calibration()
    fold(cnn.path, tmp_path / "folded.onnx")

    def quantise(path: Path, keep: object) -> None:
        quantise_static(tmp_path / "folded.onnx", path, rows, keep=list(keep))  # type: ignore[call-overload]

    groups = sensitivities(tmp_path / "folded.onnx", quantise, rows[:2], kinds=("Conv", "Gemm", "MatMul"))
    assert len(groups) == 3
    assert [group.error for group in groups] == sorted(group.error for group in groups)
    quantise_static(cnn.path, tmp_path / "best.onnx", rows, keep=groups[0].nodes)
    inputs = rows[0]
    wanted, kept = answer(cnn.path, inputs), answer(tmp_path / "best.onnx", inputs)
    quantise_static(cnn.path, tmp_path / "plain.onnx", rows)
    assert np.abs(kept - wanted).mean() < np.abs(answer(tmp_path / "plain.onnx", inputs) - wanted).mean()


def test_what_hurts_words_is_found_in_batches_of_any_length(tmp_path: Path) -> None:
    """Logits of words have their batch's length; what stands behind a row's last word is no error."""
    from understudy.export import sensitivities

    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner = torch.nn.Embedding(VOCABULARY, 16), torch.nn.Linear(16, 16)
            self.outer = torch.nn.Linear(16, 3)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            rows = self.table(input_ids) * (1 + attention_mask[..., None])
            return self.outer(torch.relu(self.inner(rows)))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    batches = [{name: tokens(8, length)[name] for name in ("input_ids", "attention_mask")} for length in (9, 5, 30)]
    assert any((batch["attention_mask"] == 0).any() for batch in batches)
    exact = tmp_path / "exact.onnx"
    to_onnx(Words().eval(), {name: torch.from_numpy(value) for name, value in batches[0].items()}, exact)

    def quantise(path: Path, keep: object) -> None:
        quantise_dynamic(exact, path, keep=list(keep))  # type: ignore[call-overload]

    groups = sensitivities(exact, quantise, batches)
    assert len(groups) == 2
    quantise_dynamic(exact, tmp_path / "kept.onnx", keep=groups[0].nodes)
    apart = [
        (answer(tmp_path / "kept.onnx", batch) - answer(exact, batch))[batch["attention_mask"] > 0] for batch in batches
    ]
    assert groups[0].error == pytest.approx(np.mean(np.concatenate(apart) ** 2))
    assert 0 < groups[0].error < groups[1].error


def test_logits_are_not_rounded_and_ranges_can_leave_outliers_out(cnn: Exported, tmp_path: Path) -> None:
    made = {}
    for ranges in ("minmax", "percentile"):
        quantise_static(cnn.path, tmp_path / f"{ranges}.onnx", calibration(), ranges=ranges)
        made[ranges] = answer(tmp_path / f"{ranges}.onnx", images(64, seed=3))
        assert len(np.unique(made[ranges])) > 256, "8 bits have no more values than that"
        assert parity(cnn.wanted(images(64, seed=3)), made[ranges])["agreement"] > 0.9
    with pytest.raises(UsageError, match='no way to choose ranges "middle"'):
        quantise_static(cnn.path, tmp_path / "x.onnx", calibration(), ranges="middle")
