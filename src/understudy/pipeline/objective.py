"""From a recipe's objective to terms: names are looked up among the builders of one module, layers in the models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from understudy import objectives as match
from understudy import students
from understudy.errors import RecipeError, UsageError, choices
from understudy.objectives import Term, schedules
from understudy.pipeline.recipe import Recipe
from understudy.pipeline.samples import heard, sampled
from understudy.signals import layers_of
from understudy.tasks import Task, task_named

SHORTHAND = "shorthand"
EVERYBODY, OTHERS, EXITS = "each", "others", "exits"
BY_NUMBER = ("attention_maps", "self_attention_relations")  # their layers are numbers: they read several signals of one
BY_POSITION = ("embeddings", "hidden_states", "hints", "variational_information")  # tokens, where there are any

Entry = tuple[str, dict[str, Any]]


def entries(recipe: Recipe) -> list[Entry]:
    """The terms of a recipe as (name, arguments); ``shorthand`` where it has no list of its own."""
    if recipe.objective.terms is None:
        return [(SHORTHAND, {})]
    return [(name, dict(arguments)) for entry in recipe.objective.terms for name, arguments in entry.items()]


def refuse_terms(recipe: Recipe) -> None:
    """Checks names and arguments of every term, before any model is there.

    Raises:
        RecipeError: no such term, or no such argument, with what there is.
    """
    for name, arguments in entries(recipe):
        _refuse(name, arguments)


def refuse_silence(recipe: Recipe, key: str = "objective") -> None:
    """Checks that a training teaches the student's answers: features alone leave its head untrained.

    Raises:
        RecipeError: no term of the objective reads the student's logits.
    """
    rows = {row["name"]: row["needs"]["learner"] for row in match.describe() if row["kind"] == "term"}
    heard = [name for name, arguments in entries(recipe) if arguments.get("of", "student") in ("student", EVERYBODY)]
    if not any(name == SHORTHAND or not {"logits", "head"}.isdisjoint(rows[name]) for name in heard):
        raise RecipeError(
            f"{key}.terms: nothing that is taught there ({', '.join(heard) or 'no term'}) reads the student's "
            "logits, so its answers would stay as they were drawn: add shorthand, or soft_labels, or make it a step"
        )


def reads_only_logits(recipe: Recipe) -> bool:
    """Whether stored logits are all that the objective wants of its teacher."""
    rows = {row["name"]: set(row["needs"]["source"]) for row in match.describe() if row["kind"] == "term"}
    mine = (name for name, arguments in entries(recipe) if arguments.get("against", "teacher") == "teacher")
    return all(rows.get(name, set()) <= {"logits"} for name in mine)


def aligning(recipe: Recipe) -> list[str]:
    """The terms of a recipe that compare student and teacher token by token."""
    inner = [arguments.get("term") for _, arguments in entries(recipe)]
    names = [name for name, _ in entries(recipe)]
    names += [str(name) for one in inner if isinstance(one, Mapping) for name in one]
    return [name for name in names if name in (*BY_NUMBER, *BY_POSITION, "neuron_selectivity")]


def build(recipe: Recipe, cohort: Mapping[str, nn.Module], teacher: nn.Module | None) -> list[Term]:
    """The terms of a recipe for these models.

    ``of: each`` stands for every student of the cohort, ``of: exits`` for every exit of the student, ``against:
    others`` for every other student, the weight divided by their number. ``layers: uniform``, ``last`` or ``top`` is
    worked out from the layers of both models; a weight may be a schedule, ``{linear: {weight: 1, steps: 100}}``.

    Raises:
        RecipeError: a name, an argument, or a layer map that cannot be.
    """
    return [term for name, arguments in entries(recipe) for term in _terms(recipe, name, arguments, cohort, teacher)]


def without_teacher(cohort: Mapping[str, nn.Module], hard: Callable[..., Term] = match.hard_labels) -> list[Term]:
    """What the twin hears: the labels, by the term of its task, at every output of the student that has them."""
    return [hard(), *(hard(of=name) for name in exits_of(cohort["student"]))]


def exits_of(student: nn.Module) -> list[str]:
    """Names of a student's exits, from the shallowest: ``exit.0``, ``exit.1``.

    >>> exits_of(nn.Linear(1, 1))
    []
    """
    given = {name.rpartition(".")[0] for name in getattr(student, "provides", ()) if name.startswith("exit.")}
    return sorted(given, key=lambda name: int(name.removeprefix("exit.")))


def _terms(
    recipe: Recipe, name: str, arguments: dict[str, Any], cohort: Mapping[str, nn.Module], teacher: nn.Module | None
) -> list[Term]:
    _refuse(name, arguments)
    if name == SHORTHAND:
        alpha, temperature = recipe.objective.alpha, recipe.objective.temperature
        share = 0.1 if alpha == "auto" else float(alpha)
        if sampled(recipe):
            return heard(share)
        return _task(recipe).shorthand(
            share,
            1.0 if temperature in (None, "auto") else float(str(temperature)),
        )
    learners = {EVERYBODY: list(cohort), EXITS: exits_of(cohort["student"])}
    for key, value in arguments.items():
        if key in ("of", "against", "name", "per") and not isinstance(value, str):
            raise RecipeError(f"objective.terms: {name}: wanted {key} as a name, got {value!r}")
        if isinstance(value, bool):
            raise RecipeError(f"objective.terms: {name}: {key}: got {str(value).lower()}, and no term takes yes or no")
    of = arguments.get("of", "student")
    if of == EXITS and not learners[EXITS]:
        raise RecipeError(f"objective.terms: {name} is of: exits, and the student has none: set student.exits: all")
    found = []
    for learner in learners.get(of, [of]):
        against = arguments.get("against")
        sources = [one for one in cohort if one != learner] if against == OTHERS else [against]
        if not sources:
            raise RecipeError(f"objective.terms: {name} is against: others, and there is no other student: set peers")
        for source in sources:
            said = arguments | ({"of": learner} if "of" in arguments else {})
            said |= {} if source is None else {"against": source}
            term = _built(name, said, cohort, teacher, share=1 / len(sources))
            found.append(term if "per" in arguments else _counted(term, _task(recipe).per))
    return found


def _task(recipe: Recipe) -> Task:
    return task_named(recipe.task or "text-classification")


def _counted(term: Term, per: str) -> Term:
    """A term on logits that counts what the task's logits are of."""
    return replace(term, per=per) if term.per == "examples" and term.needs.learner == {"logits"} else term


def _built(
    name: str, arguments: Mapping[str, Any], cohort: Mapping[str, nn.Module], teacher: nn.Module | None, share: float
) -> Term:
    builder: Any = getattr(match, name)
    said = {key: _value(key, value, cohort, teacher) for key, value in arguments.items()}
    learner = cohort[_owner(str(arguments.get("of", "student")), cohort)]
    source = cohort.get(_owner(str(arguments.get("against", "teacher")), cohort, default="teacher"), teacher)
    takes = inspect.signature(builder).parameters
    if isinstance(said.get("layers"), str):
        said["layers"] = _layers(said["layers"], learner, source, by_number=name in BY_NUMBER)
    elif isinstance(said.get("layers"), Mapping):  # JSON has no numbers for keys
        said["layers"] = {_numbered(mine): _numbered(theirs) for mine, theirs in said["layers"].items()}
    if name in BY_POSITION and "per" not in said:
        said["per"] = "tokens" if _reads_tokens(learner) else "examples"
    if "layers" in takes and "layers" not in said:
        raise RecipeError(f"objective.terms: {name} wants layers: uniform, last, top, or student: teacher pairs")
    term: Term = _tried(builder, name, said, of=arguments)
    return replace(term, weight=_times(term.weight, share)) if share != 1 else term


def _numbered(layer: Any) -> Any:
    return int(layer) if isinstance(layer, str) and layer.isdigit() else layer


def _times(weight: Any, share: float) -> Any:
    return schedules.Schedule(weight, lambda step: share, f"{share:g}") if callable(weight) else weight * share


def _owner(output: str, cohort: Mapping[str, nn.Module], default: str = "student") -> str:
    if output == "self" or output.startswith("exit."):
        return "student"
    return next((name for name in cohort if output == name or output.startswith(f"{name}.")), default)


def _reads_tokens(module: nn.Module) -> bool:
    inner = module.model if isinstance(module, students.Exits) else module
    return "attention_mask" in inspect.signature(inner.forward).parameters


def _layers(kind: str, student: nn.Module, teacher: nn.Module | None, *, by_number: bool) -> dict[Any, Any]:
    mine, theirs = layers_of(student), [] if teacher is None else layers_of(teacher)
    for who, model, there in (("student", student, mine), ("teacher", teacher, theirs)):
        if not there:
            raise RecipeError(
                f"objective.terms: layers: {kind} wants layers on both sides, and the {who} "
                f"({type(model).__name__}) has none; choose a cut, cnn or mlp student, or terms on features or logits"
            )
    pairs = match.layer_map("last", mine[-1:], theirs) if kind == "top" else match.layer_map(kind, mine, theirs)
    if not by_number:
        return dict(pairs)
    if not all(name.startswith("hidden.") for name in [*mine, *theirs]):
        raise RecipeError("objective.terms: attention wants transformers on both sides")
    return {int(mine_.partition(".")[2]): int(theirs_.partition(".")[2]) for mine_, theirs_ in pairs.items()}


def _value(key: str, value: Any, cohort: Mapping[str, nn.Module], teacher: nn.Module | None) -> Any:
    """What YAML can say of a weight, a divergence with settings, or a wrapped term."""
    if key == "weight" and not isinstance(value, int | float):
        kind, dials = _one(value, "a number, or a schedule such as {linear: {weight: 1, steps: 500}}", key)
        return _called(schedules, kind, dials, known=("cosine", "linear", "off_after", "step"))
    if key == "divergence" and not isinstance(value, str):
        kind, dials = _one(value, "a name, or a name with settings such as {jensen_shannon: {beta: 0.1}}", key)
        known = [row["name"] for row in match.describe() if row["kind"] == "divergence"]
        if kind not in known:
            raise RecipeError(f'objective.terms: no divergence "{kind}": {choices(kind, known)}')
        _takes(getattr(match, kind), kind, dials)
        return partial(getattr(match, kind), **dials)
    if key == "term":
        name, arguments = _one(value, "a term such as {soft_labels: {temperature: 2}}", key)
        _refuse(name, arguments)
        if arguments.get("of") in (EVERYBODY, EXITS) or arguments.get("against") == OTHERS or name == SHORTHAND:
            raise RecipeError(f"objective.terms: a wrapped term is one term, and {name} here stands for several")
        return _built(name, arguments, cohort, teacher, share=1.0)
    return value


def _one(value: Any, wanted: str, key: str) -> tuple[str, dict[str, Any]]:
    """The one name in a mapping, and what it is given."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, dials),) = value.items()
        if isinstance(dials, Mapping) and all(isinstance(dial, str) for dial in dials):
            return str(name), dict(dials)
    raise RecipeError(f"objective.terms: {key}: wanted {wanted}, got {value!r}")


def _called(module: Any, name: str, arguments: dict[str, Any], *, known: Sequence[str]) -> Any:
    if name not in known:
        raise RecipeError(f'objective.terms: no schedule "{name}": {choices(name, known)}')
    _takes(getattr(module, name), name, arguments)
    made = _tried(getattr(module, name), name, arguments)
    _tried(made, name, {"step": 0}, of=arguments)
    return made


def _takes(function: Any, name: str, arguments: Mapping[str, Any]) -> None:
    known = list(inspect.signature(function).parameters)
    for key in arguments:
        if key not in known:
            raise RecipeError(f'objective.terms: {name} takes no "{key}": {choices(key, known)}')


def _tried(function: Any, name: str, arguments: Mapping[str, Any], of: Mapping[str, Any] | None = None) -> Any:
    """The call, with whatever a wrong kind of value makes of it as one line."""
    try:
        return function(**arguments)
    except RecipeError:
        raise
    except UsageError as error:
        raise RecipeError(f"objective.terms: {name}: {error}") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        given = arguments if of is None else of
        shown = ", ".join(f"{key}: {value!r}" for key, value in given.items()) or "nothing"
        raise RecipeError(f"objective.terms: {name} cannot be made of {shown}: {error}") from None


def _refuse(name: str, arguments: Any) -> None:
    known = sorted({row["name"] for row in match.describe() if row["kind"] == "term"} | {SHORTHAND})
    if name not in known:
        raise RecipeError(f'objective.terms: no term "{name}": {choices(name, known)} (see understudy objectives)')
    takes = [] if name == SHORTHAND else list(inspect.signature(getattr(match, name)).parameters)
    if not isinstance(arguments, Mapping):
        raise RecipeError(f"objective.terms: {name} wants a mapping of arguments, got {arguments!r}; {{}} for none")
    for key in arguments:
        if key not in takes:
            there = choices(str(key), takes) if takes else "it takes none: objective.alpha and temperature say it"
            raise RecipeError(f'objective.terms: {name} takes no "{key}": {there}')
