"""Several teachers as one: a module that gives their common logits, and everything that is needed to ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.files import content_hash
from understudy.statistics.calibration import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, fit_temperature
from understudy.teachers.function import Unrunnable
from understudy.teachers.joined import join
from understudy.teachers.label import Inputs, call, logits_of
from understudy.teachers.loaded import Loaded, Member
from understudy.teachers.merging import check_space, check_support, merge


class Ensemble(nn.Module):
    """Models that answer together, see `merging.merge`. Gives logits [N, K]: log-probabilities, or mean logits.

    >>> both = Ensemble({"a": nn.Linear(2, 3), "b": nn.Linear(2, 3)}, weights={"a": 2.0})
    >>> both(torch.ones(1, 2)).exp().sum().round(decimals=4).item()
    1.0

    Args:
        models: name -> module that gives logits.
        weights: name -> weight above 0; 1 where nothing is said. Only shares of the sum count.
        temperatures: name -> what its logits are divided by; 1 where nothing is said.
        orders: name -> its columns in the order of the labels that it knows; as they are where nothing is said.
        supports: name -> [K] bool, the labels that it knows; all where nothing is said.
        space: ``probabilities`` or ``logits``: what is averaged.
        reads: name -> prefix of its inputs; every model is given all inputs where nothing is said.

    Raises:
        UsageError: names that are no model's, a weight or temperature that is not above 0, or no such space.
        LabelError: label sets from which no common distribution follows.
    """

    weights: Tensor
    temperatures: Tensor
    support: Tensor | None

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        *,
        weights: Mapping[str, float] | None = None,
        temperatures: Mapping[str, float] | None = None,
        orders: Mapping[str, Sequence[int] | None] | None = None,
        supports: Mapping[str, Sequence[bool] | None] | None = None,
        space: str = "probabilities",
        reads: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        _refuse(models, weights=weights, temperatures=temperatures, orders=orders, supports=supports, reads=reads)
        self.names, self.space = tuple(models), space
        self.reads = tuple((reads or {}).get(name, "") for name in models)
        self.models = nn.ModuleList(models.values())
        self.register_buffer("weights", _numbers("weight", weights, models))
        self.register_buffer("temperatures", _numbers("temperature", temperatures, models))
        known = support_of(supports or {}, tuple(models))
        check_space(space, known)
        if known is not None:
            check_support(known, self.names)
        self.register_buffer("support", known)
        for i, name in enumerate(models):
            order = (orders or {}).get(name)
            self.register_buffer(f"order_{i}", None if order is None else torch.tensor(list(order)))

    def forward(self, *alone: Tensor, **inputs: Tensor) -> Tensor:
        """Logits [N, K] of inputs by name, ``prefix/name`` where members read differently; one input may have none."""
        named = {"": alone[0]} if alone else inputs
        said = []
        for i, (model, prefix) in enumerate(zip(self.models, self.reads, strict=True)):
            mine = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
            logits, order = logits_of(call(model, mine)), getattr(self, f"order_{i}")
            said.append(logits if order is None else logits[:, order])
        return merge(said, weights=self.weights, temperatures=self.temperatures, support=self.support, space=self.space)

    def extra_repr(self) -> str:
        """What decides the answers beside the weights of the members."""
        return f"{', '.join(self.names)}; {self.space}; reads {self.reads}"


def ensemble(
    teachers: Mapping[str, Loaded],
    *,
    weights: Mapping[str, float] | None = None,
    temperatures: Mapping[str, float] | None = None,
    supports: Mapping[str, Sequence[bool]] | None = None,
    space: str = "probabilities",
    label_names: Sequence[str] | None = None,
) -> Loaded:
    """Several teachers as one teacher, with one encoder: it is labelled, stored, run live and judged like any other.

    A teacher that is no module (``teachers.function``) may be among them; the ensemble is then none either.

    Args:
        teachers: name -> teacher, aligned with the labels that it knows.
        weights: name -> weight, 1 where nothing is said.
        temperatures: name -> temperature (see `calibration`), 1 where nothing is said.
        supports: name -> [K] bool, the labels that it knows; all where nothing is said.
        space: ``probabilities`` (log of the weighted mean of probabilities) or ``logits`` (weighted mean of logits).
        label_names: of the data, [K]; for messages.

    Raises:
        UsageError: no teachers, names that cannot be, the same teacher twice, or one whose head is fresh.
        LabelError: label sets from which no common distribution follows.
    """
    _refuse(teachers, weights=weights, temperatures=temperatures, supports=supports)
    masks = {name: tuple(bool(known) for known in mask) for name, mask in (supports or {}).items() if not all(mask)}
    members = tuple(
        Member(name, one, (weights or {}).get(name, 1.0), (temperatures or {}).get(name, 1.0), masks.get(name))
        for name, one in teachers.items()
    )
    _refuse_members(members)
    known = support_of({one.name: one.support for one in members}, tuple(teachers))
    check_space(space, known)
    if known is not None:
        check_support(known, tuple(teachers), label_names)
    for what, said in (("weight", weights), ("temperature", temperatures)):
        _numbers(what, said, teachers)
    encoder, reads = join({one.name: one.teacher.encoder for one in members})
    callables = [one.name for one in members if one.teacher.ask is not None]
    model: nn.Module = (
        Unrunnable(f"an ensemble with {callables[0]}, a function") if callables else _module(members, reads, space)
    )
    sizes = [one.teacher.bytes for one in members]
    return Loaded(
        model=model,
        encoder=encoder,
        alignment=None,
        fresh_head=False,
        description=f"{len(members)} teachers ({space}): {'; '.join(_described(members))}",
        fingerprint=_fingerprint(members, space),
        notes=tuple(f"{one.name}: {note}" for one in members for note in one.teacher.notes),
        ask=partial(_ask, members, space) if callables else None,
        bytes=None if None in sizes else sum(size for size in sizes if size is not None),
        members=members,
        space=space,
    )


def merged(members: Sequence[Member], said: Sequence[np.ndarray], *, space: str) -> np.ndarray:
    """What some members say together, from what each said (`Loaded.scores`): float32 [N, K].

    Raises:
        LabelError: they leave a label out, or nothing relates them.
    """
    known = support_of({one.name: one.support for one in members}, tuple(one.name for one in members))
    if known is not None:
        check_support(known, [one.name for one in members])
    joined = merge(
        [torch.from_numpy(np.ascontiguousarray(one)) for one in said],
        weights=torch.tensor([one.weight for one in members]),
        temperatures=torch.tensor([one.temperature for one in members]),
        support=known,
        space=space,
    )
    return joined.numpy()


def calibration(logits: np.ndarray, labels: np.ndarray) -> tuple[float, str]:
    """The temperature with which a member takes part, from validation, and the sentence about it.

    Rows that are all right would ask for temperature 0, rows of noise for infinity: neither can be fitted, and the
    teacher keeps 1, so that it is turned neither into hard labels nor into none.

    Args:
        logits: [N, K].
        labels: [N] in [0, K).
    """
    found = 1.0 if bool((logits.argmax(1) == labels).all()) else fit_temperature(logits, labels)
    if found == 1.0 or not LOWEST_TEMPERATURE * 1.01 < found < HIGHEST_TEMPERATURE * 0.99:
        return 1.0, f"its {len(labels)} validation rows decide no temperature, so it stays at 1"
    return found, f"temperature {found:.3g}, fitted on {len(labels)} validation rows"


def support_of(supports: Mapping[str, Sequence[bool] | None], names: Sequence[str]) -> Tensor | None:
    """Label sets as one mask [M, K], None where every source knows every label.

    Raises:
        UsageError: masks of different lengths.
    """
    given = {name: mask for name, mask in supports.items() if mask is not None}
    if len({len(mask) for mask in given.values()}) > 1:
        raise UsageError(
            f"supports are masks over all labels, got {', '.join(f'{n}: {len(m)}' for n, m in given.items())}"
        )
    if all(all(mask) for mask in given.values()):
        return None
    labels = len(next(iter(given.values())))
    return torch.tensor([[bool(known) for known in given.get(name, [True] * labels)] for name in names])


def _module(members: Sequence[Member], reads: Mapping[str, str], space: str) -> Ensemble:
    made = Ensemble(
        {one.name: one.teacher.model for one in members},
        weights={one.name: one.weight for one in members},
        temperatures={one.name: one.temperature for one in members},
        orders={one.name: one.teacher.label_order for one in members},
        supports={one.name: one.support for one in members},
        space=space,
        reads=reads,
    )
    return made.eval()


def _ask(members: Sequence[Member], space: str, inputs: Inputs) -> np.ndarray:
    return merged(members, [one.teacher.scores(inputs) for one in members], space=space)


def _fingerprint(members: Sequence[Member], space: str) -> str:
    """What decides the answers: not what the members are called."""
    parts = [
        (one.teacher.fingerprint, one.teacher.encoder.fingerprint, one.teacher.label_order, one.weight, one.temperature,
         one.support)
        for one in members
    ]  # fmt: skip
    return content_hash("ensemble-1", space, *map(repr, parts))


def _described(members: Sequence[Member]) -> list[str]:
    return [f"{one.name} ({one.teacher.description})" for one in members]


def _numbers(what: str, said: Mapping[str, float] | None, names: Mapping[str, Any]) -> Tensor:
    values = [float((said or {}).get(name, 1.0)) for name in names]
    for name, value in zip(names, values, strict=True):
        if not 0 < value < float("inf"):
            raise UsageError(f'the {what} of the member "{name}" must be above 0, got {value}')
    return torch.tensor(values)


def _refuse(names: Mapping[str, Any], **said: Mapping[str, Any] | None) -> None:
    """Names in any of the mappings that are no member's, and names that cannot be one."""
    if not names:
        raise UsageError("an ensemble needs at least one member, got none")
    for name in names:
        if not name or "/" in name or "." in name:
            raise UsageError(f'a member is called "{name}": wanted a name without dots and slashes')
    for what, mapping in said.items():
        for name in mapping or {}:
            if name not in names:
                raise UsageError(f'{what} name "{name}", which is no member: {choices(name, names)}')


def _refuse_members(members: Sequence[Member]) -> None:
    seen: dict[tuple[str, str, object], str] = {}
    for one in members:
        if one.teacher.fresh_head:
            raise UsageError(f'the head of member "{one.name}" was just initialised: train it before it teaches')
        if not one.teacher.fingerprint:
            raise UsageError(
                f'member "{one.name}" has not met the data: teachers.settle(it, label_names, inputs) first'
            )
        same = seen.setdefault((one.teacher.fingerprint, one.teacher.encoder.fingerprint, one.support), one.name)
        if same != one.name:
            raise UsageError(
                f'members "{same}" and "{one.name}" are the same teacher: name another model, or train each from a '
                "seed of its own (teacher.fine_tune=always)"
            )
