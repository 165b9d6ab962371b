"""Whether student and teacher read each row in as many tokens, where a term compares them token by token."""

from __future__ import annotations

import numpy as np

from understudy.data.feed import Feed
from understudy.errors import RecipeError
from understudy.pipeline.objective import aligning
from understudy.pipeline.recipe import Recipe


def refuse_misaligned(recipe: Recipe, feed: Feed) -> None:
    """Checks the encodings of all rows of a feed; its first model is the student.

    A student with fewer sub-words than its teacher may read a word in more pieces: then the rest of the row is
    compared with other tokens, or has no counterpart at all.

    Raises:
        RecipeError: a term that compares tokens, and rows with other numbers of them.
    """
    terms, first = aligning(recipe), next(iter(feed.encoders))
    mine = feed.encoders[first]
    for name, encoder in feed.encoders.items() if terms and mine.kind == "subwords" else ():
        if encoder.kind != mine.kind or encoder.fingerprint == mine.fingerprint:
            continue
        others = np.asarray(encoder.lengths(feed.features[name]))
        rows = int((others != feed.lengths).sum())
        if rows:
            raise RecipeError(
                f"objective.terms: {terms[0]} compares {first} and {name} token by token, and {rows:,} of "
                f"{len(feed):,} rows have other numbers of tokens with the smaller vocabulary: raise "
                "student.vocabulary or leave it out, or take terms that read logits or features"
            )
