"""What a run stores of a language model: heads and samples of tails, in the place of logits that nobody can keep."""

from __future__ import annotations

from typing import Any

from understudy.answers import NEXT
from understudy.encoding import CausalEncoder
from understudy.errors import RecipeError
from understudy.objectives import Term, describe, hard_tokens, sampled_tokens
from understudy.pipeline.material import Material
from understudy.pipeline.recipe import Recipe
from understudy.tasks import task_named
from understudy.teachers import Live, Loaded, Sampling, sample_identity, token_scorer
from understudy.teachers.sampled import TokenScorer

TERM = "sampled_tokens"


def sampled(recipe: Recipe) -> bool:
    """Whether samples of a language model are stored."""
    known = recipe.task is not None and recipe.teacher.targets == "stored"
    return known and task_named(str(recipe.task)).answer is NEXT


def heard(alpha: float) -> list[Term]:
    """What ``shorthand`` stands for where samples are stored: the rest of them, and ``alpha`` of the tokens."""
    return [term for term in (sampled_tokens(1.0 - alpha), hard_tokens(float(alpha))) if term.weight]


def identity(material: Material, teacher: Loaded) -> dict[str, str]:
    """What tells these samples from others, beside teacher and encoding."""
    recipe = material.recipe
    return sample_identity(_encoder(teacher, recipe), **_stored(recipe)) if sampled(recipe) else {}


def scorer_of(material: Material, teacher: Loaded, rows: Any) -> TokenScorer:
    """Samples of some rows, for the store."""
    return token_scorer(teacher.model, _encoder(teacher, material.recipe), rows, **_stored(material.recipe))


def live(material: Material, teacher: Loaded) -> Live | Sampling:
    """The teacher asked now, with what it would have in the store."""
    found = Live(teacher.model, order=teacher.label_order)
    if not sampled(material.recipe):
        return found
    return Sampling(found, vocabulary=_encoder(teacher, material.recipe).size, **_dials(material.recipe))


def refuse(recipe: Recipe, names: list[str]) -> None:
    """What stored samples cannot give, and who wants them where there are none.

    Args:
        recipe: of a language model.
        names: of the terms of its objective.

    Raises:
        RecipeError: the dial that has to change.
    """
    rows = {row["name"]: set(row["needs"]["source"]) for row in describe() if row["kind"] == "term"}
    if not sampled(recipe):
        if TERM in names:
            raise RecipeError(f"objective.terms: {TERM} reads what is stored: set teacher.targets=stored")
        return
    other = [name for name in names if name != TERM and rows.get(name)]
    if other:
        raise RecipeError(
            f"objective.terms: {other[0]} reads more of the teacher than the samples that are stored: use {TERM}, or "
            "teacher.targets=live"
        )
    if recipe.steps or recipe.objective.temperature == "auto":
        what = "steps" if recipe.steps else "objective.temperature: auto"
        raise RecipeError(f"{what}: samples are stored at one temperature, once: leave it out, or use live targets")


def _encoder(teacher: Loaded, recipe: Recipe) -> CausalEncoder:
    """The teacher's, whose tokens are more than are kept of them."""
    encoder = teacher.encoder
    assert isinstance(encoder, CausalEncoder)
    if recipe.teacher.kept >= encoder.size:
        raise RecipeError(
            f"teacher.kept: got {recipe.teacher.kept}, wanted less than the {encoder.size:,} tokens of the teacher"
        )
    return encoder


def _dials(recipe: Recipe) -> dict[str, Any]:
    temperature = recipe.objective.temperature
    return {
        "k": recipe.teacher.kept, "n": recipe.teacher.drawn, "seed": recipe.teacher.seed,
        "temperature": 1.0 if temperature in (None, "auto") else float(str(temperature)),
    }  # fmt: skip


def _stored(recipe: Recipe) -> dict[str, Any]:
    return {**_dials(recipe), "log_p_bits": recipe.teacher.log_p_bits}
