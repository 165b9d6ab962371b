"""What pydantic found in a recipe, as sentences: which key, what was wanted, what came, what to do."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from understudy.errors import RecipeError, choices
from understudy.pipeline.sections import Recipe

_MOST_LINES = 3
_OPTIONS = {"data.path": "--data", "student.family": "--student"}
_QUOTES = 'YAML reads a bare yes, no, on or off as a boolean: write it in quotes, as in "yes"'


def recipe_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a recipe with its field, in the order of the page.

    >>> next(key for key, _ in recipe_keys() if key.startswith("train."))
    'train.epochs'
    """
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from recipe_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def nearest_key(wrong: str) -> str:
    """What to say about a dotted key that no recipe has.

    >>> nearest_key("objective.temperatur")
    'did you mean "objective.temperature"?'
    """
    known = [key for key, _ in recipe_keys()]
    leaves = {key.rpartition(".")[2]: key for key in reversed(known)}
    by_path = difflib.get_close_matches(wrong, known, n=1, cutoff=0.75)
    by_leaf = difflib.get_close_matches(wrong.rpartition(".")[2], leaves, n=1, cutoff=0.75)
    if by_path or by_leaf:
        return f'did you mean "{by_path[0] if by_path else leaves[by_leaf[0]]}"?'
    section = wrong.partition(".")[0]
    inside = [key for key in known if key.startswith(f"{section}.")]
    return choices(wrong, inside or {key.partition(".")[0] for key in known})


def _path(location: tuple[int | str, ...]) -> str:
    """The dotted key in pydantic's location, without the names of union members behind it."""
    model: Any = Recipe
    parts: list[str] = []
    for part in location:
        if isinstance(part, int) and (inner := _inside(model)) is not None:
            parts.append(str(part))
            model = inner
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            # a dictionary's own keys belong to the path; a union's members do not
            if "dict" in str(model) and isinstance(part, str) and part != "[key]":
                parts += [str(inner) for inner in location[len(parts) :] if inner != "[key]"]
            break
        parts.append(str(part))
        field = model.model_fields.get(str(part))
        model = field.annotation if field else None
    return ".".join(parts)


def _inside(annotation: Any) -> Any:
    """The section that a list holds, None for a list of anything else."""
    return next((one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _has_boolean(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_boolean(part) for pair in value.items() for part in pair)
    return isinstance(value, bool) or (isinstance(value, list) and any(map(_has_boolean, value)))


def _wanted(errors: list[Any], got: Any) -> str:
    literals: list[str] = []
    others: list[str] = []
    for error in errors:
        if error["type"] == "literal_error":
            literals += re.findall(r"'([^']*)'", error["ctx"]["expected"])
        elif error["type"] in ("model_type", "dict_type"):
            others.append("a mapping of keys to values")
        elif error["type"].startswith("bool"):
            others.append("true or false")
        else:
            text = re.sub(r"^(Input|String|Value) should (be |have )?", "", error["msg"])
            others.append(text.partition(", unable")[0].partition(", got")[0].replace("a valid ", "a "))
    others = [text.replace("a integer", "an integer").replace("a tuple", "a list") for text in others]
    if literals and not others:
        return choices(got, literals)
    return "wanted " + " or ".join(dict.fromkeys(others + literals))


def _sentence(path: str, errors: list[Any], origin: str) -> str:
    error = errors[0]
    got, kind = error["input"], error["type"]
    where = f" ({origin})" if origin else ""
    if kind == "missing":
        option = _OPTIONS.get(path)
        return f"{path} is missing: " + (
            f"{option} says it, or {path} in a recipe" if option else "the recipe needs it"
        )
    if kind == "extra_forbidden":
        hint = f"; {_QUOTES}" if _has_boolean(got) else ""
        return f"{path} is not a key of a recipe{where}: {nearest_key(path)}{hint}"
    if kind == "value_error":
        return f"{error['msg'].removeprefix('Value error, ')}{where}"
    if kind == "stray_boolean" or (kind == "string_type" and _has_boolean(got)):
        return f"{path}: got {_shown(got)}{where}; {_QUOTES}"
    quotes = "; write it in quotes" if kind == "string_type" and not isinstance(got, dict | list) else ""
    return f"{path}: got {_shown(got)}{where}, {_wanted(errors, got)}{quotes}"


def explain(found: ValidationError, origins: Mapping[str, str]) -> RecipeError:
    """One line per problem, at most three.

    Args:
        found: what pydantic said.
        origins: dotted key -> where it was set ("tickets.yaml", "--set"); absent for options.
    """
    grouped: dict[str, list[Any]] = {}
    for error in found.errors(include_url=False):
        grouped.setdefault(_path(error["loc"]), []).append(error)
    lines = [_sentence(path, errors, origins.get(path, "")) for path, errors in grouped.items()]
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1] += f" (and {len(lines) - _MOST_LINES} more)"
    return RecipeError("\n".join(lines[:_MOST_LINES]))
