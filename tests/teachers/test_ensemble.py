"""Several teachers as one: what they say together, how each is read, and who is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from understudy import objectives as match
from understudy import teachers
from understudy.data import Examples
from understudy.data.feed import Feed
from understudy.encoding import SubwordEncoder
from understudy.errors import LabelError, UsageError
from understudy.records import Batch
from understudy.statistics import fit_temperature, log_softmax, softmax
from understudy.students import Student
from understudy.targets import Store
from understudy.teachers import Ensemble, Live, Loaded, Several, Stored, open_teacher
from understudy.teachers.joined import JoinedEncoder
from understudy.teachers.merging import FLOOR, check_support, reconcile
from understudy.training import Distillation, Settings, train

Texts = Callable[..., tuple[list[str], list[int]]]
ONES = torch.ones(2)


def open_bert(folder: Path, labels: tuple[str, ...], **more: Any) -> Loaded:
    return open_teacher(folder, task="text-classification", label_names=labels, **more)


@pytest.fixture(scope="module")
def seeds(tiny_bert: Callable[..., Path], tiny_labels: tuple[str, ...]) -> dict[str, Loaded]:
    """Two teachers of one architecture and tokenizer, the second with its columns in another order."""
    turned = (tiny_labels[2], tiny_labels[0], tiny_labels[3], tiny_labels[1])
    return {
        "a": open_bert(tiny_bert(steps=60), tiny_labels),
        "b": open_bert(tiny_bert(turned, seed=1, steps=40), tiny_labels),
    }


@pytest.fixture(scope="module")
def other_reader(seeds: dict[str, Loaded]) -> Loaded:
    """The first teacher with an encoding of its own: texts cut to six ids."""
    encoder: Any = seeds["a"].encoder
    tokenizer: Any = seeds["a"].tokenizer
    shorter = SubwordEncoder(tokenizer.backend_tokenizer, limit=6, token_types=encoder.token_types, padding_id=0)
    return replace(seeds["a"], encoder=shorter)


# --- what is said together -------------------------------------------------------------------------------------------


def test_means_of_probabilities_and_of_logits() -> None:
    """By hand: softmax of [0, log 3] is [1/4, 3/4], of [log 4, 0] / 2 is [2/3, 1/3]; shares are 3/4 and 1/4."""
    said = [torch.tensor([[0.0, np.log(3.0)]]), torch.tensor([[np.log(4.0), 0.0]])]
    weights, temperatures = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
    mixed = teachers.merge(said, weights=weights, temperatures=temperatures).exp()
    wanted = [[3 / 4 * 1 / 4 + 1 / 4 * 2 / 3, 3 / 4 * 3 / 4 + 1 / 4 * 1 / 3]]
    np.testing.assert_allclose(mixed, wanted, rtol=1e-6)
    mean = teachers.merge(said, weights=weights, temperatures=temperatures, space="logits")
    np.testing.assert_allclose(mean, [[np.log(2.0) / 4, 3 / 4 * np.log(3.0)]], rtol=1e-6)
    assert abs(mean.softmax(-1) - mixed).max() > 0.01  # two spaces are two answers


def test_certain_members_stay_finite() -> None:
    said = [torch.tensor([[200.0, 0.0, -300.0]]), torch.tensor([[0.0, 500.0, -300.0]])]
    mixed = teachers.merge(said, weights=ONES, temperatures=ONES)
    assert torch.isfinite(mixed).all()
    np.testing.assert_allclose(mixed[0, :2].exp(), [0.5, 0.5], rtol=1e-6)


def test_a_member_by_itself_is_itself() -> None:
    one = nn.Linear(3, 4)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Ensemble({"a": one})(x), one(x).log_softmax(-1))
    torch.testing.assert_close(Ensemble({"a": one, "b": one}, weights={"a": 5.0})(x), one(x).log_softmax(-1))
    torch.testing.assert_close(Ensemble({"a": one}, space="logits")(x), one(x))


# --- members that know different labels ------------------------------------------------------------------------------

CHAIN = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]).bool()
CYCLE = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [1, 0, 0, 1, 1]]).bool()


def restricted(p: np.ndarray, support: Tensor) -> Tensor:
    """log p renormalised on each label set, [M, N, K]."""
    inside = np.where(support.numpy()[:, None], p, 0.0)
    with np.errstate(divide="ignore"):
        return torch.from_numpy(np.log(inside / inside.sum(-1, keepdims=True)))


def opinions(support: Tensor, *, scale: float, rows: int = 6) -> Tensor:
    """Random members that contradict each other, the more certain the larger the scale."""
    logits = torch.randn(len(support), rows, support.shape[1], generator=torch.Generator().manual_seed(0)).double()
    return (scale * logits).masked_fill(~support[:, None], -torch.inf).log_softmax(-1)


@pytest.mark.parametrize("support", [CHAIN, CYCLE], ids=["chain", "cycle"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_restrictions_of_one_distribution_give_it_back(support: Tensor, scale: float) -> None:
    p = softmax(scale * np.random.default_rng(0).normal(size=(7, support.shape[1])))
    weights = torch.tensor([0.5, 0.3, 0.2])
    found = reconcile(restricted(p, support), weights, support).exp().numpy()
    np.testing.assert_allclose(found, p, rtol=1e-4, atol=1e-7)
    for known, wanted in zip(support.numpy(), restricted(p, support).exp().numpy(), strict=True):
        mine = np.where(known, found, 0.0)
        np.testing.assert_allclose(mine / mine.sum(1, keepdims=True), wanted, rtol=1e-4, atol=1e-7)


def test_everybody_knows_everything_is_the_mixture() -> None:
    said = opinions(torch.ones(3, 5).bool(), scale=2.0)
    weights = torch.tensor([0.2, 0.3, 0.5])
    mixture = (weights[:, None, None] * said.exp()).sum(0)
    np.testing.assert_allclose(reconcile(said, weights, torch.ones(3, 5).bool()).exp(), mixture, rtol=1e-5)


def test_the_fixed_point_of_the_iteration() -> None:
    """20,000 steps of p_k <- (sum_i w_i p_i(k)) / (sum_i w_i [k in S_i] / P(S_i)), written down in float64 NumPy."""
    said, weights = opinions(CYCLE, scale=1.0), np.array([0.5, 0.3, 0.2])
    given = (weights[:, None, None] * said.exp().numpy()).sum(0)
    p = np.full_like(given, 1 / 5)
    for _ in range(20_000):
        owned = p @ CYCLE.numpy().T.astype(float)  # P(S_i), [N, M]
        p = given / ((weights / owned) @ CYCLE.numpy().astype(float))
        p /= p.sum(1, keepdims=True)
    found = reconcile(said, torch.from_numpy(weights), CYCLE).exp().numpy()
    np.testing.assert_allclose(found, p, rtol=1e-5, atol=1e-8)


def test_nothing_fits_better() -> None:
    """The same divergence, minimised by SciPy from random starts, is nowhere lower."""
    from scipy.optimize import minimize

    said, weights = opinions(CYCLE, scale=2.0, rows=3), np.array([0.5, 0.3, 0.2])
    found = reconcile(said, torch.from_numpy(weights), CYCLE).double().numpy()

    def divergence(log_p: np.ndarray, row: int) -> float:
        total = 0.0
        for i, known in enumerate(CYCLE.numpy()):
            q = log_softmax(log_p[known])
            own = said[i, row].numpy()[known]
            total += weights[i] * float((np.exp(own) * (own - q)).sum())
        return total

    for row in range(3):
        starts = [np.random.default_rng(seed).normal(size=5) for seed in range(3)]
        best = min(
            (minimize(divergence, x, args=(row,), method="BFGS", tol=1e-12) for x in starts), key=lambda r: r.fun
        )
        assert divergence(found[row], row) <= best.fun + 1e-9
        assert divergence(found[row], row) > 1e-3  # they do contradict each other
        np.testing.assert_allclose(np.exp(log_softmax(best.x)), np.exp(found[row]), atol=1e-4)


@pytest.mark.parametrize("scale", [8.0, 40.0, 400.0])
def test_it_is_found_however_certain_the_members_are(scale: float) -> None:
    """At the fixed point, what the labels of a source are given in sum_k given_k * share_i(k) is its weight."""
    said = opinions(CYCLE, scale=scale, rows=40)
    weights = np.array([0.5, 0.3, 0.2])
    p = reconcile(said, torch.from_numpy(weights), CYCLE).double()
    assert torch.isfinite(p).all()
    said = said.clamp(min=np.log(FLOOR)).masked_fill(~CYCLE[:, None], -torch.inf).log_softmax(-1)
    given = (weights[:, None, None] * said.exp().numpy()).sum(0)
    owned = torch.stack([p[:, known].logsumexp(1) for known in CYCLE], 1).numpy()
    shares = np.where(CYCLE.numpy(), (weights / np.exp(owned))[:, :, None], 0.0)
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose((given[:, None] * shares).sum(2), np.broadcast_to(weights, (40, 3)), atol=1e-5)


def test_label_sets_that_nothing_relates() -> None:
    apart = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]]).bool()
    with pytest.raises(LabelError, match='nothing relates what "fr" and "de" know'):
        check_support(apart, ["fr", "de"])
    check_support(torch.cat([apart, torch.tensor([[0, 1, 1, 0]]).bool()]), ["fr", "de", "both"])
    with pytest.raises(LabelError, match=r"1 labels are known to no teacher \(music\)"):
        check_support(torch.tensor([[1, 1, 0]]).bool(), ["fr"], ["card", "rain", "music"])
    with pytest.raises(LabelError, match="fewer than two"):
        check_support(torch.tensor([[1, 1], [0, 1]]).bool(), ["fr", "de"])


# --- an ensemble as a teacher ----------------------------------------------------------------------------------------


def by_hand(members: dict[str, Loaded], texts: list[str], weights: dict[str, float]) -> np.ndarray:
    """log of the weighted mean of softmax, in float64."""
    total = sum(weights.values())
    parts = [w / total * softmax(members[name].scores({"text": texts})) for name, w in weights.items()]
    return np.log(sum(parts))


def test_one_encoder_where_all_read_alike(seeds: dict[str, Loaded], tiny_texts: Texts) -> None:
    texts, labels = tiny_texts(40, seed=5)
    joined = teachers.ensemble(seeds, weights={"a": 3.0})
    assert joined.encoder is seeds["a"].encoder
    assert isinstance(joined.encoder, SubwordEncoder)
    said = joined.scores({"text": texts}, batch_size=7)
    np.testing.assert_allclose(said, by_hand(seeds, texts, {"a": 3.0, "b": 1.0}), atol=1e-5)
    assert (said.argmax(1) == labels).mean() > 0.9  # the second member's columns were moved
    assert "a: labels" in joined.notes[0]
    assert joined.description.startswith("2 teachers (probabilities): a (BertForSequenceClassification")


def test_each_member_reads_in_its_own_way(seeds: dict[str, Loaded], other_reader: Loaded, tiny_texts: Texts) -> None:
    texts, labels = tiny_texts(30, seed=6)
    members = {**seeds, "short": other_reader}
    joined = teachers.ensemble(members)
    assert isinstance(joined.encoder, JoinedEncoder)
    assert set(joined.encoder.encoders) == {"a", "short"}  # b reads what a reads, so that it is encoded once
    assert joined.encoder.fields == ("text",)
    said = joined.scores({"text": texts})
    np.testing.assert_allclose(said, by_hand(members, texts, dict.fromkeys(members, 1.0)), atol=1e-5)
    feed = Feed(Examples.of({"text": texts}, labels), {"teacher": joined.encoder})
    batch = feed.batch(np.arange(30))
    lengths = {name: batch.inputs["teacher"][f"{name}/input_ids"].shape[1] for name in ("a", "short")}
    assert lengths["short"] == 6 < lengths["a"]
    assert feed.lengths.max() > 6 + 6


def test_live_stored_and_scored_agree(
    seeds: dict[str, Loaded], other_reader: Loaded, tiny_texts: Texts, tmp_path: Path
) -> None:
    texts, labels = tiny_texts(24, seed=7)
    examples = Examples.of({"text": texts}, labels)
    joined = teachers.ensemble({**seeds, "short": other_reader}, temperatures={"b": 2.0}, space="logits")
    store = Store(tmp_path / "targets", identity={"teacher": joined.fingerprint})
    assert store.write(examples.keys, joined.scorer(examples.inputs), shard_rows=10) == 24
    batch = Feed(examples, {"teacher": joined.encoder}).batch(np.arange(24)[::-1].copy())
    live, stored = Live(joined.model, order=joined.label_order), Stored(store)
    a, b = live.targets(batch)["teacher.logits"], stored.targets(batch)["teacher.logits"]
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(b.numpy()[::-1], joined.scores(examples.inputs), atol=1e-5)
    assert not a.requires_grad


def test_members_are_untouched(tiny_texts: Texts) -> None:
    """PITFALLS 16: members in train mode, with dropout and batch norm, answer the same twice and do not drift."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)  # type: ignore[no-any-return]

    both = Ensemble({"a": Noisy(), "b": Noisy()}).train()
    before = copy.deepcopy(both.state_dict())
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(keys=tuple("abcdef"), inputs={"teacher": {"x": x}}, labels=None, masks={})
    teacher = Live(both)
    first, second = (teacher.targets(batch)["teacher.logits"] for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(before[name], value) for name, value in both.state_dict().items())
    assert all(module.training for module in both.modules())


def test_partial_members_become_one_teacher(
    tiny_bert: Callable[..., Path], tiny_labels: tuple[str, ...], tiny_texts: Texts
) -> None:
    """Three teachers of two labels each, in a chain, sort four: each row is its label's best where teachers know it."""
    texts, labels = tiny_texts(200, seed=8)
    pairs = {"ab": (0, 1), "bc": (1, 2), "cd": (2, 3)}
    whole = open_bert(tiny_bert(steps=80), tiny_labels)
    loaded = {}
    for name, pair in pairs.items():
        model = copy.deepcopy(whole.model)
        head: Any = model.classifier
        head.weight.data, head.bias.data = head.weight.data[list(pair)], head.bias.data[list(pair)]
        head.out_features = model.config.num_labels = 2
        loaded[name] = teachers.given(model, whole.encoder)
    supports = {name: [k in pair for k in range(4)] for name, pair in pairs.items()}
    joined = teachers.ensemble(loaded, supports=supports, label_names=tiny_labels)
    said, wanted = joined.scores({"text": texts}), whole.scores({"text": texts})
    # heads of one body are restrictions of one distribution: all of it comes back
    np.testing.assert_allclose(softmax(said), softmax(wanted), atol=2e-4)
    assert (said.argmax(1) == labels).mean() > 0.95
    wrong = {**supports, "cd": [True, True, True, True]}
    with pytest.raises(UsageError, match=r"wanted \[2, 2, 4\] columns.*got \[2, 2, 2\]"):
        teachers.ensemble(loaded, supports=wrong).scores({"text": texts[:4]})
    with pytest.raises(UsageError, match="no common origin"):
        teachers.ensemble(loaded, supports=supports, space="logits")
    with pytest.raises(LabelError, match="weather"):
        teachers.ensemble({"ab": loaded["ab"]}, supports={"ab": supports["ab"]}, label_names=tiny_labels)


def test_the_fingerprint_is_of_everything_that_decides(seeds: dict[str, Loaded], other_reader: Loaded) -> None:
    made = teachers.ensemble
    masks = {"a": [True, True, True, False]}
    prints = {
        made(seeds).fingerprint,
        made(seeds, weights={"a": 2.0}).fingerprint,
        made(seeds, temperatures={"a": 2.0}).fingerprint,
        made(seeds, space="logits").fingerprint,
        made(seeds, supports=masks).fingerprint,
        made({"a": seeds["a"]}).fingerprint,
        made({"a": other_reader, "b": seeds["b"]}).fingerprint,
        made({"a": replace(seeds["a"], fingerprint="other"), "b": seeds["b"]}).fingerprint,
    }
    assert len(prints) == 8
    assert made(seeds).fingerprint == made({"x": seeds["a"], "y": seeds["b"]}).fingerprint  # a name decides nothing


@pytest.mark.parametrize(
    ("members", "more", "message"),
    [
        ((), {}, "at least one member"),
        (("a", "a"), {}, 'members "m0" and "m1" are the same teacher'),
        (("a", "b"), {"weights": {"m0": 0.0}}, 'weight of the member "m0" must be above 0'),
        (("a", "b"), {"temperatures": {"m1": -1.0}}, 'temperature of the member "m1"'),
        (("a", "b"), {"weights": {"m7": 1.0}}, 'weights name "m7", which is no member'),
        (("a", "b"), {"space": "probability"}, 'did you mean "probabilities"'),
        (("a", "b"), {"supports": {"m0": [True, False], "m1": [True, False, True]}}, "masks over all labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ensembles_that_cannot_be(
    members: tuple[str, ...], more: dict[str, Any], message: str, seeds: dict[str, Loaded]
) -> None:
    with pytest.raises(UsageError, match=message):
        teachers.ensemble({f"m{i}": seeds[name] for i, name in enumerate(members)}, **more)


def test_heads_that_were_just_initialised_do_not_teach(
    seeds: dict[str, Loaded], tiny_encoder: Path, tiny_labels: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match='head of member "new" was just initialised'):
        teachers.ensemble({"a": seeds["a"], "new": open_bert(tiny_encoder, tiny_labels)})
    with pytest.raises(UsageError, match="without dots and slashes"):
        teachers.ensemble({"a/b": seeds["a"]})


def test_a_member_cannot_be_the_student(seeds: dict[str, Loaded]) -> None:
    """PITFALLS 17, one teacher further in: it would change while it teaches."""
    both = teachers.ensemble(seeds)
    with pytest.raises(UsageError, match="shares weights with its teacher"):
        Distillation({"student": Student(seeds["b"].model)}, [match.soft_labels()]).bind(Live(both.model))
    one = Several({"teacher": Live(seeds["a"].model), "teacher.b": Live(seeds["b"].model, name="teacher.b")})
    with pytest.raises(UsageError, match="shares weights with its teacher"):
        Distillation({"student": Student(seeds["b"].model)}, [match.soft_labels()]).bind(one)


def test_the_parent_of_a_student(seeds: dict[str, Loaded]) -> None:
    assert seeds["a"].parent is seeds["a"]
    assert teachers.ensemble(seeds).parent is seeds["a"]
    assert teachers.ensemble(seeds, weights={"b": 2.0}).parent is seeds["b"]
    masks = {"b": [True, True, True, False]}
    assert teachers.ensemble(seeds, weights={"b": 2.0}, supports=masks).parent is seeds["a"]


def test_calibration_is_a_temperature_that_validation_can_decide(seeds: dict[str, Loaded], tiny_texts: Texts) -> None:
    texts, ids = tiny_texts(80, seed=9)
    labels = np.array(ids)
    logits = 4 * seeds["b"].scores({"text": texts})
    labels[::5] = (labels[::5] + 1) % 4  # a fifth of the rows is wrong, and the teacher far too sure
    found, sentence = teachers.calibration(logits, labels)
    assert found == fit_temperature(logits, labels) > 2
    assert sentence == f"temperature {found:.3g}, fitted on 80 validation rows"
    right = logits.argmax(1)
    assert teachers.calibration(logits, right) == (
        1.0,
        "its 80 validation rows decide no temperature, so it stays at 1",
    )


def test_what_they_say_without_one(seeds: dict[str, Loaded], tiny_texts: Texts) -> None:
    texts = {"text": tiny_texts(12, seed=10)[0]}
    joined = teachers.ensemble(seeds, temperatures={"b": 1.5})
    said = [one.teacher.scores(texts) for one in joined.members]
    np.testing.assert_allclose(
        teachers.merged(joined.members, said, space=joined.space), joined.scores(texts), atol=1e-6
    )
    rest = teachers.merged(joined.members[1:], said[1:], space=joined.space)
    np.testing.assert_allclose(rest, log_softmax(said[1], temperature=1.5), atol=1e-5)


# --- several sources side by side ------------------------------------------------------------------------------------


class Source:
    """Says 0, 1, 2, ... of every row, and remembers what it was bound to and how often it was asked."""

    def __init__(self, name: str) -> None:
        self.name, self.bound, self.asked = name, frozenset(), 0
        self.fingerprint, self.provides = f"{name}!", frozenset({"logits", "hidden.1"})

    def bind(self, needs: frozenset[str]) -> None:
        self.bound = needs

    def targets(self, batch: Batch) -> Any:
        from understudy.records import Targets

        self.asked += 1
        return Targets({f"{self.name}.logits": torch.arange(3.0).expand(len(batch), 3)})


def test_a_need_goes_to_the_source_with_the_longest_name() -> None:
    parts = {name: Source(name) for name in ("teacher", "teacher.fr", "other")}
    several = Several(parts)
    several.bind({"teacher.logits", "teacher.fr.logits", "teacher.fr.hidden.1"})
    assert parts["teacher"].bound == {"teacher.logits"}
    assert parts["teacher.fr"].bound == {"teacher.fr.logits", "teacher.fr.hidden.1"}
    batch = Batch(keys=("a",), inputs={}, labels=None, masks={})
    said = several.targets(batch)
    assert set(said.signals) == {"teacher.logits", "teacher.fr.logits"}
    assert parts["other"].asked == 0  # nobody reads it
    assert "teacher.fr.hidden.1" in several.provides
    assert several.fingerprint != Several({"teacher": parts["teacher"]}).fingerprint
    with pytest.raises(UsageError, match=r'no source gives "techer\.logits": did you mean "teacher"'):
        several.bind({"techer.logits"})
    with pytest.raises(UsageError, match='give it name="fr"'):
        Several({"fr": parts["teacher"]})
    with pytest.raises(UsageError, match="at least one source"):
        Several({})


def test_a_source_that_knows_some_labels_teaches_those(seeds: dict[str, Loaded], tiny_texts: Texts) -> None:
    """Beside the whole teacher's KL stands the KL on the two labels that the other knows, both renormalised there."""
    texts, labels = tiny_texts(32, seed=11)
    support = [True, False, True, False]
    sources = Several(
        {
            "teacher": Live(seeds["a"].model),
            "teacher.fr": Live(seeds["b"].model, name="teacher.fr", order=seeds["b"].label_order, support=support),
        }
    )
    encoder = seeds["a"].encoder
    feed = Feed(Examples.of({"text": texts}, labels), {"student": encoder, "teacher": encoder, "teacher.fr": encoder})
    torch.manual_seed(0)

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(200, 8), nn.Linear(8, 4)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            mask = attention_mask[..., None].float()
            return self.head((self.table(input_ids) * mask).sum(1) / mask.sum(1))  # type: ignore[no-any-return]

    student = Bag()
    terms = [match.soft_labels(2.0, 0.5), match.soft_labels(1.0, 2.0, against="teacher.fr")]
    model = Distillation({"student": student}, terms)
    model.bind(sources)
    batch = feed.batch(np.arange(32))
    targets = sources.targets(batch)
    assert targets.of("teacher.fr").support[""].tolist() == support
    with torch.no_grad():
        sums = model(batch, targets)
        logits = student(**batch.inputs["student"]).double().numpy()

    def kl(teacher: np.ndarray, mine: np.ndarray, temperature: float) -> float:
        p, log_q = softmax(teacher, temperature=temperature), log_softmax(mine, temperature=temperature)
        return float((p * (log_softmax(teacher, temperature=temperature) - log_q)).sum())

    a, b = (seeds[name].scores({"text": texts}) for name in "ab")
    assert sums["soft_labels"].item() == pytest.approx(4 * kl(a, logits, 2.0), rel=1e-4)
    assert sums["soft_labels/teacher-fr"].item() == pytest.approx(kl(b[:, [0, 2]], logits[:, [0, 2]], 1.0), rel=1e-4)

    done = train(student, feed, objective=terms, teacher=sources, settings=Settings(epochs=2, learning_rate=1e-2))
    assert done.history[-1]["terms"]["soft_labels/teacher-fr"] < done.history[0]["terms"]["soft_labels/teacher-fr"]
