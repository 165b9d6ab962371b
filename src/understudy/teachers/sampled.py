"""Stored targets of language models: of every token that counts the teacher's head, and a sample of its tail.

    sample.ids        uint8 [M, B]      numbers of k tokens of the head and n of the tail, packed (`targets.packing`)
    sample.log_p      float16 [M, k + n], or in 8 bits uint8 [M, k + n]
    sample.log_mass   float32 [M]       of the tail

They are rows of a `targets.Store` like any others: by content, in any order, resumable. What was drawn of a row is a
function of (seed, content key), so that asking the same teacher again gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.data import Examples
from understudy.encoding import CausalEncoder
from understudy.errors import StoreError, UsageError
from understudy.files import content_hash
from understudy.objectives.sampled import Sampled, draw
from understudy.ragged import Ragged
from understudy.records import Batch, Targets
from understudy.targets import Store
from understudy.targets.packing import (
    EIGHT_BITS_ERROR,
    LOWEST,
    from_eight_bits,
    pack_ids,
    to_eight_bits,
    unpack_ids,
)
from understudy.teachers.label import asked, call, logits_of
from understudy.teachers.live import Live
from understudy.teachers.stored import refuse_written

IDS, LOG_P, LOG_MASS = "sample.ids", "sample.log_p", "sample.log_mass"
TEMPERATURE, VOCABULARY = "sample.temperature", "sample.vocabulary"
SIGNALS = ("sample.head", "sample.head_log_p", "sample.tail", "sample.tail_log_p", LOG_MASS, TEMPERATURE, VOCABULARY)
"""What a batch is given of them."""
_DIALS = ("k", "n", "temperature", "seed", "vocabulary")
BITS = "log_p_bits"
"""What a store's identity calls the bits of a log-probability, where they are not 16."""
_LOWEST = -6e4  # nats, of fp16: nothing; a store could not tell -inf from a fault
TOLERANCE = 0.05
"""Nats by which a log-probability may differ when it is asked again; half precision alone is off by 0.004 to -16."""
_POSITIONS = 64  # drawn at once
TokenScorer = Callable[[Sequence[int]], dict[str, Ragged]]


def tolerance(identity: Mapping[str, str]) -> float:
    """Nats by which a stored log-probability may differ from what the same teacher says when it is asked again."""
    return TOLERANCE + (EIGHT_BITS_ERROR if _bits_of(identity) == 8 else 0.0)


def said_error(dtype: str, lowest: float) -> dict[str, Any]:
    """How exact stored log-probabilities are: their bits, and the most nats by which one is off.

    Args:
        dtype: float16 or uint8, of the store.
        lowest: the least of them that is stored in 16 bits, which are coarser the further from 0.

    >>> said_error("float16", -12.0)["log_p_error"], round(said_error("uint8", 0.0)["log_p_error"], 3)
    (0.00390625, 0.078)
    """
    if dtype == "uint8":
        return {BITS: 8, "log_p_error": EIGHT_BITS_ERROR, "log_p_lowest": LOWEST}
    return {"log_p_bits": 16, "log_p_error": float(np.spacing(np.float16(-lowest))) / 2}


def sample_identity(
    encoder: CausalEncoder, *, k: int, n: int, temperature: float, seed: int, log_p_bits: int = 16
) -> dict[str, str]:
    """What the identity of a store says of samples, beside teacher and encoding."""
    said = (k, n, float(temperature), seed, encoder.size)
    fewer = {BITS: repr(log_p_bits)} if log_p_bits != 16 else {}
    return {name: repr(value) for name, value in zip(_DIALS, said, strict=True)} | fewer


def token_scorer(
    model: nn.Module,
    encoder: CausalEncoder,
    rows: Examples,
    *,
    k: int,
    n: int,
    temperature: float = 1.0,
    seed: int = 0,
    log_p_bits: int = 16,
    batch_size: int = 64,
) -> TokenScorer:
    """A function ``score(rows) -> signals`` for `Store.write` with ``dtype="given"``.

    Args:
        model: gives logits [N, P, V] of the encoder's inputs (`students.CausalLM`); tokens that the tokenizer does not
            have are padding of its head, and do not exist.
        encoder: whose tokens are counted.
        rows: that positions are of.
        k: tokens of the head, at least 1.
        n: tokens drawn from the tail, at least 1.
        temperature: of what is stored, in (0, inf).
        seed: of what is drawn.
        log_p_bits: 16, or 8: half the bytes, and an error of up to `targets.packing.EIGHT_BITS_ERROR` nats.
        batch_size: rows per forward; fewer where their logits would be too many.

    Raises:
        UsageError: other bits; k, n or temperature cannot be used (when it is called).
    """
    if log_p_bits not in (8, 16):
        raise UsageError(f"wanted log-probabilities in 16 bits or in 8, got {log_p_bits}")
    size = encoder.size

    def score(chosen: Sequence[int]) -> dict[str, Ragged]:
        features = encoder.encode({name: [rows.inputs[name][row] for row in chosen] for name in encoder.fields})
        order = np.argsort(encoder.lengths(features), kind="stable")
        found: list[Any] = [None] * len(chosen)
        most = min(batch_size, encoder.most_rows)
        device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
        with asked(model):
            for start in range(0, len(order), most):
                some = order[start : start + most]
                inputs, said = encoder.masked(features, some)
                logits = logits_of(call(model, {name: torch.from_numpy(a).to(device) for name, a in inputs.items()}))
                for place, row in enumerate(some.tolist()):
                    counted = int((said[place] >= 0).sum())
                    key = rows.keys[chosen[row]]
                    drawn = _drawn(logits[place, :counted, :size], k, n, temperature, generator_of(seed, key, device))
                    found[row] = _packed(drawn, size, k + n, log_p_bits)
        return {name: Ragged.of([one[name] for one in found]) for name in (IDS, LOG_P, LOG_MASS)}

    return score


class StoredTokens:
    """Stored samples in the place of a live teacher, for `objectives.sampled_tokens`.

    Args:
        store: written by `token_scorer`, with `sample_identity` in its identity.
        name: of this source: prefix of its signals.

    Raises:
        UsageError: a store of something else.
    """

    def __init__(self, store: Store, *, name: str = "teacher") -> None:
        missing = [dial for dial in _DIALS if dial not in store.identity]
        if missing:
            raise UsageError(f"the targets in {store.folder} are no samples of tokens: they say no {missing[0]}")
        self.store, self.name = store, name
        self.k, self.n, self.vocabulary = (int(store.identity[dial]) for dial in ("k", "n", "vocabulary"))
        self.temperature = float(store.identity["temperature"])
        self.log_p_bits = _bits_of(store.identity)

    @property
    def fingerprint(self) -> str:
        """Of the teacher, as the store knows it, of how it read the rows, and of what was drawn."""
        return self.store.fingerprint

    @property
    def provides(self) -> frozenset[str]:
        """Signals that can be bound."""
        return frozenset(SIGNALS)

    def bind(self, needs: Iterable[str]) -> None:
        """Resolves what will be asked for, before the first step.

        Raises:
            UsageError: a signal that is not stored: logits, states or head.
        """
        odd = sorted({need.removeprefix(f"{self.name}.") for need in needs} - self.provides)
        if odd:
            raise UsageError(
                f'the targets in {self.store.folder} are samples of tokens and do not hold "{odd[0]}": use '
                "sampled_tokens, or ask a live teacher (targets: live)"
            )

    def targets(self, batch: Batch) -> Targets:
        """What the teacher said about the tokens of the batch, [N, P, k], [N, P, n] and [N, P].

        Raises:
            StoreError: rows without stored targets; they are counted.
            UsageError: a batch that the student wrote.
        """
        refuse_written(batch, self.store)
        device = getattr(batch.labels, "device", torch.device("cpu"))
        width = batch.masks["words"].shape[1]
        read: Mapping[str, Any] = self.store.read(batch.keys, signals=(IDS, LOG_P, LOG_MASS))
        packed, mass = read[IDS], read[LOG_MASS].padded(0.0, width)
        numbers = packed.holding(unpack_ids(packed.values, self.vocabulary, self.k + self.n)).padded(0, width)
        ids = torch.from_numpy(numbers).to(device)
        stored = read[LOG_P]
        values = from_eight_bits(stored.values) if self.log_p_bits == 8 else stored.values
        log_p = torch.from_numpy(stored.holding(values).padded(0.0, width)).to(device).float()
        log_mass = torch.from_numpy(np.where(mass <= _LOWEST, np.float32(-np.inf), mass)).to(device)
        k, settled = self.k, settled_by(self)
        said = (ids[..., :k], log_p[..., :k], ids[..., k:], log_p[..., k:], log_mass, *settled)
        return Targets({f"{self.name}.{name}": value for name, value in zip(SIGNALS, said, strict=True)})


def settled_by(source: StoredTokens | Sampling) -> tuple[Tensor, Tensor]:
    """Temperature and vocabulary of samples; not on their device, where looking would stall a step."""
    return torch.tensor(source.temperature), torch.tensor(source.vocabulary)


def generator_of(seed: int, key: str, device: torch.device) -> torch.Generator:
    """What draws the sample of a row: a function of (seed, name of the row)."""
    return torch.Generator(device).manual_seed(int(content_hash("sample", str(seed), key), 16) % (1 << 63))


def _drawn(logits: Tensor, k: int, n: int, temperature: float, generator: torch.Generator) -> list[Sampled]:
    parts = logits.split(_POSITIONS) if len(logits) else ()
    return [draw(some, k=k, n=n, temperature=temperature, generator=generator) for some in parts]


def _bits_of(identity: Mapping[str, str]) -> int:
    return int(identity.get(BITS, "16"))


def _packed(drawn: Sequence[Sampled], vocabulary: int, width: int, bits: int) -> dict[str, np.ndarray]:
    """One row's arrays; of a row in which nothing counts they are empty."""
    if not drawn:
        nothing = np.zeros((0, width), np.uint8 if bits == 8 else np.float16)
        return {IDS: pack_ids(nothing.astype(np.int64), vocabulary), LOG_P: nothing, LOG_MASS: np.zeros(0, np.float32)}
    ids = torch.cat([torch.cat([one.head, one.tail], dim=-1) for one in drawn]).cpu().numpy()
    log_p = torch.cat([torch.cat([one.head_log_p, one.tail_log_p], dim=-1) for one in drawn]).cpu().numpy()
    mass = torch.cat([one.log_mass for one in drawn]).cpu().numpy()
    return {
        IDS: pack_ids(ids, vocabulary),
        LOG_P: to_eight_bits(log_p) if bits == 8 else np.maximum(log_p, _LOWEST).astype(np.float16),
        LOG_MASS: np.maximum(mass, _LOWEST).astype(np.float32),
    }


class Sampling:
    """A live language model that says what would be stored of it: for a look before anything is.

    Args:
        teacher: gives logits [N, P, V].
        vocabulary: tokens that exist.
        k, n, temperature, seed: as in `token_scorer`.
    """

    def __init__(self, teacher: Live, *, vocabulary: int, k: int, n: int, temperature: float, seed: int) -> None:
        self.teacher, self.name = teacher, teacher.name
        self.model = teacher.model
        self.vocabulary, self.k, self.n, self.temperature, self.seed = vocabulary, k, n, temperature, seed
        teacher.bind({"logits"})

    @property
    def provides(self) -> frozenset[str]:
        """Signals that can be bound."""
        return frozenset(SIGNALS)

    def bind(self, needs: Iterable[str]) -> None:
        """As `StoredTokens.bind`. Raises UsageError."""
        odd = sorted({need.removeprefix(f"{self.name}.") for need in needs} - self.provides)
        if odd:
            raise UsageError(f'samples of tokens do not hold "{odd[0]}": use sampled_tokens, or targets: live')

    def targets(self, batch: Batch) -> Targets:
        """As `StoredTokens.targets`."""
        logits = self.teacher.targets(batch)[f"{self.name}.logits"][..., : self.vocabulary]
        generator = generator_of(self.seed, " ".join(batch.keys), logits.device)
        drawn = draw(logits, k=self.k, n=self.n, temperature=self.temperature, generator=generator)
        said = (drawn.head, drawn.head_log_p, drawn.tail, drawn.tail_log_p, drawn.log_mass)
        signals = zip(SIGNALS, (*said, *settled_by(self)), strict=True)
        return Targets({f"{self.name}.{name}": value for name, value in signals})


def verify_tokens(
    store: Store, model: nn.Module, encoder: CausalEncoder, rows: Examples, n: int = 32, *, seed: int = 0
) -> dict[str, float]:
    """Asks the teacher again about stored rows: what it says of the very tokens that are stored.

    Args:
        store: of samples.
        model: as in `token_scorer`.
        encoder: whose tokens are counted.
        rows: some of which are stored.
        n: rows to ask about, at most.
        seed: of the choice.

    Returns:
        ``rows``, ``max_error`` (nats, among tokens of the head) and ``agreement``, the share of tokens whose likeliest
        is the stored one.

    Raises:
        StoreError: nothing to verify, or log-probabilities that are off by more than `tolerance` allows.
    """
    known = [row for row, key in enumerate(rows.keys) if not store.missing([key])]
    if not known:
        raise StoreError(f"none of the {len(rows):,} rows has targets in {store.folder}: there is nothing to verify")
    chosen = np.random.default_rng(seed).permutation(known)[:n]
    source = StoredTokens(store)
    error, same, tokens = 0.0, 0, 0
    lowest, allowed = LOWEST if source.log_p_bits == 8 else _LOWEST, tolerance(store.identity)
    features = encoder.encode({name: [rows.inputs[name][row] for row in chosen] for name in encoder.fields})
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    with asked(model):
        for place, row in enumerate(chosen.tolist()):
            inputs, said = encoder.masked(features, [place])
            masks = {"words": torch.from_numpy((said >= 0).astype(np.float32))}
            stored = source.targets(Batch((rows.keys[row],), {}, None, masks)).of(source.name)
            logits = logits_of(call(model, {name: torch.from_numpy(a).to(device) for name, a in inputs.items()}))
            log_p = torch.log_softmax(logits[..., : source.vocabulary].cpu() / source.temperature, dim=-1)
            there = masks["words"] != 0
            gap = (log_p.gather(-1, stored["sample.head"]) - stored["sample.head_log_p"])[there]
            gap = gap[stored["sample.head_log_p"][there] > lowest]
            error = max(error, float(gap.abs().max()) if len(gap) else 0.0)
            same += int((log_p.argmax(-1) == stored["sample.head"][..., 0])[there].sum())
            tokens += int(there.sum())
    if not error <= allowed:
        raise StoreError(
            f"these are another teacher's targets: log-probabilities in {store.folder} differ by up to {error:.3g} "
            f"(allowed {allowed:.2g}): name another --store, or delete that folder to label again"
        )
    return {"rows": len(chosen), "max_error": error, "agreement": same / max(tokens, 1)}
