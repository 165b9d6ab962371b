"""Layers against layers: maps of them, hidden states, embeddings, hints and the first position, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.records import Batch, Outputs, Targets
from understudy.teachers import Live
from understudy.training.distillation import Distillation


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(rows: int = 2, **masks: torch.Tensor) -> Batch:
    masks = {"examples": torch.ones(rows), **masks}
    return Batch(tuple(map(str, range(rows))), {}, torch.zeros(rows, dtype=torch.int64), masks)


def values(term: match.Term, student, teacher, rows: Batch, connector: nn.Module | None = None) -> np.ndarray:
    """One number for each entry, of signals given by name or of the only one there is."""
    mine = student if isinstance(student, dict) else dict.fromkeys(term.needs.learner, student)
    theirs = teacher if isinstance(teacher, dict) else dict.fromkeys(term.needs.source, teacher)
    extra = {} if connector is None else {"connector": connector}
    return term.value(Outputs(mine), Targets(theirs), rows, **extra).detach().numpy()


def cosine(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
    return (student * teacher).sum(-1) / lengths


TOKENS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])


class TestLayerMap:
    @pytest.mark.parametrize(
        ("kind", "student", "teacher", "wanted"),
        [
            ("uniform", 4, 12, [3, 6, 9, 12]),  # TinyBERT's g(m) = 3m
            ("uniform", 6, 12, [2, 4, 6, 8, 10, 12]),
            ("uniform", 5, 12, [2, 5, 7, 10, 12]),  # 2.4, 4.8, 7.2, 9.6, 12
            ("uniform", 3, 3, [1, 2, 3]),
            ("uniform", 1, 6, [6]),
            ("last", 4, 12, [9, 10, 11, 12]),
            ("last", 3, 3, [1, 2, 3]),
        ],
    )
    def test_the_last_meets_the_last(self, kind, student, teacher, wanted):
        layers = match.layer_map(kind, range(1, student + 1), range(1, teacher + 1))
        assert layers == {f"hidden.{i + 1}": f"hidden.{wanted[i]}" for i in range(student)}
        assert list(layers) == [f"hidden.{i + 1}" for i in range(student)]

    def test_no_layer_of_the_teacher_teaches_twice(self):
        for n in range(1, 13):
            for m in range(n, 25):
                chosen = list(match.layer_map("uniform", range(n), range(m)).values())
                assert len(set(chosen)) == n
                assert chosen[-1] == f"hidden.{m - 1}"

    def test_any_spelling_of_a_layer_will_do(self):
        layers = match.layer_map("uniform", ["layer1", "hidden.2"], ["module:a.0", "a.1", "query.3", 4])
        assert layers == {"module:layer1": "module:a.1", "hidden.2": "hidden.4"}
        assert match.hidden_states(layers).needs.source == {"module:a.1", "hidden.4"}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("unifrom", [1], [1]), 'did you mean "uniform"\\? known: last, uniform'),
            (("uniform", [1, 2], [1]), "got 2 of the student .hidden.1, hidden.2. and 1 of the teacher"),
            (("last", [1, 2], [1]), "leave out some"),
            (("last", [], [1]), "student's layers as a sequence"),
            (("last", [1], "hidden.1"), "teacher's layers as a sequence"),
            (("last", [1, "hidden.1"], [1, 2]), "student's layers once, got hidden.1, hidden.1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, arguments, says):
        with pytest.raises(UsageError, match=says):
            match.layer_map(*arguments)


class TestHiddenStates:
    def test_the_cosine_is_one_minus_the_cosine(self):
        student, teacher = draw(2, 4, 6), draw(2, 4, 6, seed=1)
        term = match.hidden_states({1: 2}, distance="cosine")
        got = values(term, student, teacher, batch(tokens=TOKENS))
        np.testing.assert_allclose(got, 1 - cosine(student.numpy(), teacher.numpy()), atol=1e-14)
        np.testing.assert_allclose(got, 1 - F.cosine_similarity(student, teacher, dim=-1).numpy(), atol=1e-14)
        assert "1 - cos" in term.formula
        assert "1910.01108" in term.source

    def test_the_cosine_does_not_see_lengths_and_bears_zeros(self):
        teacher = draw(2, 4, 6)
        student = (3 * teacher).clone()
        student[0, 0], student[0, 1], teacher[0, 1] = 0, 0, 0
        student.requires_grad_(True)
        value = match.cosine_distance(student, teacher)
        np.testing.assert_allclose(value.detach().numpy(), [[0.5, 0, 0, 0], [0, 0, 0, 0]], atol=1e-15)
        gradient = torch.autograd.grad(value.sum(), student)[0]
        assert gradient.abs().max() < 1e-15  # of a vector of zeros too: it has no direction to turn

    def test_layers_are_their_mean_through_maps_where_widths_differ(self):
        student = {"hidden.1": draw(2, 4, 3), "hidden.2": draw(2, 4, 5, seed=1)}
        teacher = {"hidden.3": draw(2, 4, 5, seed=2), "hidden.6": draw(2, 4, 5, seed=3)}
        term = match.hidden_states({1: 3, 2: 6})
        connector = term.connector(Outputs(student), Targets(teacher))
        assert list(connector) == ["0"]  # the second needs none
        weight, bias = (p.detach().numpy() for p in connector["0"].parameters())
        mapped = student["hidden.1"].numpy() @ weight.T + bias
        wanted = ((mapped - teacher["hidden.3"].numpy()) ** 2).mean(-1)
        wanted += ((student["hidden.2"].numpy() - teacher["hidden.6"].numpy()) ** 2).mean(-1)
        got = values(term, student, teacher, batch(tokens=TOKENS), connector)
        np.testing.assert_allclose(got, wanted / 2, atol=1e-14)

    def test_rows_of_patches_are_averaged_and_padding_never_is(self):
        student, teacher = draw(2, 4, 6), draw(2, 4, 6, seed=1)
        term = match.hidden_states({1: 2}, per="examples")
        wanted = ((student - teacher) ** 2).numpy().mean((1, 2))
        np.testing.assert_allclose(values(term, student, teacher, batch()), wanted, atol=1e-14)
        with pytest.raises(UsageError, match=r'hidden_states: wanted per="tokens" .* got per="examples"'):
            values(term, student, teacher, batch(tokens=TOKENS))

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (lambda: match.hidden_states({}), "hidden_states: wanted pairs of layers"),
            (lambda: match.hints(["a"]), "hints: wanted pairs of layers"),
            (
                lambda: match.hidden_states({1: 1}, distance="cosinus"),
                r'did you mean "cosine"\? known: cosine, squared',
            ),
            (lambda: match.hints({"a": "a", "query.1": "query.3"}), "hints: .*got query.1 and query.3: .*attention"),
            (lambda: match.patient({1: 1}, weight=-1.0), "weight of at least 0"),
        ],
    )
    def test_what_cannot_be_is_refused(self, call, says):
        with pytest.raises(UsageError, match=says):
            call()


def test_embeddings_are_the_states_before_the_first_layer():
    student, teacher, rows = draw(2, 4, 6), draw(2, 4, 6, seed=1), batch(tokens=TOKENS)
    term, plain = match.embeddings(0.3), match.hidden_states({0: 0})
    assert (term.name, term.needs, term.per) == ("embeddings", plain.needs, "tokens")
    assert np.array_equal(values(term, student, teacher, rows), values(plain, student, teacher, rows))
    own = match.embeddings(student="bert.embeddings", teacher="input:encoder", of="exit.0", against="self")
    assert own.needs == match.Needs(frozenset({"module:bert.embeddings"}), frozenset({"input:encoder"}))
    assert own.name == "embeddings/exit-0/self"


class TestHints:
    def test_equal_maps_are_compared_everywhere(self):
        student, teacher = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
        term = match.hints({"a": "b"})
        assert len(term.connector(Outputs({"module:a": student}), Targets({"module:b": teacher}))) == 0
        wanted = ((student - teacher) ** 2).numpy().mean((1, 2, 3))
        np.testing.assert_allclose(values(term, student, teacher, batch()), wanted, atol=1e-14)

    def test_channels_meet_in_a_convolution_of_one_by_one(self):
        student, teacher = draw(2, 3, 4, 5), draw(2, 7, 4, 5, seed=1)
        term = match.hints({"a": "b"})
        connector = term.connector(Outputs({"module:a": student}), Targets({"module:b": teacher}))
        weight, bias = connector["0"].weight, connector["0"].bias
        wanted = (F.conv2d(student, weight[..., None, None], bias) - teacher).square().mean((1, 2, 3))
        got = values(term, student, teacher, batch(), connector)
        np.testing.assert_allclose(got, wanted.detach().numpy(), atol=1e-14)

    def test_the_larger_map_is_averaged_down_in_each_direction(self):
        student, teacher = draw(2, 3, 2, 6), draw(2, 3, 4, 3, seed=1)  # taller and narrower
        mine = student.numpy().reshape(2, 3, 2, 3, 2).mean(-1)
        theirs = teacher.numpy().reshape(2, 3, 2, 2, 3).mean(-2)
        got = values(match.hints({"a": "b"}), student, teacher, batch())
        np.testing.assert_allclose(got, ((mine - theirs) ** 2).mean((1, 2, 3)), atol=1e-14)

    def test_per_token_it_is_what_hidden_states_are(self):
        student, teacher, rows = draw(2, 4, 6), draw(2, 4, 6, seed=1), batch(tokens=TOKENS)
        term, plain = match.hints({1: 2}, per="tokens"), match.hidden_states({1: 2})
        assert np.array_equal(values(term, student, teacher, rows), values(plain, student, teacher, rows))
        with pytest.raises(UsageError, match='hints: wanted per="tokens"'):
            match.hints({1: 2}).total(Outputs({"hidden.1": student}), Targets({"hidden.2": teacher}), rows)

    def test_a_map_against_a_vector_is_refused(self):
        with pytest.raises(UsageError, match=r"hints: wanted student module:a .*\[2, 3, 4, 5\] and \[2, 3\]"):
            values(match.hints({"a": "b"}), draw(2, 3, 4, 5), draw(2, 3), batch())


class TestPatient:
    def test_the_first_positions_of_all_layers(self):
        student = {"hidden.1": draw(2, 4, 6), "hidden.2": draw(2, 4, 6, seed=1)}
        teacher = {"hidden.2": draw(2, 3, 6, seed=2), "hidden.4": draw(2, 3, 6, seed=3)}  # of another length
        wanted = np.zeros(2)
        for mine, theirs in (("hidden.1", "hidden.2"), ("hidden.2", "hidden.4")):
            s, t = student[mine].numpy()[:, 0], teacher[theirs].numpy()[:, 0]
            s, t = s / np.linalg.norm(s, axis=1, keepdims=True), t / np.linalg.norm(t, axis=1, keepdims=True)
            wanted += ((s - t) ** 2).sum(1) / 2
        np.testing.assert_allclose(values(match.patient({1: 2, 2: 4}), student, teacher, batch()), wanted, atol=1e-14)

    def test_no_other_position_is_read(self):
        student, teacher = draw(2, 4, 6).requires_grad_(True), draw(2, 4, 6, seed=1)
        term = match.patient({1: 1})
        term.total(Outputs({"hidden.1": student}), Targets({"hidden.1": teacher}), batch()).backward()
        assert (student.grad[:, 0].abs().sum(-1) > 0).all()
        assert (student.grad[:, 1:] == 0).all()

    def test_widths_meet_and_zeros_are_borne(self):
        student, teacher = torch.zeros(2, 4, 3), torch.zeros(2, 4, 6)
        term = match.patient({1: 1})
        said = Outputs({"hidden.1": student}), Targets({"hidden.1": teacher})
        connector = term.connector(*said)
        assert [tuple(p.shape) for p in connector.parameters()] == [(6, 3), (6,)]
        total = term.total(*said, batch(), connector)
        assert float(total.detach()) == pytest.approx(2.0)  # a direction against none: |u|^2, in both rows
        gradients = torch.autograd.grad(total, list(connector.parameters()))
        assert all(gradient.isfinite().all() for gradient in gradients)

    def test_layers_without_positions_are_refused(self):
        with pytest.raises(UsageError, match=r"patient: wanted layers \[N, L, D\].* got shape \[2, 6\]"):
            values(match.patient({"pooler": "pooler"}), draw(2, 6), draw(2, 6), batch())


class Net(nn.Module):
    """Two stages with ReLUs in place, which overwrite what the convolutions said."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(2 * width, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(pixels)).mean((2, 3)))


def test_on_real_networks_every_connector_learns_from_what_the_layers_said():
    stages = {"first": "first", "second": "second"}
    terms = [
        match.hints({"first.0": "first.0", "second.0": "second.0"}),
        match.variational_information(stages),
        match.neuron_selectivity(stages),
        match.review(stages),
        match.probabilistic("input:head", "input:head"),
    ]
    pixels = draw(5, 3, 8, 8).float()
    rows = Batch(tuple("abcde"), {"student": {"pixels": pixels}, "teacher": {"pixels": pixels}}, None, batch(5).masks)
    model, teacher = Distillation({"student": Net(4, 0)}, terms), Live(Net(6, 1))
    model.bind(teacher)
    targets = teacher.targets(rows)
    # what the convolution said, though the ReLU after it works in place
    assert targets["teacher.module:first.0"].min() < 0 <= targets["teacher.module:first"].min()
    idle = model.settle(rows, targets)
    assert idle == ["students.0.module.head.weight", "students.0.module.head.bias"]  # no term reads the logits
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = {name: parameter.detach().clone() for name, parameter in model.connectors.named_parameters()}
    assert len(before) == 4 + 6 + 4 + 6  # hints; means and variances; two fusions, one with attention
    optimiser = torch.optim.Adam(learning, lr=1e-2)
    seen: list[dict[str, float]] = []
    for _ in range(30):
        optimiser.zero_grad()
        sums = model(rows, targets)
        seen.append({name: float(value.detach()) for name, value in sums.items()})
        sum(value / seen[0][name] for name, value in sums.items()).backward()
        optimiser.step()
    for name, parameter in model.connectors.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    for name in seen[0]:
        assert seen[-1][name] < 0.97 * seen[0][name], name
