"""A student that learns by adapters, from a recipe's dial ``student.lora``: what it goes with, and who has them."""

from __future__ import annotations

from torch import nn

from understudy import students
from understudy.answers import NEXT
from understudy.errors import RecipeError
from understudy.extras import require
from understudy.pipeline.recipe import Recipe
from understudy.pipeline.steps import of_step
from understudy.tasks import task_named


def as_learner(module: nn.Module, recipe: Recipe) -> nn.Module:
    """A student as it is trained: with adapters where the recipe wants them, then they alone learn."""
    rank = recipe.student.lora
    return module if rank is None else students.adapted(module, rank)


def refuse_adapters(recipe: Recipe) -> None:
    """What does not go with adapters.

    Raises:
        RecipeError: another task than causal-lm, weights that start at random, or peers.
        UsageError: peft is not installed.
    """
    for one in (recipe, *(of_step(recipe, step) for step in recipe.steps)):
        if one.student.lora is None:
            continue
        if task_named(str(one.task)).answer is not NEXT:
            raise RecipeError(
                f"student.lora: adapters are for the decoders of a causal-lm, and the task is {one.task}; leave it out"
            )
        if not one.student.initialise:
            raise RecipeError(
                "student.lora: adapters correct weights that were learnt, and student.initialise: false starts at "
                "random; leave one of them out"
            )
        if recipe.peers:
            raise RecipeError("student.lora: peers learn with all of their weights; leave one of them out")
        require("peft", package="peft", why="a student that learns by adapters (student.lora)")
