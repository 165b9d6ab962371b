"""The contrast with a memory: its formula in NumPy, and what the memory keeps."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.objectives.relations.contrast import Memory
from understudy.records import Batch, Outputs, Targets


def alone(tensor: Tensor) -> Tensor:
    """What gathers the tensors of one process."""
    return tensor


def draw(rows: int, seed: int = 0) -> tuple[Outputs, Targets]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in (5, 3))
    return Outputs({"features": student}), Targets({"features": teacher})


def batch(keys, labels=None, counted=None) -> Batch:
    counted = torch.ones(len(keys)) if counted is None else torch.tensor(counted, dtype=torch.float32)
    labels = None if labels is None else torch.tensor(labels)
    return Batch(tuple(keys), {}, labels, {"examples": counted})


def built(term, *, rows: int = 0, labels=None, size: int | None = None) -> Memory:
    """The term's connector, which remembers ``rows`` rows called "old 0", "old 1", ..."""
    torch.manual_seed(0)
    memory = term.connector(*draw(2))
    if rows:
        term.value(*draw(rows, seed=9), batch([f"old {i}" for i in range(rows)], labels), connector=memory)
        memory.commit(alone)
    return memory


def embedded(memory: Memory, seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings of the rows that ``draw(rows, seed)`` gives."""
    both = []
    for said, projection in zip(draw(rows, seed), (memory.student, memory.teacher), strict=True):
        x = said["features"].numpy() @ projection.weight.detach().numpy().T + projection.bias.detach().numpy()
        both.append(x / np.sqrt((x * x).sum(axis=1, keepdims=True)))
    return both[0], both[1]


@pytest.mark.parametrize("negatives", ["rows", "classes"])
def test_is_the_share_of_the_own_row_in_both_directions(negatives):
    """Of classes: row "a" (0) beside old rows of class 1 and without one; "b", without a class, beside all."""
    term = match.contrastive(negatives=negatives, dimensions=4, temperature=0.3)
    old_labels, labels = [0, 1, -1, 0, 1], [0, -1, 1, 0]
    keys = ["a", "b", "old 4", "old 3"]  # the last two are in the memory already, under their old embeddings
    memory = built(term, rows=5, labels=old_labels)
    assert int((memory.rows >= 0).sum()) == 5
    got = term.value(*draw(4), batch(keys, labels), connector=memory)
    s, t = embedded(memory, 0, 4)
    old_s, old_t = embedded(memory, 9, 5)
    for i, key in enumerate(keys):
        others = [
            n
            for n in range(5)
            if f"old {n}" != key
            and (negatives == "rows" or -1 in (labels[i], old_labels[n]) or labels[i] != old_labels[n])
        ]
        assert 2 <= len(others) <= 5
        wanted = 0.0
        for anchor, positive, bank in ((s[i], t[i], old_t), (t[i], s[i], old_s)):
            own = math.exp(anchor @ positive / 0.3)
            wanted -= math.log(own / (own + sum(math.exp(anchor @ bank[n] / 0.3) for n in others)))
        assert float(got[i].detach()) == pytest.approx(wanted, rel=1e-9)
        assert wanted > 0.1


def test_one_negative_by_hand():
    """s = t = (1, 0) and a memory of (0, 1): -log(e / (e + 1)) at temperature 1, twice."""
    term = match.contrastive(size=4, dimensions=2, temperature=1.0)
    memory = Memory(2, 2, size=4, dimensions=2)
    for projection in (memory.student, memory.teacher):
        torch.nn.init.eye_(projection.weight)
        torch.nn.init.zeros_(projection.bias)
    old, new = torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 0.0]])
    term.value(Outputs({"features": old}), Targets({"features": old}), batch(["old"]), connector=memory)
    memory.commit(alone)
    got = term.value(Outputs({"features": new}), Targets({"features": new}), batch(["new"]), connector=memory)
    assert float(got.detach()) == pytest.approx(2 * math.log1p(math.exp(-1)), rel=1e-6)


def test_an_empty_memory_teaches_nothing_and_reaches_everything():
    """0 with gradient 0, not without a gradient: what has none is frozen before the first step."""
    term = match.contrastive(size=8, dimensions=4)
    memory = built(term)
    outputs, targets = draw(3)
    outputs["features"].requires_grad_(True)
    total = term.total(outputs, targets, batch("abc"), memory)
    total.backward()
    assert float(total.detach()) == 0
    for leaf in (outputs["features"], *memory.parameters()):
        assert leaf.grad is not None
        assert (leaf.grad == 0).all()
    assert len(list(memory.parameters())) == 4


def test_a_row_is_no_negative_of_itself():
    term = match.contrastive(dimensions=4, negatives="rows")
    memory = built(term)
    for _ in range(2):
        assert float(term.total(*draw(1), batch(["a"]), memory).detach()) == 0
        memory.commit(alone)
    assert float(term.total(*draw(1), batch(["b"]), memory).detach()) > 0.01


class TestMemory:
    """What a step leaves behind depends on its rows, not on how they were split, ordered or spread."""

    term = match.contrastive(size=4, dimensions=4)  # twelve rows in four slots: most of them collide
    keys = tuple(f"row {i}" for i in range(12))
    counted = (1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1)
    labels = tuple(i % 3 for i in range(12))

    def shown(self, memory: Memory, rows: list[int]) -> None:
        outputs, targets = draw(12, seed=5)
        said = Outputs({"features": outputs["features"][rows]}), Targets({"features": targets["features"][rows]})
        some = [[given[i] for i in rows] for given in (self.keys, self.labels, self.counted)]
        self.term.total(*said, batch(*some), memory)

    def after(self, *parts: list[int]) -> dict[str, Tensor]:
        memory = built(self.term)
        for rows in parts:
            self.shown(memory, rows)
        memory.commit(alone)
        return memory.state_dict()

    def alike(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
        assert first.keys() == second.keys() >= {"own", "theirs", "rows", "labels"}
        for name, tensor in first.items():
            torch.testing.assert_close(tensor, second[name], rtol=1e-12, atol=1e-12)

    def test_no_split_and_no_order_shows(self):
        whole = self.after(list(range(12)))
        assert int((whole["rows"] >= 0).sum()) >= 3
        self.alike(whole, self.after(*[[i] for i in range(12)]))
        self.alike(whole, self.after([7, 3, 11, 0], [5, 1, 2], [10, 4, 9, 8, 6]))

    def test_two_processes_end_in_the_same_memory(self):
        """Each gathers what both have seen, its own first or second; neither waits for a row of the other's slots."""
        whole = self.after(list(range(12)))
        halves = [built(self.term), built(self.term)]
        self.shown(halves[0], [0, 3, 4, 7, 8, 11])
        self.shown(halves[1], [1, 2, 5, 6, 9, 10])
        seen: list[list[Tensor]] = []
        for memory in halves:
            heard: list[Tensor] = []
            copy.deepcopy(memory).commit(lambda tensor, heard=heard: (heard.append(tensor), tensor)[1])
            seen.append(heard)
        assert [len(heard) for heard in seen] == [5, 5]
        for memory in halves:
            both = iter([torch.cat(pair) for pair in zip(*seen, strict=True)])
            memory.commit(lambda tensor, both=both: next(both))
            self.alike(whole, memory.state_dict())

    def test_rows_that_do_not_count_are_not_remembered(self):
        whole, only = self.after(list(range(12))), self.after([i for i in range(12) if self.counted[i]])
        self.alike(whole, only)
        assert (self.after([1, 5, 10])["rows"] == -1).all()

    def test_a_slot_has_the_newest_row(self):
        memory = built(self.term)
        for rows in ([0, 2, 3], [4, 6, 7], [8, 9, 11]):
            self.shown(memory, rows)
            memory.commit(alone)
            last = self.after(rows)
            there = last["rows"] >= 0
            assert there.any()
            assert torch.equal(memory.rows[there], last["rows"][there])
            assert torch.equal(memory.own[there], last["own"][there])
        assert (memory.rows[memory.rows >= 0] % 4 == torch.arange(4)[memory.rows >= 0]).all()

    def test_is_written_in_commit_alone(self):
        memory = built(self.term)
        before = copy.deepcopy(memory.state_dict())
        self.shown(memory, [0, 2])
        memory.forget()
        memory.commit(alone)  # of nothing
        memory.eval()
        self.shown(memory, [3, 4])  # a look at the loss that is no step
        memory.commit(alone)
        self.alike(before, memory.state_dict())
        memory.train()
        self.shown(memory, [3, 4])
        memory.commit(alone)
        assert int((memory.rows >= 0).sum()) >= 1

    def test_survives_in_the_state(self):
        memory = built(self.term, rows=6)
        other = built(self.term)
        other.load_state_dict(memory.state_dict())
        first, second = (self.term.value(*draw(3), batch("abc"), connector=one) for one in (memory, other))
        assert torch.equal(first, second)
        assert float(first.sum().detach()) > 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"size": 0}, "contrastive: wanted size as a whole number of at least 1, got 0"),
        ({"dimensions": 2.5}, "wanted dimensions as a whole number of at least 1, got 2.5"),
        ({"temperature": 0.0}, r"wanted temperature in \(0, inf\), got 0.0"),
        ({"negatives": "class"}, 'did you mean "classes"'),
        ({"weight": -1.0}, "weight of at least 0"),
    ],
)
def test_what_cannot_be_is_refused(more, says):
    with pytest.raises(UsageError, match=says):
        match.contrastive(**more)


def test_the_paper_agrees_about_the_positive():
    """torchdistill's form of the paper's equation 18, without its negative part and with the mean over a row's own
    negatives as normaliser Z = M * mean: -log h of the positive is the value here, whatever the data's size M."""
    theirs = pytest.importorskip("torchdistill.losses.mid_level", reason="torchdistill 1.1.5 is not installed")
    term = match.contrastive(dimensions=4, temperature=0.3, negatives="rows")
    memory = built(term, rows=5)
    got = term.value(*draw(1), batch(["a"]), connector=memory)
    s, t = embedded(memory, 0, 1)
    old_s, old_t = embedded(memory, 9, 5)
    for size in (50, 5000):
        reference = theirs.CRDLoss("s", "e", "t", 4, size, 5, size, temperature=0.3, eps=0.0)
        wanted = 0.0
        for bank, anchor in ((old_t, s[0]), (old_s, t[0])):
            normaliser = size * np.exp(bank @ anchor / 0.3).mean()
            positive = math.exp(s[0] @ t[0] / 0.3) / normaliser
            scores = torch.tensor([[positive, *[0.0] * 5]], dtype=torch.float64)
            wanted += float(reference.compute_contrast_loss(scores))
        assert float(got.detach()) == pytest.approx(wanted, rel=1e-9)
