"""How a model answers with signals: resolved once from what it is made of, run at every forward."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.features import Tap, capture, find, full_path
from understudy.signals.anatomy import Anatomy, linear_layers
from understudy.signals.hooks import Ended, asked_for, eager_attention, ending

_NUMBERED = ("hidden", "attention", "query", "key", "value")


@dataclass(frozen=True)
class Plan:
    """How a model answers with some signals: where to listen, what to ask for, where it may stop. Made by `resolve`.

    Attributes:
        needs: the signals.
        who: what errors call the model.
        taps: signal -> where inside the model it is taken.
        states: signal -> entry of the transformers model's output (``hidden_states``, ``attentions``), and index.
        heads: signal -> attention heads into which its last dimension is cut.
        linear: where ``features`` is asked for, the layers of which one gives the logits.
        speaker: path of the transformers model.
        end: what need not be gone beyond; None: the whole forward is needed.
    """

    needs: frozenset[str]
    who: str = "the model"
    taps: Mapping[str, Tap] = field(default_factory=dict)
    states: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)
    linear: tuple[str, ...] = ()
    speaker: str = ""
    end: Tap | None = None

    @property
    def eager(self) -> bool:
        """Whether attention probabilities are asked for, which only the eager implementation of attention gives."""
        asked = {signal.partition(".")[0] for signal in (*self.taps, *self.states)}
        return "attention" in asked

    def run(self, model: nn.Module, forward: Callable[[], Any], *, stop: bool = False) -> dict[str, Tensor]:
        """signal -> tensor of one forward, gradient attached. Every hook comes off, after an exception too.

        While attention is asked for, the model computes it eagerly, and goes back to what it was set to: about the
        memory of [N, heads, L, L] floats per layer more, and results that differ in the last digits.

        Args:
            model: the one that the plan was made for, or a copy of it.
            forward: calls it with one batch.
            stop: end the forward at ``end``, where there is one. Signals are the same, bit by bit.

        Raises:
            UsageError: an output without a signal, or a module that took no part in the forward.
        """
        speaker = model.get_submodule(self.speaker)
        spoken: list[Any] = []
        ended = Ended()
        output: Any = None
        with ExitStack() as hooks:
            inside = hooks.enter_context(capture(model, {**self.taps, **_linear_taps(self.linear)}))
            if self.eager:
                hooks.enter_context(eager_attention(speaker))
            if self.states:
                hooks.enter_context(asked_for(speaker, [entry for entry, _ in self.states.values()], spoken))
            if stop and self.end is not None:
                hooks.enter_context(ending(model.get_submodule(self.end.path), self.end.given, ended))
            try:
                output = forward()
            except Ended as caught:
                if caught is not ended:
                    raise
        kind = type(model).__name__
        missing = sorted(tap.path for signal, tap in self.taps.items() if signal not in inside)
        if missing:
            raise UsageError(f"{', '.join(missing)} of {kind} took no part in the forward")
        return {need: self._read(kind, need, inside, spoken, output) for need in sorted(self.needs)}

    def _read(self, kind: str, need: str, inside: Mapping[str, Tensor], spoken: list[Any], output: Any) -> Tensor:
        if need in self.taps:
            heads = self.heads.get(need)
            return inside[need] if heads is None else inside[need].unflatten(-1, (heads, -1)).transpose(1, 2)
        if need in self.states:
            entry, index = self.states[need]
            said = _part(spoken[-1], entry) if spoken else None
            if said is None or index >= len(said) or said[index] is None:
                raise UsageError(f'{self.who} ({kind}) gave no "{need}": its output has no {entry} {index}')
            state: Tensor = said[index]
            return state
        if need == "features" and self.linear:
            return self._features(kind, inside, output)
        value = _entry(output, need)
        if value is None:
            there = choices(need, map(str, output)) if isinstance(output, Mapping) else type(output).__name__
            raise UsageError(f'{self.who} ({kind}) gave no "{need}" in its output: {there}')
        return value

    def _features(self, kind: str, inside: Mapping[str, Tensor], output: Any) -> Tensor:
        logits = _entry(output, "logits")
        gave = {path: inside[f"gives {path}"] for path in self.linear if f"gives {path}" in inside}
        fitting = [path for path, said in gave.items() if logits is None or said.shape == logits.shape]
        if logits is not None and len(fitting) > 1:  # heads of exits are as wide: the one whose numbers these are
            fitting = [path for path in fitting if gave[path].data_ptr() == logits.data_ptr()]
        if len(fitting) != 1:
            raise UsageError(
                f'{self.who} ({kind}) gave no "features": of {", ".join(self.linear)} there is no one that gives its '
                'logits; name what the head is given ("input:PATH"), or announce "features" in the model\'s provides'
            )
        return inside[f"given {fitting[0]}"]


def resolve(model: nn.Module, needs: Iterable[str], who: str = "the model") -> Plan:
    """How ``model`` answers with the signals ``needs``, found once. Nothing in the plan is the model's own.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> plan = resolve(model, {"features", "module:0"})
    >>> {tap: at.path for tap, at in plan.taps.items()}, plan.linear
    ({'module:0': '0'}, ('2',))

    Raises:
        UsageError: a signal that the model cannot give, with what it can.
    """
    needs = frozenset(needs)
    inner = sorted(needs - _announced(model))
    anatomy = Anatomy.of(model) if inner else Anatomy()
    taps: dict[str, Tap] = {}
    states: dict[str, tuple[str, int]] = {}
    heads: dict[str, int] = {}
    linear: tuple[str, ...] = ()
    for need in inner:
        kind, _, number = need.rpartition(".")
        index = int(number) if number.isdecimal() else -1
        if need.startswith("module:"):
            taps[need] = Tap(full_path(model, need.removeprefix("module:")))
        elif need.startswith("input:"):
            taps[need] = Tap(full_path(model, need.removeprefix("input:")), given=True)
        elif need == "features":
            linear = _heads(model, who)
        elif index not in _numbers(anatomy, kind):
            raise UsageError(_refusal(model, anatomy, need, who))
        elif isinstance(place := _place(anatomy, kind, index), Tap):
            taps[need] = place
            heads |= {need: anatomy.heads[kind]} if kind in anatomy.heads else {}
        else:
            states[need] = place
    whole = states or linear or needs - taps.keys()
    end = None if whole else _end(model, anatomy, taps.values())
    plan = Plan(needs, who, taps, states, heads, linear, anatomy.speaker, end)
    if plan.eager:
        with eager_attention(model.get_submodule(plan.speaker)):
            pass  # one that cannot be switched is refused here, before the first step
    return plan


def signals_of(model: nn.Module) -> list[str]:
    """The signals that ``model`` can give by name; besides them, ``input:PATH`` and ``module:PATH`` of its modules.

    >>> signals_of(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
    ['features', 'logits']
    """
    anatomy = Anatomy.of(model)
    numbered = [f"{kind}.{index}" for kind in _NUMBERED for index in _numbers(anatomy, kind)]
    pooled = {"features"} if any(isinstance(module, nn.Linear) for module in model.modules()) else set()
    return [*sorted(_announced(model) | pooled), *numbered]


def _place(anatomy: Anatomy, kind: str, index: int) -> Tap | tuple[str, int]:
    """Where a numbered signal is: at a module, or in a tuple of the model's output."""
    if kind == "hidden":
        if anatomy.plain and index < anatomy.depth:  # the last one may have gone through a final norm
            return Tap(anatomy.layers[max(index - 1, 0)], given=index == 0, copy=False)
        return "hidden_states", index
    if kind == "attention":
        if anatomy.attentions:
            return Tap(anatomy.attentions[index - 1], item=1, copy=False)
        return "attentions", index - 1
    return Tap(anatomy.projections[kind][index - 1], copy=False)


def _end(model: nn.Module, anatomy: Anatomy, taps: Iterable[Tap]) -> Tap | None:
    """Where a forward has given every tap: the layer that the deepest of them is in.

    Only the layers of a transformers model are known to run once each, and in order. So there is no end where a tap
    is outside them, or on a module that occurs at several places (the last use counts).
    """
    if not anatomy.plain:
        return None
    deepest = -1
    for tap in taps:
        module = find(model, tap.path)
        places = [path for path, other in model.named_modules(remove_duplicate=False) if other is module]
        layer = next((i for i, at in enumerate(anatomy.layers) if f"{tap.path}.".startswith(f"{at}.")), None)
        if layer is None or len(places) != 1:
            return None
        first = tap.given and tap.path == anatomy.layers[0]
        deepest = max(deepest, -1 if first else layer)
    return Tap(anatomy.layers[0], given=True) if deepest < 0 else Tap(anatomy.layers[deepest])


def _heads(model: nn.Module, who: str) -> tuple[str, ...]:
    """The layers that may give the logits: the last linear one, and those of the same width (heads of exits)."""
    linear = linear_layers(model)
    if not linear:
        raise UsageError(
            f'{who} ({type(model).__name__}) cannot give "features", what its last linear layer is given: it has no '
            "nn.Linear; input:PATH names what any module is given"
        )
    return tuple(path for path, module in linear if module.out_features == linear[-1][1].out_features)


def _linear_taps(paths: Iterable[str]) -> dict[str, Tap]:
    gives = {f"gives {path}": Tap(path, copy=False) for path in paths}
    return gives | {f"given {path}": Tap(path, given=True) for path in paths}


def _announced(model: nn.Module) -> frozenset[str]:
    return frozenset({"logits", *getattr(model, "provides", ())})


def _numbers(anatomy: Anatomy, kind: str) -> range:
    """The indices that a kind of signal has in this model."""
    if kind == "hidden":
        return range(anatomy.depth + 1 if anatomy.depth else 0)
    there = anatomy.heads and (kind == "attention" or kind in anatomy.projections)
    return range(1, anatomy.depth + 1) if there else range(0)


def _refusal(model: nn.Module, anatomy: Anatomy, need: str, who: str) -> str:
    names = [name for name in signals_of(model) if "." not in name or name in _announced(model)]
    ranges = {kind: _numbers(anatomy, kind) for kind in _NUMBERED}
    names += [f"{kind}.{has[0]} to {kind}.{has[-1]}" for kind, has in ranges.items() if has]
    kind = need.rpartition(".")[0]
    known = [] if kind in ranges else difflib.get_close_matches(need, signals_of(model), n=1)
    near = f'did you mean "{known[0]}"? ' if known else ""
    why = ""
    if kind in ("query", "key", "value") and anatomy.depth and not ranges[kind]:
        fused = f"{anatomy.fused} gives query, key and value together"
        why = f" ({fused if anatomy.fused else f'its layers do not have just one {kind} projection each'})"
    return (
        f'{who} ({type(model).__name__}) cannot give "{need}"{why}; {near}it gives '
        f"{', '.join([*names, 'input:PATH', 'module:PATH'])}"
    )


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _entry(output: Any, name: str) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if name == "logits" else None
    found = _part(output, name)
    return found if isinstance(found, Tensor) else None
