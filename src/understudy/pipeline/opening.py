"""A run's folder, opened by one process at a time, for one recipe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.errors import RecipeError, StoreError, UsageError
from understudy.files import write_text
from understudy.pipeline.asking import FREE
from understudy.pipeline.journal import LOCK, Journal, only_one
from understudy.pipeline.progress import Progress
from understudy.pipeline.recipe import Recipe, difference, load_recipe, to_yaml

ASKED = Path("stages") / "asked.yaml"  # the recipe as it was given; recipe.yaml has every decision filled in
CHOOSE = "choose"  # the stage that finds a student for `student: auto`
_OURS = {"log.jsonl", "stages"}


@contextmanager
def opened(recipe: Recipe, out: Path, *, fresh: bool, progress: Progress, amend: bool = False) -> Iterator[Journal]:
    """The journal of a run's folder: locked, its recipe the one that is given, stopping at good places when told to.

    ``amend``: the recipe may be another than the folder's, becomes it, and the log says what changed.

    Raises:
        StoreError: the folder holds something else, or another process works on it.
        RecipeError: it holds a run of another recipe; what differs is shown.
        UsageError: a store inside the run, which --fresh would delete, or that is a file.
    """
    refuse_places(recipe, out)
    with only_one(out):
        if fresh:
            for path in out.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        journal = Journal(out, progress)
        if amend:
            journal.log("amended", changed=difference(asked(out), recipe))
            write_text(out / ASKED, to_yaml(recipe))
        _refuse_other_recipe(recipe, out)
        with journal.signals():
            yield journal


def refuse_places(recipe: Recipe, out: Path) -> None:
    """Raises as `opened` does where a run or its store cannot be."""
    _refuse_foreign(out)
    store = store_of(recipe, out)
    if store.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"--store {recipe.store} lies inside the run {out}: a store outlives its runs, put it beside")
    if store.exists() and not store.is_dir():
        raise UsageError(f"--store {store} is a file: wanted a folder that is new or a store")


def store_of(recipe: Recipe, out: Path) -> Path:
    """Where teachers and targets are kept: as the recipe says, or beside the run.

    >>> store_of(load_recipe("demo"), Path("runs/tickets")).as_posix()
    'runs/.store'
    """
    if recipe.store:
        return Path(recipe.store)
    return (out if out.name not in ("", "..") else out.resolve()).parent / ".store"


def asked(folder: Path) -> Recipe:
    """The recipe that a run was started with.

    Raises:
        StoreError: the folder is no run.
    """
    if not (folder / ASKED).is_file():
        raise StoreError(f"{folder} is not a run: start one with understudy distill --out {folder}")
    try:
        return load_recipe(folder / ASKED)
    except RecipeError as error:
        raise StoreError(
            f"the recipe of the run {folder} cannot be read ({error}): start it over with --fresh (the store stays)"
        ) from None


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file: --out wants a folder that is empty, new or a run")
    if not out.is_dir() or (out / ASKED).is_file():
        return
    # what a start that was killed may leave; a folder of somebody else's may well have a "stages" in it
    begun = all(path.name in _OURS or path.name.startswith(LOCK) for path in out.iterdir())
    if not begun or any((out / "stages").glob("[!.]*")):
        raise StoreError(f"{out} holds files that are no run: choose an empty folder for --out")


def _refuse_other_recipe(recipe: Recipe, out: Path) -> None:
    done = {path.stem for path in (out / "stages").glob("*.json")} - {"data", CHOOSE}
    if not done:  # a first try that never got to its teacher binds nobody to its recipe, nor to its student
        if (out / ASKED).is_file() and (out / ASKED).read_text(encoding="utf-8") != to_yaml(recipe):
            (out / "stages" / f"{CHOOSE}.json").unlink(missing_ok=True)
        write_text(out / ASKED, to_yaml(recipe))
        return
    changed = difference(asked(out), recipe)
    if changed and all(line.startswith(tuple(f"{key}:" for key in FREE)) for line in changed):
        write_text(out / ASKED, to_yaml(recipe))
        return
    if changed:
        raise RecipeError(
            f"{out} holds a run of another recipe ({'; '.join(changed[:6])}): use another --out, or --fresh to start "
            "this run over (the store stays)"
        )
