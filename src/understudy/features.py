"""What goes on inside a model: the outputs of named modules, by forward hooks that always come off."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError


class Capture:
    """Keeps the outputs of some modules at every forward of ``model``, until ``close()``.

    ``values`` maps a path to the tensor of the latest forward, gradient attached, in whatever shape the module gives.
    Of a tuple or list the first tensor is kept, of a mapping (a transformers ``ModelOutput``) the first tensor value.
    A forward empties ``values`` first, so nothing in it is older than that forward. A module that runs several times
    in one forward (shared layers) leaves its last output.

    What is kept is a copy: an in-place ReLU, or ``x += residual``, right after the module would otherwise overwrite it,
    and the second cannot be seen from outside.

    Args:
        model: any module.
        paths: module paths as in ``named_modules``, for example ``encoder.layer.3``.

    Raises:
        UsageError: a path that the model does not have, with the nearest ones (no hook is left behind then), and
            during a forward a module whose output holds no tensor.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str]) -> None:
        self.values: dict[str, Tensor] = {}
        self.paths = tuple(dict.fromkeys(paths))
        modules = {path: find(model, path) for path in self.paths}  # every path is checked before any hook is set
        self._handles = [module.register_forward_hook(self._keeper(path)) for path, module in modules.items()]
        self._handles.append(model.register_forward_pre_hook(lambda module, given: self.values.clear()))

    def _keeper(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, given: Any, output: Any) -> None:
            value = first_tensor(output)
            if value is None:
                kind = type(output).__name__
                raise UsageError(
                    f"a tensor is wanted from {path} ({type(module).__name__}), which gave {kind} without one"
                )
            self.values[path] = value.clone()

        return keep

    def close(self) -> None:
        """Takes the hooks off. May be called twice; ``values`` stay."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


@contextmanager
def capture(model: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of some modules of ``model``, refreshed at every forward inside the ``with``.

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
    with suppress(AttributeError):
        if path:
            return model.get_submodule(path)
    known = [name for name, _ in model.named_modules() if name]
    ending = [name for name in known if path and name.endswith(f".{path}")]
    if len(ending) == 1:
        return model.get_submodule(ending[0])
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
