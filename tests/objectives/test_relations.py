"""Relations between rows: every formula again in NumPy float64 with plain loops, closed forms, and degenerate rows."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.objectives import Term
from understudy.records import Batch, Outputs, Targets

BUILDERS = (match.rkd_distance, match.rkd_angle, match.similarity_preserving, match.correlation_congruence)


def batch(rows: int, mask=None) -> Batch:
    mask = torch.ones(rows) if mask is None else torch.tensor(mask, dtype=torch.float32)
    return Batch(tuple(map(str, range(rows))), {}, None, {"examples": mask})


def loss(term: Term, student, teacher, mask=None) -> torch.Tensor:
    """What the loop makes of it: the sum over counted rows, divided by their number."""
    rows = batch(len(student), mask)
    said = Outputs({"features": torch.as_tensor(student)}), Targets({"features": torch.as_tensor(teacher)})
    return term.total(*said, rows) / term.count(rows)


def draw(rows: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, 4)), random.normal(size=(rows, 7))


def smooth_l1(x: float) -> float:
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def distances(x: np.ndarray) -> np.ndarray:
    apart = np.array([[math.dist(a, b) for b in x] for a in x])
    return apart / np.mean([d for d in apart.ravel() if d > 0])


def angles(x: np.ndarray) -> np.ndarray:
    n = len(x)
    cosines = np.zeros((n, n, n))
    for i, j, k in product(range(n), repeat=3):
        if i not in (j, k):
            to_j, to_k = x[j] - x[i], x[k] - x[i]
            cosines[i, j, k] = to_j @ to_k / math.sqrt(to_j @ to_j) / math.sqrt(to_k @ to_k)
    return cosines


def similarities(x: np.ndarray) -> np.ndarray:
    gram = np.array([[a @ b for b in x] for a in x])
    return np.array([row / math.sqrt(sum(v * v for v in row)) for row in gram])


def correlations(x: np.ndarray, gamma: float = 0.4) -> np.ndarray:
    unit = [row / math.sqrt(row @ row) for row in x]
    kernel = [[1 + 2 * gamma * (a @ b) + (2 * gamma * (a @ b)) ** 2 / 2 for b in unit] for a in unit]
    return math.exp(-2 * gamma) * np.array(kernel)


def gaussians(x: np.ndarray, gamma: float = 0.4) -> np.ndarray:
    unit = [row / math.sqrt(row @ row) for row in x]
    return np.array([[math.exp(-gamma * math.dist(a, b) ** 2) for b in unit] for a in unit])


ORACLES = (
    (match.rkd_distance(), distances, smooth_l1),
    (match.rkd_angle(), angles, smooth_l1),
    (match.similarity_preserving(), similarities, lambda x: x * x),
    (match.correlation_congruence(), correlations, lambda x: x * x),
    (match.correlation_congruence(order=None, name="gaussian"), gaussians, lambda x: x * x),
)


@pytest.mark.parametrize(("term", "relation", "error"), ORACLES, ids=lambda value: getattr(value, "name", None))
def test_is_the_mean_over_pairs_or_triplets(term, relation, error):
    student, teacher = draw()
    student[2] *= 5  # far enough for the linear part of the smooth L1
    errors = np.vectorize(error)(relation(student) - relation(teacher))
    assert errors.mean() > 1e-3
    assert float(loss(term, student, teacher)) == pytest.approx(errors.mean(), rel=1e-9)
    rows = term.value(
        Outputs({"features": torch.tensor(student)}), Targets({"features": torch.tensor(teacher)}), batch(6)
    )
    np.testing.assert_allclose(rows.numpy(), errors.reshape(6, -1).mean(axis=1), rtol=1e-9)


@pytest.mark.parametrize(("term", "relation", "error"), ORACLES, ids=lambda value: getattr(value, "name", None))
def test_rows_that_do_not_count_are_related_to_nothing(term, relation, error):
    student, teacher = draw()
    kept = [0, 2, 3, 5]
    errors = np.vectorize(error)(relation(student[kept]) - relation(teacher[kept]))
    student[[1, 4]], teacher[1] = np.nan, np.inf
    assert float(loss(term, student, teacher, [1, 0, 1, 1, 0, 1])) == pytest.approx(errors.mean(), rel=1e-9)


RIGHT = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
EQUILATERAL = np.array([[0.0, 0.0, 7.0], [2.0, 0.0, 7.0], [1.0, math.sqrt(3), 7.0]])


def test_a_right_triangle_beside_an_equilateral_one():
    """Distances 3, 4, 5, in units of their mean 3/4, 1, 5/4, beside 1, 1, 1; cosines 0, 3/5, 4/5 beside 1/2."""
    by_distance = 2 * (0.25**2 / 2 + 0 + 0.25**2 / 2) / 9
    assert float(loss(match.rkd_distance(), RIGHT, EQUILATERAL)) == pytest.approx(by_distance, rel=1e-9)
    by_angle = 2 * (0.5**2 / 2 + 0.1**2 / 2 + 0.3**2 / 2) / 27
    assert float(loss(match.rkd_angle(), RIGHT, EQUILATERAL)) == pytest.approx(by_angle, rel=1e-9)


@pytest.mark.parametrize("builder", [match.rkd_distance, match.rkd_angle])
def test_size_place_and_direction_of_the_student_do_not_matter(builder):
    student, _ = draw()
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    assert float(loss(builder(), 3 * student @ turned + 2, student)) == pytest.approx(0, abs=1e-12)
    assert float(loss(builder(), student, student**3)) > 1e-3


def test_similarity_is_of_rows_of_euclidean_length_one():
    """G = [[1, 1], [1, 2]] with rows of length 1, beside the identity. Rows of sum 1 give another number."""
    student, teacher = np.array([[1.0, 0.0], [1.0, 1.0]]), np.eye(2)
    first = (1 - 1 / math.sqrt(2)) ** 2 + 1 / 2
    second = 1 / 5 + (1 - 2 / math.sqrt(5)) ** 2
    wanted = (first + second) / 4
    wrong = ((1 - 1 / 2) ** 2 + (1 / 2) ** 2 + (1 / 3) ** 2 + (1 - 2 / 3) ** 2) / 4
    assert float(loss(match.similarity_preserving(), student, teacher)) == pytest.approx(wanted, rel=1e-9)
    assert round(wanted, 7) == 0.199233
    assert round(wrong, 7) == 0.1805556


def test_correlation_of_two_rows():
    """Cosine 1 beside cosine 0, off the diagonal: exp(-0.8) (1 + 0.8 + 0.32) beside exp(-0.8); exactly, 1."""
    student, teacher = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 5.0]])
    taylor = 2 * (math.exp(-0.8) * 1.12) ** 2 / 4
    assert float(loss(match.correlation_congruence(), student, teacher)) == pytest.approx(taylor, rel=1e-9)
    exact = 2 * (1 - math.exp(-0.8)) ** 2 / 4
    assert float(loss(match.correlation_congruence(order=None), student, teacher)) == pytest.approx(exact, rel=1e-9)
    assert float(loss(match.correlation_congruence(order=30), student, teacher)) == pytest.approx(exact, rel=1e-9)


def test_feature_maps_are_flattened():
    student, teacher = draw()
    maps = student.reshape(6, 2, 1, 2)
    for builder in BUILDERS:
        assert torch.equal(loss(builder(), maps, teacher), loss(builder(), student, teacher))


@pytest.mark.parametrize("builder", BUILDERS)
def test_degenerate_rows_have_finite_values_and_gradients(builder):
    ordinary = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([ordinary[:2], ordinary[:2]])
    zero_among = ordinary.clone()
    zero_among[1] = 0
    cases = [ordinary, twice, zero_among, torch.zeros(4, 3), torch.ones(4, 3), ordinary * 1e-10, ordinary * 1e8]
    for mine, theirs in product(cases, repeat=2):
        for rows in (1, 2, 4):
            student = mine[:rows].clone().requires_grad_(True)
            value = loss(builder(), student, theirs[:rows])
            assert value.isfinite()
            gradient = torch.autograd.grad(value, student)[0]
            assert gradient.isfinite().all()
            if torch.equal(mine, theirs):
                assert float(value.detach()) == pytest.approx(0, abs=1e-12)
                assert gradient.abs().max() == 0


@pytest.mark.parametrize(("builder", "silent"), [(match.rkd_distance, 2), (match.rkd_angle, 2)])
def test_too_few_rows_have_no_relation(builder, silent):
    student, teacher = draw(3)
    for rows in range(1, silent + 1):
        assert float(loss(builder(), student[:rows], teacher[:rows])) == pytest.approx(0, abs=1e-15)
    assert float(loss(builder(), student, teacher)) > 1e-3


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_student_that_is_not_a_number_is_not_hidden(builder):
    student, teacher = draw()
    student[3, 1] = np.nan
    assert loss(builder(), student, teacher).isnan()


def test_a_hundred_and_twenty_eight_rows_of_many_numbers():
    """The size that the docstring names; fp32 beside the same in fp64."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(128, width, generator=generator) + 10 for width in (64, 128))
    for builder in BUILDERS:
        exact = float(loss(builder(), student.double(), teacher.double()))
        assert float(loss(builder(), student, teacher)) == pytest.approx(exact, rel=1e-3)
        assert exact > 1e-9


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: match.correlation_congruence(gamma=0.0), r"wanted gamma in \(0, inf\), got 0.0"),
        (lambda: match.correlation_congruence(order=0), "wanted order as a whole number of at least 1, .* got 0"),
        (lambda: match.correlation_congruence(order=True), "got True"),
        (lambda: match.rkd_angle(weight=-1.0), "weight of at least 0"),
        (lambda: loss(match.rkd_distance(), draw(6)[0], draw(5)[1]), r"one row .* 6 examples, .*\[6, 4\] and \[5, 7\]"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_says_what_it_reads():
    for builder in BUILDERS:
        term = builder("module:a", "input:b", 0.5, of="exit.0", against="teacher.fr")
        assert (term.needs.learner, term.needs.source) == ({"module:a"}, {"input:b"})
        assert term.coupled
        assert term.name == f"{builder.__name__}/exit-0/teacher-fr"
        assert "exit.0.module:a" in term.formula
        assert "teacher.fr.input:b" in term.formula


class TestBesideTorchdistill:
    """torchdistill 1.1.5 (pip install --no-deps torchdistill==1.1.5): an independent implementation."""

    @pytest.fixture
    def theirs(self):
        return pytest.importorskip("torchdistill.losses.mid_level", reason="torchdistill 1.1.5 is not installed")

    @pytest.mark.parametrize(("builder", "part"), [(match.rkd_distance, (1.0, 0.0)), (match.rkd_angle, (0.0, 1.0))])
    def test_relational(self, theirs, builder, part):
        student, teacher = map(torch.tensor, draw())
        reference = theirs.RKDLoss("s", "t", *part, reduction="mean")
        wanted = reference({"s": {"output": student}}, {"t": {"output": teacher}})
        torch.testing.assert_close(loss(builder(), student, teacher), wanted, rtol=1e-6, atol=0)

    def test_correlation(self, theirs):
        """Theirs takes rows as they come and does not square the norm."""
        student, teacher = (torch.nn.functional.normalize(torch.tensor(x)) for x in draw())
        config = {"type": "gaussian", "gamma": 0.4, "max_p": 2}
        reference = theirs.CCKDLoss("s", "t", config, reduction="sum")
        wanted = reference({"s": {"output": student}}, {"t": {"output": teacher}}) ** 2 / 36
        torch.testing.assert_close(loss(match.correlation_congruence(), student, teacher), wanted)

    def test_similarity_is_not_theirs(self, theirs):
        """Theirs divides rows by their sum of sizes (normalize(x, 1) is p = 1): the flaw, not the formula."""
        student, teacher = map(torch.tensor, draw())
        reference = theirs.SPKDLoss("s", "t", reduction="batchmean")
        wrong = reference({"s": {"output": student}}, {"t": {"output": teacher}})
        assert float(loss(match.similarity_preserving(), student, teacher)) > 2 * float(wrong) > 0
