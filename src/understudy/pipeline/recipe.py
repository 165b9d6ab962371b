"""Recipes: read, merged, checked, compared, written.

Defaults give way to a recipe file or name, that to options, and those to ``--set``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml
from pydantic import ValidationError

from understudy.errors import RecipeError, choices
from understudy.pipeline.named import NAMED
from understudy.pipeline.plain_yaml import read_yaml
from understudy.pipeline.ranges import Section
from understudy.pipeline.recipe_problems import explain, nearest_key, recipe_keys
from understudy.pipeline.sections import Data, Evaluation, Export, Objective, Recipe, Step, Student, Train
from understudy.pipeline.teacher_section import Teacher

__all__ = [
    "NAMED",
    "Data",
    "Evaluation",
    "Export",
    "Objective",
    "Recipe",
    "Section",
    "Step",
    "Student",
    "Teacher",
    "Train",
    "difference",
    "load_recipe",
    "recipe_keys",
    "schema",
    "to_yaml",
    "with_values",
]


def load_recipe(
    file_or_name: str | Path | None = None, *, options: Mapping[str, Any] | None = None, sets: Sequence[str] = ()
) -> Recipe:
    """The recipe of one run: defaults < recipe file or name < options < sets.

    Args:
        file_or_name: a YAML file, a key of ``NAMED``, or None.
        options: dotted key -> value; None means "not said". Strings that hold numbers are read as numbers.
        sets: ``a.b=c`` texts, c in YAML.

    Raises:
        RecipeError: one line per problem, at most three, each with its dotted key.

    >>> recipe = load_recipe(options={"data.path": "d.csv", "student.family": "static"}, sets=["train.epochs=3"])
    >>> recipe.train.epochs
    3
    """
    merged: dict[str, Any] = {"data": {}, "student": {}}
    origins: dict[str, str] = {}
    if file_or_name is not None:
        _merge(merged, _read(str(file_or_name)), origins, origin=PurePath(str(file_or_name)).name)
    for key, value in (options or {}).items():
        if value is not None:
            _merge(merged, _nested(key, str(value) if isinstance(value, PurePath) else value), origins, origin="")
    for text in sets:
        _merge(merged, _setting(text), origins, origin="--set")
    recipe = _validated(merged, origins)
    _refuse_idle_dials(recipe, origins)
    return recipe


def _refuse_idle_dials(recipe: Recipe, origins: Mapping[str, str]) -> None:
    """A dial that was set and that nothing reads is an error, not a surprise."""
    terms = recipe.objective.terms
    if terms is None or any("shorthand" in entry for entry in terms):
        return
    for dial, usual in (("temperature", None), ("alpha", Objective.model_fields["alpha"].default)):
        if dial == "temperature" and any("sampled_tokens" in entry for entry in terms):
            continue  # samples are stored at it
        if f"objective.{dial}" in origins and getattr(recipe.objective, dial) != usual:
            raise RecipeError(
                f"objective.{dial} would change nothing: the objective is a list of terms without shorthand "
                f"({', '.join(name for entry in terms for name in entry)}); set it in the terms themselves"
            )


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The same recipe with some dotted keys set: how the pipeline writes its decisions down.

    >>> recipe = load_recipe(options={"data.path": "d", "student.family": "cnn"})
    >>> with_values(recipe, {"student.width": 32}).student.width
    32
    """
    merged = recipe.model_dump()
    for key, value in values.items():
        _merge(merged, _nested(key, value), {}, origin="")
    return _validated(merged, {})


def difference(was: Recipe, now: Recipe) -> list[str]:
    """What changed, one line per key: ``train.epochs: was 3, now 5``.

    >>> recipe = load_recipe(options={"data.path": "d", "student.family": "cnn"})
    >>> difference(recipe, with_values(recipe, {"seed": 7}))
    ['seed: was 0, now 7']
    """
    before, after = dict(_flat(was.model_dump(mode="json"))), dict(_flat(now.model_dump(mode="json")))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: was {_word(before.get(key))}, now {_word(after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML, every key of it; ``load_recipe`` reads it back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe file, for editors and for ``understudy schema``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def _read(file_or_name: str) -> Mapping[str, Any]:
    path = Path(file_or_name)
    if file_or_name in NAMED and not path.is_file():
        path = NAMED[file_or_name]
    try:
        said = read_yaml(path.read_text(encoding="utf-8"), where=path.name)
    except UnicodeDecodeError:
        raise RecipeError(f"{file_or_name}: wanted YAML in UTF-8, got bytes that are not text") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        folder = path.parent
        beside = [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml")] if folder.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=3)
        near = f"did you mean {' or '.join(close)}?" if close else choices(path.name, NAMED)
        reason = "no such recipe" if isinstance(error, FileNotFoundError | ValueError) else error.strerror
        reason = "it is a folder, wanted a YAML file" if isinstance(error, IsADirectoryError) else reason
        raise RecipeError(f"{file_or_name}: {reason}; {near}") from None
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise RecipeError(f"{path.name}: wanted a mapping such as `train: {{epochs: 3}}`, got a {type(said).__name__}")
    return said


def _setting(text: str) -> Mapping[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise RecipeError(f'--set {text}: wanted key=value, as in --set train.epochs=3, got "{text}"')
    section = key.partition(".")[0]
    known = {name for name, _ in recipe_keys()}
    if (
        key not in known
        and not key.startswith(("export.floors.", "teacher.members."))
        and key not in {k.partition(".")[0] for k in known}
    ):
        raise RecipeError(f"--set {text}: {key} is not a key of a recipe: {nearest_key(key)}")
    if section == "export" and key.startswith("export.floors."):
        return {"export": {"floors": {key.removeprefix("export.floors."): read_yaml(value, where=f"--set {key}")}}}
    return _nested(key, read_yaml(value, where=f"--set {key}"))


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _merge(into: dict[str, Any], new: Mapping[Any, Any], origins: dict[str, str], *, origin: str, at: str = "") -> None:
    for key, value in new.items():
        path = f"{at}{key}"
        origins[path] = origin
        if key in Recipe.model_fields and not at and value is None and key in _SECTIONS:
            continue  # `train:` with nothing behind it
        if isinstance(value, Mapping) and isinstance(into.get(key, {}), dict):
            below = into.setdefault(key, {})
            _merge(below, value, origins, origin=origin, at=f"{path}.")
        else:
            into[key] = list(value) if isinstance(value, tuple) else value


_SECTIONS = frozenset(key.partition(".")[0] for key, _ in recipe_keys() if "." in key)


def _validated(merged: dict[str, Any], origins: Mapping[str, str]) -> Recipe:
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise explain(error, origins) from None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _word(value: Any) -> str:
    return "unset" if value is None else str(value)
