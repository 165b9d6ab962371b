"""Of decoders: how near student and twin are to their teacher, token by token, and what all of them write."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from understudy.answers import NEXT
from understudy.encoding import CausalEncoder
from understudy.encoding.causal import PROMPTED
from understudy.errors import UsageError
from understudy.evaluation import spoken
from understudy.pipeline.journal import Facts
from understudy.pipeline.judge import Cast
from understudy.pipeline.material import Material

ROWS = 2000  # test texts on which models are compared token by token
SHOWN = 12  # prompts of the evidence
BEFORE = "before"


def language(material: Material, cast: Cast) -> tuple[Facts, Facts]:
    """``language`` of run.json, and ``written`` of evidence.json; empty where nothing is said token by token."""
    if material.task.answer is not NEXT:
        return {}, {}
    encoder: Any = cast.kind.encoder
    teacher = cast.teacher.model
    models = {"student": cast.students[cast.chosen[0]], "twin": cast.twins[cast.chosen[1]]}
    more = {}
    if material.recipe.student.start is None:
        torch.manual_seed(cast.chosen[0])
        more = {BEFORE: cast.kind.build()}  # the student as its training found it
    some = material.splits.test.take(_evenly(len(material.splits.test), ROWS))
    sums = spoken.beside(teacher, {**models, **more}, encoder, some.inputs)
    seed = material.recipe.seed
    facts: Facts = {
        "rows": len(some),
        "tokens": int(sums["student"][:, 0].sum()),
        "beside": {name: spoken.estimates(one, seed=seed) for name, one in sums.items()},
        "written": None,
    }
    if encoder.fields != PROMPTED or not material.recipe.evaluation.written_rows:
        return {"language": facts}, {}
    try:
        facts["written"], shown = _written(material, {"teacher": teacher, **models}, encoder)
    except UsageError as error:  # a module of somebody's own
        material.journal.log("note", text=f"nothing was written for evaluation: {error}")
        return {"language": facts}, {}
    return {"language": facts}, {"written": shown}


def _written(material: Material, models: dict[str, Any], encoder: CausalEncoder) -> tuple[Facts, list[Facts]]:
    dials, test = material.recipe.evaluation, material.splits.test
    rows = test.take(_evenly(len(test), dials.written_rows))
    gold = [str(text) for text in rows.inputs["completion"]]
    features = encoder.encode(rows.inputs)
    data = [features.ids[row][features.first[row] :].tolist() for row in range(len(features))]
    found, texts = {}, {}
    for name, model in models.items():
        ids = spoken.written(model, encoder, rows.inputs, longest=dials.written_tokens)
        texts[name] = [encoder.tokenizer.decode(one, skip_special_tokens=True) for one in ids]
        found[name] = {
            "exact_match": spoken.exact_match(gold, texts[name]).as_dict(),
            **spoken.monitors(ids, encoder.end_id),
        }
    facts = {
        "rows": len(rows),
        "longest": dials.written_tokens,
        "data": spoken.monitors(data, encoder.end_id),
        "models": found,
    }
    right = {name: [spoken.same_answer(*both) for both in zip(gold, said, strict=True)] for name, said in texts.items()}
    apart = [right["teacher"][row] - right["student"][row] for row in range(len(rows))]
    shown = [
        {
            "prompt": str(rows.inputs["prompt"][row]),
            "data": gold[row],
            **{name: {"text": texts[name][row], "right": right[name][row]} for name in ("teacher", "student")},
        }
        for row in np.argsort(-np.array(apart), kind="stable")[:SHOWN].tolist()
    ]
    return facts, shown


def _evenly(rows: int, most: int) -> Any:
    return np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64)
