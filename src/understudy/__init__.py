"""Understudy distils a large model into a small one and proves what was kept.

>>> import understudy as us
>>> run = us.distill(teacher="./my-bert", data="./tickets", student="static", out="runs/tickets")  # doctest: +SKIP
>>> run.artefact.predict(["where is my card?"])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.pipeline import Run, distill_models
    from understudy.teachers import Loaded

__all__ = ["__version__", "distill", "distill_models"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "distill_models":  # the second level; torch is imported when it is asked for
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from understudy.pipeline import distill_models

    return distill_models


def distill(
    teacher: str | Path | Loaded | Callable[..., Any] | None,
    data: str | Path,
    student: str,
    out: str | Path,
    *,
    recipe: str | Path | None = None,
    fresh: bool = False,
    **settings: Any,
) -> Run:
    """The main job: train a student to play the teacher's part, export it, prove what was kept.

    Args:
        teacher: folder or name of a transformers model, or ``cnn`` or ``mlp`` for images; a teacher that is loaded
            already; any callable or scikit-learn estimator that ``teachers.function`` takes; None: the recipe names it.
        data: folder with ``train|validation|test|unlabelled.{parquet,csv,jsonl}``, one file, or a data set name.
        student: a family, such as ``static`` or ``cut`` for text, ``cnn`` or ``mlp`` for images; ``auto`` chooses one
            and its sizes for ``export__max_mb`` and ``export__max_ms``.
        out: the run's folder; the same call again resumes or reuses it.
        recipe: a YAML file or the name of a recipe; what is said here goes before it.
        fresh: starts the run over.
        settings: any dial of the recipe, its dots written as two underscores (``train__epochs=3``, ``seed=1``).

    Returns:
        The run: ``run.summary()``, ``run.facts``, ``run.artefact.predict(rows)``.

    Raises:
        understudy.errors.UnderstudyError: in one line what is wrong and what to do; see the tree in ``errors``.
    """
    from understudy.pipeline.recipe import load_recipe

    named = str(teacher) if isinstance(teacher, str | Path) else None
    options = {"teacher.path": named, "data.path": str(data), "student.family": student}
    options |= {name.replace("__", "."): value for name, value in settings.items()}
    wanted = load_recipe(recipe, options=options)
    if named is not None or teacher is None:
        from understudy.pipeline import distill as run_distill

        return run_distill(wanted, Path(out), fresh=fresh)
    from understudy.pipeline import distill_models
    from understudy.pipeline.stages import load_splits
    from understudy.teachers import Loaded, function

    rows = load_splits(wanted)[1]
    loaded = teacher if isinstance(teacher, Loaded) else function(teacher, fields=tuple(rows.train.inputs))
    return distill_models(loaded, rows, wanted, Path(out), fresh=fresh)
