"""What goes on inside a model: what named modules give or are given, by forward hooks that always come off."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from understudy.errors import UsageError


@dataclass(frozen=True)
class Tap:
    """Where inside a model a tensor is taken.

    Attributes:
        path: of the module, as in ``named_modules``.
        given: the first tensor that the module is given, instead of what it gives.
        item: which entry of a tuple or list that it gives; None: its first tensor.
        copy: keep a copy. Without one, what follows in place reaches what was kept.
    """

    path: str
    given: bool = False
    item: int | None = None
    copy: bool = True


class Capture:
    """Keeps what some modules give (or are given) at every forward of ``model``, until ``close()``.

    ``values`` maps a path to the tensor of the latest forward, gradient attached, in whatever shape the module gives.
    Of a tuple or list the first tensor is kept, of a mapping (a transformers ``ModelOutput``) the first tensor value.
    A forward empties ``values`` first, so nothing in it is older than that forward. A module that runs several times
    in one forward (shared layers) leaves its last output.

    What is kept is a copy: an in-place ReLU, or ``x += residual``, right after the module would otherwise overwrite it,
    and the second cannot be seen from outside.

    Args:
        model: any module.
        paths: module paths as in ``named_modules``, for example ``encoder.layer.3``; or name -> `Tap`, and the names
            are the keys of ``values``.

    Raises:
        UsageError: a path that the model does not have, with the nearest ones (no hook is left behind then), and
            during a forward a module whose output holds no tensor.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str] | Mapping[str, Tap]) -> None:
        self.values: dict[str, Tensor] = {}
        taps = dict(paths) if isinstance(paths, Mapping) else {path: Tap(path) for path in paths}
        self.paths = tuple(taps)
        modules = {name: find(model, tap.path) for name, tap in taps.items()}  # all are checked before any hook is set
        self._handles = [self._hooked(name, taps[name], module) for name, module in modules.items()]
        self._handles.append(model.register_forward_pre_hook(lambda module, given: self.values.clear()))

    def _hooked(self, name: str, tap: Tap, module: nn.Module) -> RemovableHandle:
        def keep(where: nn.Module, said: Any) -> None:
            entries = said if isinstance(said, (tuple, list)) else ()
            value = first_tensor(said if tap.item is None else next(iter(entries[tap.item :]), None))
            if value is None:
                verb, at = "was given" if tap.given else "gave", "" if tap.item is None else f" at {tap.item}"
                raise UsageError(
                    f"a tensor is wanted from {tap.path} ({type(where).__name__}), "
                    f"which {verb} {type(said).__name__} without one{at}"
                )
            self.values[name] = value.clone() if tap.copy else value

        if not tap.given:
            return module.register_forward_hook(lambda where, given, output: keep(where, output))
        return module.register_forward_pre_hook(
            lambda where, given, named: keep(where, (*given, *named.values())), with_kwargs=True
        )

    def close(self) -> None:
        """Takes the hooks off. May be called twice; ``values`` stay."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


@contextmanager
def capture(model: nn.Module, paths: Iterable[str] | Mapping[str, Tap]) -> Iterator[dict[str, Tensor]]:
    """What some modules of ``model`` give, or are given, refreshed at every forward inside the ``with``.

    The hooks come off at its end, after an exception too. See `Capture` for what is kept.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    >>> with capture(model, ["0"]) as inside:
    ...     _ = model(torch.zeros(1, 2))
    >>> inside["0"].shape
    torch.Size([1, 3])

    Raises:
        UsageError: a path that the model does not have, with the nearest ones.
    """
    captured = Capture(model, paths)
    try:
        yield captured.values
    finally:
        captured.close()


def find(model: nn.Module, path: str) -> nn.Module:
    """The module at ``path``, as ``named_modules`` names it, or the one module whose path ends with ``.path``.

    So ``encoder.layer.3`` is found in a BERT and in the same BERT under a head (``bert.encoder.layer.3``).

    Raises:
        UsageError: there is none, or several end so; with up to three of the nearest paths.
    """
    return model.get_submodule(full_path(model, path))


def full_path(model: nn.Module, path: str) -> str:
    """The whole path of what `find` finds.

    >>> full_path(nn.Sequential(nn.Sequential(nn.ReLU())), "0")
    '0'

    Raises:
        UsageError: as `find`.
    """
    with suppress(AttributeError):
        if path:
            model.get_submodule(path)
            return path
    known = [name for name, _ in model.named_modules() if name]
    ending = [name for name in known if path and name.endswith(f".{path}")]
    if len(ending) == 1:
        return ending[0]
    tail = path.rpartition(".")[2]
    near = difflib.get_close_matches(path, known, n=3, cutoff=0.6)
    near = near or [name for name in known if tail and name.rpartition(".")[2] == tail][:3]
    hint = f"nearest: {', '.join(near)}" if near else f"it begins with {', '.join(known[:6]) or 'no modules'}"
    raise UsageError(f'{type(model).__name__} has no module "{path}"; {hint}')


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that stands for a module's output: itself, or the first one in a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        return next((value for value in output if isinstance(value, torch.Tensor)), None)
    return None


def layer_stack(model: nn.Module, *, alike: bool = True) -> tuple[str, nn.ModuleList]:
    """Path and modules of the one stack of layers of a transformers model.

    Args:
        model: a transformers model, whose config says how many layers it has.
        alike: refuse layers that differ in shape: one cannot follow any other then.

    Raises:
        UsageError: there is none, or more than one, or its layers differ in shape; the message says which.
    """
    name = type(model).__name__
    depth = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    if not isinstance(depth, int):
        raise UsageError(
            f"a transformers model whose config says how many layers it has (num_hidden_layers) is wanted, got {name}"
        )
    lists = {path: module for path, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    fitting = {path: module for path, module in lists.items() if len(module) == depth}
    if not fitting:
        seen = ", ".join(f"{path} ({len(module)})" for path, module in lists.items()) or "no list of modules"
        raise UsageError(
            f"{name} cannot be cut: its config says {depth} layers and it has {seen}; "
            "models that share one layer, or that come in stages, have no layers to leave out"
        )
    if len(fitting) > 1:
        raise UsageError(f"{name} cannot be cut: several lists have {depth} modules ({', '.join(fitting)})")
    ((path, stack),) = fitting.items()
    shapes = {tuple((key, tuple(value.shape)) for key, value in layer.state_dict().items()) for layer in stack}
    if alike and len(shapes) > 1:
        raise UsageError(f"{name} cannot be cut: the layers of {path} differ in shape, so one cannot follow any other")
    return path, stack
