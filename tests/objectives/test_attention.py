"""Self-attention: every formula again in NumPy float64 with plain loops, closed forms, and rubbish in the padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import transformers
from tests.objectives.arrays import Arrays, batch, loss, normal, said, value

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.features import capture
from understudy.records import Outputs

TOKENS = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]]
REAL = [[position for position in range(4) if row[position]] for row in TOKENS]


def heads(count: int, width: int, seed: int, layer: int = 1) -> Arrays:
    """Queries, keys and values of a layer: [3 rows, heads, 4 positions, width]."""
    return {
        f"{kind}.{layer}": normal(3, count, 4, width, seed=seed + i) for i, kind in enumerate(("query", "key", "value"))
    }


def spoil(said: Arrays, rubbish: float) -> Arrays:
    """Rubbish at every position of padding: as a query, and in attention as a key too."""
    padding = np.array(TOKENS) == 0
    spoilt = {}
    for name, array in said.items():
        there = np.broadcast_to(padding[:, None, :, None], array.shape)
        if name.startswith("attention."):
            there = there | padding[:, None, None, :]
        spoilt[name] = np.where(there, rubbish, array)
    return spoilt


class TestAttentionMaps:
    @pytest.mark.parametrize("space", ["probabilities", "scores"])
    def test_is_the_mean_over_layers_heads_and_real_keys(self, space):
        term = match.attention_maps({1: 3, 2: 6}, space=space)
        student = (
            heads(2, 3, 0, 1) | heads(2, 3, 10, 2) | {f"attention.{i}": normal(3, 2, 4, 4, seed=i) for i in (1, 2)}
        )
        teacher = (
            heads(2, 5, 20, 3) | heads(2, 5, 30, 6) | {f"attention.{i}": normal(3, 2, 4, 4, seed=i) for i in (3, 6)}
        )

        def map_of(said: Arrays, layer: int, row: int, head: int, i: int, j: int) -> float:
            if space == "probabilities":
                return said[f"attention.{layer}"][row, head, i, j]
            q, k = said[f"query.{layer}"][row, head, i], said[f"key.{layer}"][row, head, j]
            return q @ k / math.sqrt(len(q))

        got = value(term, student, teacher, TOKENS)
        for row, real in enumerate(REAL):
            for i in real:
                errors = [
                    (map_of(student, mine, row, head, i, j) - map_of(teacher, theirs, row, head, i, j)) ** 2
                    for mine, theirs in ((1, 3), (2, 6))
                    for head in range(2)
                    for j in real
                ]
                assert len(errors) == 4 * len(real)
                assert got[row, i] == pytest.approx(np.mean(errors), rel=1e-9)
        assert loss(term, student, teacher, TOKENS) == pytest.approx(
            np.mean([got[row, i] for row, real in enumerate(REAL) for i in real]), rel=1e-9
        )

    def test_a_hand_made_pair(self):
        """Rows (1, 0), (0, 1) beside (1/2, 1/2) twice: 1/4 at each of two keys."""
        student, teacher = np.eye(2).reshape(1, 1, 2, 2), np.full((1, 1, 2, 2), 0.5)
        term = match.attention_maps({1: 1})
        assert loss(term, {"attention.1": student}, {"attention.1": teacher}, [[1, 1]]) == 0.25
        # one real position: its one key, 1 beside 1/2
        assert loss(term, {"attention.1": student}, {"attention.1": teacher}, [[1, 0]]) == 0.25

    @pytest.mark.parametrize(
        ("mine", "theirs", "space", "says"),
        [
            ((3, 2, 4, 4), (3, 4, 4, 4), "probabilities", "heads differ, use self_attention_relations"),
            ((3, 2, 5, 5), (3, 2, 5, 5), "probabilities", r'mask "tokens" \[3, 4\], got \[3, 2, 5, 5\]'),
            ((3, 4, 4), (3, 4, 4), "probabilities", r"wanted a signal \[N, heads, L, ...\]"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, mine, theirs, space, says):
        term = match.attention_maps({1: 1}, space=space)
        with pytest.raises(UsageError, match=says):
            value(term, {"attention.1": normal(*mine)}, {"attention.1": normal(*theirs)}, TOKENS)

    def test_heads_that_share_keys_have_no_scores_of_their_own(self):
        grouped = heads(4, 3, 0) | {"key.1": normal(3, 2, 4, 3)}
        with pytest.raises(UsageError, match=r"query.1 and key.1 of one shape, got \[3, 4, 4, 3\] and \[3, 2, 4, 3\]"):
            value(match.attention_maps({1: 1}, space="scores"), grouped, grouped, TOKENS)


class TestSelfAttentionRelations:
    def relation(self, first: np.ndarray, second: np.ndarray, count: int, real: list[int]) -> np.ndarray:
        """[heads, L, d] twice -> softmax over the real positions, [relation heads, real, real]."""
        width = first.shape[0] * first.shape[2]
        size = width // count
        joined = [np.array([np.concatenate([head[i] for head in x]) for i in real]) for x in (first, second)]
        maps = []
        for h in range(count):
            a, b = (x[:, h * size : (h + 1) * size] for x in joined)
            scores = np.exp(np.array([[u @ v / math.sqrt(size) for v in b] for u in a]))
            maps.append(scores / scores.sum(axis=1, keepdims=True))
        return np.array(maps)

    @pytest.mark.parametrize(
        ("mine", "theirs", "given", "shared"),
        [
            ((2, 3), (2, 3), None, 2),
            ((2, 3), (3, 4), None, 3),  # the teacher's 3 heads divide the student's width of 6
            ((4, 2), (6, 4), None, 2),  # 6 do not divide 8: what 4 and 6 have in common
            ((2, 6), (4, 6), 12, 12),
            ((2, 6), (4, 6), 1, 1),
        ],
    )
    @pytest.mark.parametrize("relations", [("query", "key", "value"), ("attention", "value"), ("key",)])
    def test_is_the_mean_over_relations_and_heads_of_a_divergence(self, mine, theirs, given, shared, relations):
        student, teacher = heads(*mine, 0, 2), heads(*theirs, 10, 5)
        term = match.self_attention_relations({2: 5}, relations=relations, heads=given)
        got = value(term, student, teacher, TOKENS)
        parts = {"attention": ("query", "key")}
        for row, real in enumerate(REAL):
            divergences = []
            for relation in relations:
                first, second = parts.get(relation, (relation, relation))
                q = self.relation(student[f"{first}.2"][row], student[f"{second}.2"][row], shared, real)
                p = self.relation(teacher[f"{first}.5"][row], teacher[f"{second}.5"][row], shared, real)
                divergences.append((p * np.log(p / q)).sum(axis=-1).mean(axis=0))
            np.testing.assert_allclose(got[row, real], np.mean(divergences, axis=0), rtol=1e-9, atol=1e-12)
        assert got[0].min() > 1e-3
        assert got[2, 0] == pytest.approx(0, abs=1e-12)  # one real position looks at itself, whoever it is

    def test_two_positions_by_hand(self):
        """Width 1, R = (0, 1): the second position looks at (e^0, e^1) of the student's, at both alike of zeros."""
        student, teacher = np.array([0.0, 1.0]).reshape(1, 1, 2, 1), np.zeros((1, 1, 2, 1))
        term = match.self_attention_relations({1: 1}, relations=("value",))
        got = value(term, {"value.1": student}, {"value.1": teacher}, [[1, 1]])
        wanted = 0.5 * math.log(0.5 * (1 + math.e)) + 0.5 * math.log(0.5 * (1 + math.e) / math.e)
        np.testing.assert_allclose(got, [[0.0, wanted]], atol=1e-12)
        assert wanted == pytest.approx(0.120115, abs=1e-6)

    def test_its_attention_is_the_attention_of_a_real_model(self):
        """What transformers computes from the same queries and keys, padding masked, is what the term compares."""
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=20, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=8,
            initializer_range=0.5, attn_implementation="eager",
        )  # fmt: skip
        ids, mask = torch.randint(1, 20, (3, 4)), torch.tensor(TOKENS)
        probabilities, queries = [], []
        for _ in range(2):
            model = transformers.BertModel(config, add_pooling_layer=False).eval()
            paths = [f"encoder.layer.0.attention.self.{kind}" for kind in ("query", "key")]
            with torch.no_grad(), capture(model, paths) as inside:
                output = model(input_ids=ids, attention_mask=mask, output_attentions=True)
            probabilities.append(output.attentions[0].double().numpy())
            queries.append(
                {f"{path.rpartition('.')[2]}.1": inside[path].unflatten(-1, (3, 4)).transpose(1, 2) for path in paths}
            )
        term = match.self_attention_relations({1: 1}, relations=("attention",))
        got = value(term, *queries, TOKENS)
        student, teacher = probabilities
        for row, real in enumerate(REAL):
            q, p = (x[row][:, real][:, :, real] for x in (student, teacher))
            np.testing.assert_allclose(got[row, real], (p * np.log(p / q)).sum(-1).mean(0), atol=1e-5)
        assert got[0].min() > 1e-3

    @pytest.mark.parametrize(
        ("mine", "theirs", "more", "says"),
        [
            ((2, 3), (2, 4), {"heads": 4}, "student's width 6 and the teacher's 8, got 4: choose one of 1, 2"),
            ((2, 3), (2, 3), {"heads": 5}, "got 5: choose one of 1, 2, 3, 6"),
        ],
    )
    def test_heads_that_do_not_divide_are_refused(self, mine, theirs, more, says):
        with pytest.raises(UsageError, match=says):
            value(match.self_attention_relations({1: 1}, **more), heads(*mine, 0), heads(*theirs, 9), TOKENS)

    def test_keys_that_are_shared_have_relations_but_no_attention(self):
        grouped = heads(4, 3, 0) | {"key.1": normal(3, 2, 4, 3), "value.1": normal(3, 2, 4, 3)}
        teacher = heads(4, 6, 9)
        got = value(match.self_attention_relations({1: 1}), grouped, teacher, TOKENS)
        assert np.isfinite(got).all()
        with pytest.raises(UsageError, match=r'queries and keys of one width for relation "attention", got 12 and 6'):
            value(match.self_attention_relations({1: 1}, relations=("attention",)), grouped, teacher, TOKENS)


TERMS = (
    match.attention_maps({1: 1}),
    match.attention_maps({1: 1}, space="scores", name="scores"),
    match.self_attention_relations({1: 1}),
    match.self_attention_relations({1: 1}, relations=("attention",), name="attention"),
)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
@pytest.mark.parametrize("rubbish", [math.nan, -math.inf, 1e30, 0.5])
def test_padding_is_neither_query_nor_key(term, rubbish):
    """Each row alone, cut to what is real, gives the same numbers; rubbish in the padding changes nothing."""
    student = heads(2, 3, 0) | {"attention.1": normal(3, 2, 4, 4, seed=7)}
    teacher = heads(2, 3, 20) | {"attention.1": normal(3, 2, 4, 4, seed=8)}

    def cut(said: Arrays, row: int, size: int) -> Arrays:
        short = {name: array[row : row + 1, :, :size] for name, array in said.items()}
        return short | {"attention.1": short["attention.1"][..., :size]}

    got = value(term, spoil(student, rubbish), spoil(teacher, -rubbish), TOKENS)
    for row, real in enumerate(REAL):
        size = len(real)
        alone = value(term, cut(student, row, size), cut(teacher, row, size), [[1] * size])
        np.testing.assert_allclose(got[row, :size], alone[0], rtol=1e-12, atol=1e-15)
    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in spoil(student, rubbish).items()}
    outputs, targets = Outputs(leaves), said({}, spoil(teacher, -rubbish))[1]
    term.total(outputs, targets, batch(3, TOKENS)).backward()
    padding = torch.tensor(TOKENS) == 0
    for name in term.needs.learner:
        gradient = leaves[name].grad
        assert gradient.isfinite().all()
        assert (gradient.transpose(1, 2)[padding] == 0).all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: match.attention_maps({}), "attention_maps: wanted pairs of layers"),
        (lambda: match.attention_maps({0: 1}), "counted from 1, got 0"),
        (lambda: match.attention_maps({1: "encoder.layer.1"}), "by number, counted from 1, got 'encoder.layer.1'"),
        (lambda: match.self_attention_relations({True: 1}), "got True"),
        (lambda: match.attention_maps({1: 1}, space="logits"), "space of the attention, got 'logits'"),
        (lambda: match.self_attention_relations([1, 2]), "self_attention_relations: wanted pairs of layers"),
        (lambda: match.self_attention_relations({1: 1}, relations=()), "sequence of different names"),
        (lambda: match.self_attention_relations({1: 1}, relations="query"), "sequence of different names, got 'query'"),
        (lambda: match.self_attention_relations({1: 1}, relations=("key", "key")), "different names"),
        (lambda: match.self_attention_relations({1: 1}, relations=("keys",)), 'did you mean "key"'),
        (lambda: match.self_attention_relations({1: 1}, heads=0), "wanted heads as a whole number"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()
