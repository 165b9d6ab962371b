"""Batches that the student writes, from a recipe's dials: ``objective.on_policy_share`` and what goes with it."""

from __future__ import annotations

from typing import Any

from understudy.answers import NEXT
from understudy.encoding import CausalEncoder
from understudy.errors import RecipeError
from understudy.objectives import describe
from understudy.pipeline.objective import SHORTHAND, entries
from understudy.pipeline.recipe import Objective, Recipe
from understudy.pipeline.steps import of_step
from understudy.tasks import task_named
from understudy.training import Rollouts, Training

DIALS = ("rollout_temperature", "rollout_tokens")


def rollouts(recipe: Recipe, encoder: Any, *, seed: int) -> Rollouts | None:
    """What writes a share of the batches of a training; None where the data's texts are all."""
    dials = recipe.objective
    if not dials.on_policy_share:
        return None
    assert isinstance(encoder, CausalEncoder)
    return Rollouts(
        encoder, dials.on_policy_share, temperature=dials.rollout_temperature, longest=dials.rollout_tokens, seed=seed
    )


def telling(prepare: Rollouts, done: Training) -> str:
    """How many batches a student wrote, and what that took.

    >>> prepare = Rollouts(None, 1.0)
    >>> telling(prepare, Training({}, (), {}, steps=4, seconds=8.0, preparing=2.0))
    'the student wrote 4 of 4 batches, in 2 s (25 % of the training)'
    """
    count, share = sum(map(prepare.due, range(done.steps))), 100 * done.preparing / max(done.seconds, 1e-9)
    took = f"in {done.preparing:.3g} s ({share:.0f} % of the training)"
    return f"the student wrote {count:,} of {done.steps:,} batches, {took}"


def refuse_rollouts(recipe: Recipe) -> None:
    """What does not go with batches that the student writes.

    Raises:
        RecipeError: another task, dials without a share, or an objective that hears labels alone.
    """
    for one in (recipe, *(of_step(recipe, step) for step in recipe.steps)):
        dials = one.objective
        if not dials.on_policy_share:
            odd = [name for name in DIALS if getattr(dials, name) != Objective.model_fields[name].default]
            if odd:
                raise RecipeError(f"objective.{odd[0]} is of batches that the student writes: set on_policy_share too")
        elif task_named(str(one.task)).answer is not NEXT:
            raise RecipeError(
                f"objective.on_policy_share: a student of {one.task} writes no text, that is for a causal-lm; leave it "
                "out"
            )
        elif not _listens(one):
            raise RecipeError(
                "objective.on_policy_share: no label counts in a batch that the student writes, and nothing in the "
                "objective listens to a teacher: add soft_tokens, or leave it out"
            )


def _listens(recipe: Recipe) -> bool:
    reads = {row["name"]: row["needs"]["source"] for row in describe() if row["kind"] == "term"}
    return any(recipe.objective.alpha != 1 if name == SHORTHAND else bool(reads[name]) for name, _ in entries(recipe))
