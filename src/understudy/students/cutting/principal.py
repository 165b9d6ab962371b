"""A narrower residual stream by principal components of its activations, and what is fitted to it on the same rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from understudy.features import Tap, capture
from understudy.students.cutting.axes import Axes
from understudy.students.cutting.scores import Rows, quiet, run, tokens


def directions(model: nn.Module, axes: Axes, rows: Rows, width: int) -> tuple[Tensor, float]:
    """The ``width`` directions of largest variance behind all norms, fp64 [H, width], and their share of the variance.

    Every norm weighs the same, whatever its scale. The largest entry of each direction, by size, is positive.
    """
    covariance = torch.zeros(axes.width, axes.width, dtype=torch.double)
    taps = {str(i): Tap(path) for i, path in enumerate(axes.norms)}
    with capture(model, taps) as inside, quiet(model):
        for batch in rows:
            run(model, batch)
            for name in taps:
                found = tokens(inside[name], batch)
                centred = found - found.mean(0)
                covariance += centred.T @ centred / centred.square().sum().clamp_min(1e-30)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    chosen = vectors.flip(1)[:, :width]
    signs = chosen.gather(0, chosen.abs().argmax(0, keepdim=True)).sign()
    return chosen * signs, float(values.flip(0)[:width].sum() / values.sum())


def fitted(model: nn.Module, axes: Axes, rows: Rows, basis: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What makes a projected stream less wrong, measured on rows.

    Args:
        model: the teacher.
        axes: of it.
        rows: real inputs.
        basis: fp64 [H, h], orthonormal columns.

    Returns:
        Scale and shift of every norm, fp64 [h], by their names: the least-squares fit, channel by channel, of the
        projected output of the teacher's norm on what a norm of h channels makes of its projected input. And for the
        bias of every linear layer that reads the stream what the dropped directions gave it on average, fp64 [out].
    """
    norms = {f"norm.{i}": path for i, path in enumerate(axes.norms)}
    readers = _readers(model, axes)
    taps = {name: Tap(path) for name, path in norms.items()}
    taps |= {f"given.{name}": Tap(path, given=True) for name, path in norms.items()}
    taps |= {path: Tap(path, given=True) for path in readers}
    sums: dict[str, Tensor] = {}
    means: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    with capture(model, taps) as inside, quiet(model):
        for batch in rows:
            run(model, batch)
            for name in (*norms, *readers):
                found = tokens(inside[name], batch)
                count[name] = count.get(name, 0) + len(found)
                if name in readers:
                    means[name] = means.get(name, 0) + found.sum(0)
                    continue
                given = tokens(inside[f"given.{name}"], batch) @ basis
                given = nn.functional.layer_norm(given, given.shape[-1:])
                wanted = found @ basis
                moments = (given.sum(0), wanted.sum(0), (given * given).sum(0), (given * wanted).sum(0))
                sums[name] = sums.get(name, 0) + torch.stack(moments)
    found_norms: dict[str, Tensor] = {}
    for name, path in norms.items():
        given, wanted, square, product = sums[name] / count[name]
        slope = (product - given * wanted) / (square - given * given).clamp_min(1e-12)
        found_norms |= {f"{path}.weight": slope, f"{path}.bias": wanted - slope * given}
    lost = torch.eye(axes.width, dtype=torch.double) - basis @ basis.T
    shifts = {}
    for path in readers:
        weight = model.get_parameter(f"{path}.weight").detach().double().cpu()
        shifts[f"{path}.bias"] = weight @ lost @ (means[path] / count[path])
    return found_norms, shifts


def projected(
    weights: Mapping[str, Tensor], norms: Mapping[str, Tensor], shifts: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights with shifted biases, to be carried over, and the norms that replace carried ones."""
    shifted = {
        name: value if name not in shifts else (value.double() + shifts[name].to(value.device)).to(value.dtype)
        for name, value in weights.items()
    }
    return shifted, {name: value.to(weights[name]) for name, value in norms.items() if name in weights}


def _readers(model: nn.Module, axes: Axes) -> list[str]:
    """Paths of the linear layers that are given the residual stream."""
    paths = [name.removesuffix(".weight") for name, kind in axes.kinds.items() if kind[1:] == ("width",)]
    return [path for path in paths if isinstance(model.get_submodule(path), nn.Linear)]
