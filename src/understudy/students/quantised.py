"""Modules that answer as their INT8 export will, with gradients as if nothing were rounded.

Rounding has no gradient; backwards it is taken for the identity (Bengio et al. 2013, arXiv 1308.3432; as a training for
integer arithmetic: Jacob et al. 2018, arXiv 1712.05877). What is rounded, and how, is exactly what the exporters write:

    dynamic      linear layers: weights int8 with one scale per output, inputs uint8 with one scale for the whole tensor
                 of a batch (ONNX's DynamicQuantizeLinear); embedding tables of many rows: one scale per row
    calibrated   linear layers and convolutions: the same weights; inputs, and what a ReLU gives, uint8 in the range
                 that they had on calibration rows; batch normalisation as in evaluation
    static       of a student that looks vectors up: whatever the exporter says that its file stands for

A scale per output commutes with folding a batch normalisation into its convolution, so that nothing has to be folded.
Parameters keep their names, so that a module trains, saves and loads as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from understudy.errors import UsageError, choices

Stored = Callable[[nn.Module], Mapping[str, Any]]
SCHEMES = ("dynamic", "calibrated", "static")
TABLE_ROWS = 1000  # a table with more rows is rounded by `export.quantise_dynamic`


def fake_quantised(
    module: nn.Module,
    scheme: str,
    *,
    rows: Iterable[Mapping[str, Any]] = (),
    stored: Stored | None = None,
    table_rows: int = TABLE_ROWS,
) -> nn.Module:
    """The same module, answering as its export of ``scheme`` does until `plain` undoes it.

    Args:
        module: takes encoded inputs by name; changed in place.
        scheme: ``dynamic``, ``calibrated`` or ``static``.
        rows: batches of inputs by name (arrays or tensors), for ``calibrated``: ranges are those on these.
        stored: for ``static``: module -> its parameters by name as they are stored (`export.static_values`).
        table_rows: tables with more rows than this are rounded (``dynamic``).

    Raises:
        UsageError: a scheme that is not known, ``calibrated`` without rows, ``static`` without ``stored``.
    """
    if scheme not in SCHEMES:
        raise UsageError(f'no INT8 scheme "{scheme}": {choices(scheme, SCHEMES)}')
    plain(module)
    if scheme == "calibrated":
        _calibrated(module, list(rows))
        return module
    if scheme == "static":
        if stored is None:
            raise UsageError("static rounding needs stored: what the exporter makes of the module's numbers")
        module.forward = partial(_looked_up, module, stored)
        return module
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.num_embeddings > table_rows:
            part.register_forward_hook(_Rows())
        elif type(part) is nn.Linear:
            part.forward = partial(_linear, part, None)  # type: ignore[method-assign]
            part.register_forward_pre_hook(_Range(dynamic=True).before)
    return module


def plain(module: nn.Module) -> nn.Module:
    """The same module without any rounding, in place; its parameters are what they have become."""
    for part in module.modules():
        if _changed(part):
            del part.forward
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if _ours(hook)]:
                del hooks[key]
    return module


def rounded_weights(weight: Tensor) -> Tensor:
    """A weight [outputs, ...] rounded symmetrically, one scale per output (max |w| / 127); its gradient passes.

    >>> rounded_weights(torch.tensor([[1.27, 0.004, -0.5], [0.0, 0.0, 0.0]])).tolist()[1]
    [0.0, 0.0, 0.0]
    """
    with torch.no_grad():
        most = weight.flatten(1).abs().amax(1).double()
        scale = torch.where(most > 0, most / 127, 1.0).float().view(-1, *[1] * (weight.ndim - 1))
        whole = (weight / scale).round().clamp(-127, 127) * scale
    return weight + (whole - weight).detach()


def rounded_activations(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values on the uint8 grid of [low, high], zero on it; the gradient passes where nothing is cut off.

    Source: DynamicQuantizeLinear and QuantizeLinear of the ONNX operators.
    """
    with torch.no_grad():
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = (high - low) / 255
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero = (-low / scale).clamp(0, 255).round()
        steps = (values / scale).round() + zero
        whole = (steps.clamp(0, 255) - zero) * scale
        inside = (steps >= 0) & (steps <= 255)
    kept = torch.where(inside, values, values.detach())
    return kept + (whole - values).detach()


class _Range:
    """One place where activations are rounded: in the range of the batch, or in that of the calibration rows."""

    def __init__(self, *, dynamic: bool = False) -> None:
        self.dynamic = dynamic
        self.watching = not dynamic
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    @property
    def step(self) -> Tensor | None:
        """The size of one step; None where calibration never got to."""
        if self.low is None or self.high is None:
            return None
        return (self.high.clamp(min=0) - self.low.clamp(max=0)) / 255

    def before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.round(inputs[0]), *inputs[1:])

    def after(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return self.round(output)

    def round(self, values: Tensor) -> Tensor:
        if self.dynamic:
            return rounded_activations(values, values.detach().amin(), values.detach().amax())
        if self.watching:
            low, high = values.detach().amin(), values.detach().amax()
            self.low = low if self.low is None else torch.minimum(low, self.low)
            self.high = high if self.high is None else torch.maximum(high, self.high)
        if self.watching or self.low is None or self.high is None:
            return values
        return rounded_activations(values, self.low.to(values.device), self.high.to(values.device))


class _Rows:
    """Rows of a table as they come out of it: rounding a row and looking it up commute."""

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return rounded_weights(output.flatten(0, -2)).view_as(output)


def _calibrated(module: nn.Module, rows: list[Mapping[str, Any]]) -> None:
    if not rows:
        raise UsageError("calibrated INT8 needs calibration rows, got none; give a few hundred of the training split")
    points: dict[nn.Module, _Range] = {}
    for part in module.modules():
        if type(part) in (nn.Linear, nn.Conv2d):
            points[part] = _Range()
            part.register_forward_pre_hook(points[part].before)
        elif isinstance(part, nn.ReLU):
            points[part] = _Range()
            part.register_forward_hook(points[part].after)
    # every point sees what it gets in fp32: rounding one layer must not narrow the range of the next
    training = module.training
    module.eval()
    with torch.no_grad():
        for batch in rows:
            module(**{name: torch.as_tensor(value) for name, value in batch.items()})
    module.train(training)
    folded = _folded(module)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            before = folded.get(part)
            part.forward = partial(_normalised, part, before, points.get(before))  # type: ignore[method-assign, arg-type]
        elif part in points:
            points[part].watching = False
            if type(part) is nn.Linear:
                part.forward = partial(_linear, part, points[part])  # type: ignore[method-assign]
            elif type(part) is nn.Conv2d:
                norm = part in folded.values()
                part.forward = partial(_convolution, part, None if norm else points[part])  # type: ignore[method-assign]


def _folded(module: nn.Module) -> dict[nn.Module, nn.Module]:
    """Batch normalisation -> the convolution that it will be part of."""
    pairs = [pair for part in module.modules() if isinstance(part, nn.Sequential) for pair in pairwise(part)]
    return {b: a for a, b in pairs if type(a) is nn.Conv2d and isinstance(b, nn.BatchNorm2d)}


def _linear(self: Any, point: _Range | None, values: Tensor) -> Tensor:
    weight = rounded_weights(self.weight)
    return F.linear(values, weight, _rounded_bias(self.bias, self.weight, point))


def _convolution(self: Any, point: _Range | None, values: Tensor) -> Tensor:
    bias = _rounded_bias(self.bias, self.weight, point)
    said: Tensor = self._conv_forward(values, rounded_weights(self.weight), bias)
    return said


def _normalised(self: Any, convolution: Any, point: _Range | None, values: Tensor) -> Tensor:
    """Batch statistics of training cannot be folded: the running ones count, and stay as they are."""
    said = F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
    if convolution is None:
        return said
    with torch.no_grad():
        factor = self.weight / torch.sqrt(self.running_var + self.eps)
        own = 0.0 if convolution.bias is None else convolution.bias
        bias = self.bias + (own - self.running_mean) * factor
        shift = _rounded_bias(bias, convolution.weight, point, factor) - bias
    return said + shift[:, None, None]


def _rounded_bias(bias: Any, weight: Tensor, point: _Range | None, factor: Any = 1.0) -> Any:
    """A bias on the grid of what it is added to, one step of the input times one step of the weights."""
    if bias is None or point is None or point.step is None:
        return bias
    with torch.no_grad():
        step = point.step.to(weight.device) * (weight.flatten(1).abs().amax(1) * factor).abs() / 127
        whole = torch.where(step > 0, (bias / step).round() * step, bias)
    return bias + (whole - bias).detach()


def _looked_up(self: Any, stored: Stored, *given: Any, **named: Any) -> Any:
    """The module's own forward with every stored parameter as its file gives it back."""
    with torch.no_grad():
        whole = {name: torch.as_tensor(value) for name, value in stored(self).items()}
    values = {
        name: parameter + (whole[name].to(parameter) - parameter).detach()
        for name, parameter in self.named_parameters()
        if name in whole
    }
    forward = self.__dict__.pop("forward")
    try:
        return functional_call(self, values, given, named)
    finally:
        self.forward = forward


_FORWARDS = (_linear, _convolution, _normalised, _looked_up)


def _changed(part: nn.Module) -> bool:
    return getattr(part.__dict__.get("forward"), "func", None) in _FORWARDS


def _ours(hook: Any) -> bool:
    return isinstance(hook, _Rows) or isinstance(getattr(hook, "__self__", None), _Range)
