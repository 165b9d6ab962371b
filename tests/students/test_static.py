"""The static student: its formula, its dropping of words, its start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from understudy.errors import UsageError
from understudy.students import Static, principal_components, static_vectors


def by_hand(model: Static, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """The formula of the docstring, bag by bag, in fp64."""
    table, log_weights = model.table.weight.detach().double(), model.weights.detach().double()
    rows = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        v, w = table[ids[start:end]], log_weights[ids[start:end]].exp()[:, None]
        rows.append(torch.cat([(w * v).sum(0) / w.sum(), v.max(0).values]))
    x = torch.stack(rows)
    hidden = (x @ model.hidden.weight.double().T + model.hidden.bias.double()).clamp(min=0)
    return hidden @ model.output.weight.double().T + model.output.bias.double()


def model(**more: Any) -> Static:
    torch.manual_seed(0)
    made = Static(50, 8, 3, hidden=6, **more)
    nn.init.normal_(made.weights)
    return made


def test_logits_are_the_formula(batch: Any) -> None:
    made, inputs = model().eval(), batch("bags", 7)
    torch.testing.assert_close(made(**inputs).double(), by_hand(made, **inputs), atol=1e-6, rtol=1e-5)


def test_the_gradient_is_that_of_the_formula(batch: Any) -> None:
    made = Static(12, 3, 2, hidden=4, dropout=0.0, word_dropout=0.0).double()
    nn.init.normal_(made.weights)
    ids, offsets = torch.tensor([3, 3, 4, 7, 1, 3, 0]), torch.tensor([0, 4, 5, 7])

    def logits(table: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        given = {"table.weight": table, "weights": weights}
        return torch.func.functional_call(made, given, (ids, offsets))

    # a repeated id is a tie of the maximum: moving the shared row must move it once
    table, weights = (value.detach().clone().requires_grad_() for value in (made.table.weight, made.weights))
    assert torch.autograd.gradcheck(logits, (table, weights))


def test_shapes_that_the_exporter_reads() -> None:
    made = Static(50, 8, 3, hidden=6)
    assert made.table.weight.shape == (50, 8)
    assert made.weights.shape == (50,)
    assert isinstance(made.weights, nn.Parameter)
    assert made.hidden.weight.shape == (6, 16)
    assert made.output.weight.shape == (3, 6)
    assert {name for name, _ in made.named_parameters()} == {
        "table.weight",
        "weights",
        "hidden.weight",
        "hidden.bias",
        "output.weight",
        "output.bias",
    }


def test_words_are_dropped_at_the_stated_share_and_no_bag_is_emptied() -> None:
    from understudy.students.families.bags import thinned

    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 40] * 300)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ids = torch.arange(int(offsets[-1]))
    kept, ends = thinned(ids, offsets, 0.3)
    left = ends.diff()
    assert bool((left >= 1).all())
    assert int(ends[-1]) == len(kept)
    assert bool((left[lengths == 1] == 1).all())
    assert abs(float(left[lengths == 40].float().mean()) / 40 - 0.7) < 0.02
    # a pair is emptied with probability .09, and then keeps one: 1.4 + .09
    assert abs(float(left[lengths == 2].float().mean()) - 1.49) < 0.08
    bags = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    assert torch.equal(bags[kept], torch.repeat_interleave(torch.arange(len(left)), left))  # still in its own bag
    everything, _ = thinned(ids, offsets, 0.999)
    assert len(everything) < 1.2 * len(lengths)


def test_dropping_happens_in_training_only_and_comes_from_the_global_generator(batch: Any) -> None:
    made, inputs = model(dropout=0.0, word_dropout=0.5), batch("bags", 16)
    made.eval()
    assert torch.equal(made(**inputs), made(**inputs))
    made.train()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, two = made(**inputs), made(**inputs)
    torch.set_rng_state(state)
    assert torch.equal(made(**inputs), one)
    assert not torch.equal(one, two)
    made.word_dropout = 0.0
    torch.testing.assert_close(made(**inputs), made.eval()(**inputs))


def test_an_empty_bag_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="row 1 is an empty bag"):
        model()(torch.tensor([1, 2]), torch.tensor([0, 1, 1, 2]))
    with pytest.raises(UsageError, match="rows=0"):
        Static(0, 8, 3)
    with pytest.raises(UsageError, match=r"word_dropout=1\.0"):
        Static(5, 8, 3, word_dropout=1.0)


def test_initialise_places_vectors_and_smooth_inverse_frequencies() -> None:
    made = model()
    vectors = np.arange(24, dtype=np.float32).reshape(3, 8)
    made.initialise(vectors, first=2, counts=np.array([0, 1, 3]), smoothing=0.5)
    assert torch.equal(made.table.weight[2:5], torch.from_numpy(vectors))
    assert not made.table.weight[[0, 1]].any()
    assert not made.table.weight[5:].any()
    wanted = torch.tensor([0.5 / 0.5, 0.5 / 0.75, 0.5 / 1.25])
    torch.testing.assert_close(made.weights[2:5].exp(), wanted)
    assert (made.weights[5:] == -2.0).all()
    assert made.table.weight.requires_grad
    with pytest.raises(UsageError, match="50 rows x 8"):
        made.initialise(np.zeros((50, 8), dtype=np.float32))
    with pytest.raises(UsageError, match="as many counts"):
        made.initialise(vectors, counts=np.array([1]))


def test_vectors_are_the_teachers_mean_over_the_words_own_tokens(hugging: Any, tiny_tokenizer: Any) -> None:
    torch.manual_seed(0)
    teacher = hugging("bert", vocab_size=len(tiny_tokenizer)).train()
    words = ["card", "zebra", "flight", "refund", "xylophone", "a"]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    got = static_vectors(teacher, tiny_tokenizer, words, dimensions=4, batch_size=2)
    assert got.shape == (6, 4)
    assert got.dtype == np.float32
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    teacher.eval()
    means = []
    with torch.no_grad():
        for word in words:
            encoded = tiny_tokenizer(word, return_tensors="pt")
            hidden = teacher.bert(**encoded).last_hidden_state[0]
            means.append(hidden[1:-1].mean(0))  # [CLS] ... [SEP]
    centred = torch.stack(means).double().numpy()
    centred = centred - centred.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    wanted = centred @ directions[:4].T
    np.testing.assert_allclose(np.abs(got), np.abs(wanted), atol=1e-4)
    again = static_vectors(teacher, tiny_tokenizer.backend_tokenizer, words, dimensions=4, batch_size=100)
    np.testing.assert_allclose(again, got, atol=1e-5)


def test_words_without_tokens_are_zero_and_missing_dimensions_too(hugging: Any, tiny_tokenizer: Any) -> None:
    torch.manual_seed(0)
    teacher = hugging("bert", vocab_size=len(tiny_tokenizer))
    got = static_vectors(teacher, tiny_tokenizer, ["card", "", "flight", "\x00"], dimensions=20)
    assert not got[[1, 3]].any()
    assert got[[0, 2], 0].all()
    assert not got[:, 16:].any()  # the teacher is 16 wide
    assert not static_vectors(teacher, tiny_tokenizer, [""], dimensions=3).any()


def test_the_order_of_words_and_padding_left_on_do_not_matter(hugging: Any, tiny_tokenizer: Any) -> None:
    import copy

    torch.manual_seed(0)
    teacher = hugging("bert", vocab_size=len(tiny_tokenizer))
    words = ["card", "zebra", "flight", "refund"]
    padded = copy.deepcopy(tiny_tokenizer.backend_tokenizer)
    padded.enable_padding(length=20)
    one = static_vectors(teacher, tiny_tokenizer, words, dimensions=3)
    two = static_vectors(teacher, padded, words[::-1], dimensions=3)
    np.testing.assert_allclose(one, two[::-1], atol=1e-5)


def test_a_slow_tokenizer_and_no_words_are_refused(hugging: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(UsageError, match="fast tokenizer"):
        static_vectors(hugging("bert"), object(), ["a"])
    with pytest.raises(UsageError, match="wants words"):
        static_vectors(hugging("bert"), tiny_tokenizer, [])


def test_principal_components_keep_distances_order_variance_and_fix_signs() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(30, 6)) * np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.5]) + 7.0
    got = principal_components(rows, 6).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(got[0] - got[1]), np.linalg.norm(rows[0] - rows[1]), rtol=1e-5)
    variance = got.var(axis=0)
    assert (np.diff(variance) < 0).all()
    np.testing.assert_allclose(got.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_array_equal(principal_components(rows, 2), principal_components(rows, 6)[:, :2])
    # the sign: a rotation by -1 of an axis of the solver cannot show, so the largest loading points up
    direction = np.linalg.lstsq(rows - rows.mean(axis=0), got, rcond=None)[0]
    assert (direction[np.abs(direction).argmax(axis=0), np.arange(6)] > 0).all()


def test_it_learns_what_a_word_means(tiny_texts: Any) -> None:
    texts, labels = tiny_texts(160)
    words = {word: i + 1 for i, word in enumerate(sorted({w for text in texts for w in text.split()}))}
    bags = [[words[w] for w in text.split()] for text in texts]
    ids = torch.tensor([i for bag in bags for i in bag])
    offsets = torch.tensor([0, *map(len, bags)]).cumsum(0)
    torch.manual_seed(0)
    student = Static(len(words) + 1, 16, 4, hidden=16)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(student(ids, offsets), torch.tensor(labels)).backward()
        optimiser.step()
    student.eval()
    assert float((student(ids, offsets).argmax(1) == torch.tensor(labels)).float().mean()) > 0.97
