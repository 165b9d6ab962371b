"""Attention as energy: the formula again in NumPy float64, closed forms, rubbish in the padding, other code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.objectives.arrays import batch, loss, normal, value

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.records import Outputs, Targets

TERM = match.attention_transfer({"a": "b"})


def energy(a: np.ndarray, power: float) -> np.ndarray:
    """[C, positions] -> [positions], of length 1."""
    q = np.array([sum(abs(v) ** power for v in column) for column in a.T])
    return q / math.sqrt(sum(q * q))


def test_channels_are_added_up_and_positions_compared():
    """Two positions, three channels: energies 1 + 0 + 9 and 4 + 0 + 0 beside 1 and 1. Over positions: 5, 0, 9."""
    student = np.array([[1.0, 2.0], [0.0, 0.0], [-3.0, 0.0]]).reshape(1, 3, 1, 2)
    teacher = np.array([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)
    wanted = 2 - 2 * (10 + 4) / math.sqrt(100 + 16) / math.sqrt(2)
    assert loss(TERM, {"module:a": student}, {"module:b": teacher}) == pytest.approx(wanted, rel=1e-9)
    assert wanted == pytest.approx(0.1617, abs=1e-4)
    sequence = {"module:a": student.reshape(1, 3, 2).swapaxes(1, 2)}, {"module:b": np.eye(2)[None]}
    assert loss(TERM, *sequence) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("power", [1, 2, 3, 2.5])
def test_is_the_mean_over_layers(power):
    student = {"module:a": normal(4, 3, 2, 5), "hidden.1": normal(4, 6, 3, seed=1)}
    teacher = {"module:b": normal(4, 5, 2, 5, seed=2), "hidden.2": normal(4, 6, 2, seed=3)}
    term = match.attention_transfer({"a": "b", 1: 2}, power=power)
    wanted = []
    for i in range(4):
        maps = [energy(said[i].reshape(-1, 10), power) for said in (student["module:a"], teacher["module:b"])]
        rows = [energy(said[i].T, power) for said in (student["hidden.1"], teacher["hidden.2"])]
        wanted.append((sum((maps[0] - maps[1]) ** 2) + sum((rows[0] - rows[1]) ** 2)) / 2)
    np.testing.assert_allclose(value(term, student, teacher), wanted, rtol=1e-9)
    assert min(wanted) > 1e-2


def test_the_larger_map_is_pooled_to_the_smaller():
    """After the sum over channels, as the paper interpolates attention maps, not activations."""
    student, teacher = normal(1, 3, 4, 6), normal(1, 2, 2, 3, seed=1)
    q = (student[0] ** 2).sum(0)
    pooled = np.array([[q[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(3)] for i in range(2)])
    mine, theirs = pooled.ravel(), (teacher[0] ** 2).sum(0).ravel()
    mine, theirs = (x / math.sqrt(x @ x) for x in (mine, theirs))
    wanted = ((mine - theirs) ** 2).sum()
    assert loss(TERM, {"module:a": student}, {"module:b": teacher}) == pytest.approx(wanted, rel=1e-9)
    assert loss(TERM, {"module:a": teacher}, {"module:b": student}) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, 1e30, 0.5])
def test_padding_is_left_out(rubbish):
    student, teacher = normal(2, 4, 3), normal(2, 4, 5, seed=1)
    tokens = [[1, 1, 1, 0], [1, 1, 0, 0]]
    wanted = [
        value(TERM, {"module:a": student[i : i + 1, :n]}, {"module:b": teacher[i : i + 1, :n]})[0]
        for i, n in enumerate((3, 2))
    ]
    padding = np.array(tokens) == 0
    student[padding], teacher[padding] = rubbish, -rubbish
    got = value(TERM, {"module:a": student}, {"module:b": teacher}, tokens)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    leaf = torch.tensor(student, requires_grad=True)
    outputs, targets = Outputs({"module:a": leaf}), Targets({"module:b": torch.tensor(teacher)})
    TERM.total(outputs, targets, batch(2, tokens)).backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[padding] == 0).all()


def test_no_power_overflows_and_nothing_is_no_direction():
    term = match.attention_transfer({"a": "b"}, power=4)
    student, teacher = normal(2, 3, 2, 2), normal(2, 3, 2, 2, seed=1)
    wanted = loss(term, {"module:a": student}, {"module:b": teacher})
    for scale in (1e-20, 1e20):
        small = (scale * student).astype(np.float32)
        assert loss(term, {"module:a": small}, {"module:b": teacher}) == pytest.approx(wanted, rel=1e-5)
    dead = torch.zeros(2, 3, 2, 2, requires_grad=True)
    total = term.total(Outputs({"module:a": dead}), Targets({"module:b": torch.tensor(teacher)}), batch(2))
    total.backward()
    assert float(total.detach()) == pytest.approx(2)  # a vector of length 1 beside none, in each of two rows
    assert (dead.grad == 0).all()


def test_behind_a_layer_norm_only_another_power_tells_positions_apart():
    said = [torch.nn.functional.layer_norm(torch.tensor(normal(2, 4, 8, seed=i)), [8]).numpy() for i in (0, 1)]
    layers = {"module:a": said[0]}, {"module:b": said[1]}
    assert loss(TERM, *layers) < 1e-8
    assert loss(match.attention_transfer({"a": "b"}, power=4), *layers) > 1e-2


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ((2, 3), (2, 3), r"feature maps .* or sequences .* got \[2, 3\]"),
        ((2, 3, 4, 4), (2, 16, 3), r"got positions \[4, 4\] and \[16\]"),
        ((2, 5, 3), (2, 4, 3), r"two sequences of one length, got positions \[5\] and \[4\]"),
    ],
)
def test_what_does_not_go_together_is_refused(mine, theirs, says):
    with pytest.raises(UsageError, match=says):
        value(TERM, {"module:a": normal(*mine)}, {"module:b": normal(*theirs)})
    with pytest.raises(UsageError, match=r'mask "tokens" \[2, 5\], got \[2, 4, 3\]'):
        value(TERM, {"module:a": normal(2, 4, 3)}, {"module:b": normal(2, 4, 3)}, np.ones((2, 5)))


def test_beside_torchdistill():
    """Their code's form is the mean of squares, their paper's form the norm itself, a mean over rows."""
    theirs = pytest.importorskip("torchdistill.losses.mid_level", reason="torchdistill 1.1.5 is not installed")
    student, teacher = torch.tensor(normal(4, 3, 2, 5)), torch.tensor(normal(4, 6, 2, 5, seed=1))
    pair = {"one": {side: {"io": "output", "path": "x"} for side in ("student", "teacher")}}
    said = {"x": {"output": student}}, {"x": {"output": teacher}}
    ours = value(TERM, {"module:a": student}, {"module:b": teacher})
    assert float(theirs.ATLoss(pair, mode="code")(*said)) == pytest.approx(ours.mean() / 10, rel=1e-9)
    assert float(theirs.ATLoss(pair, mode="paper")(*said)) == pytest.approx(np.sqrt(ours).mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: match.attention_transfer({}), "attention_transfer: wanted pairs"),
        (lambda: match.attention_transfer({"a": "b"}, power=0.5), r"wanted power in \[1, inf\), got 0.5"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()
