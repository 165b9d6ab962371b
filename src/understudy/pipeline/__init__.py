"""A recipe becomes a run: stages with fingerprints, a folder for the run and a store beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.pipeline.exporting import export_model
    from understudy.pipeline.preflight import check
    from understudy.pipeline.run import Run
    from understudy.pipeline.stages import demo, distill, distill_models, stage

__all__ = ["Run", "check", "demo", "distill", "distill_models", "export_model", "stage"]

_WHERE = {"check": "preflight", "Run": "run", "export_model": "exporting"}


def __getattr__(name: str) -> Any:
    # Recipes are read by commands that must not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{_WHERE.get(name, 'stages')}")
    return getattr(module, name)
