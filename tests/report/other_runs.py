"""Runs of tasks whose answer is not one label: scores, several labels, entities, vectors, answers, texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .runs import NASTY, base, bins, curves, gates, model

Pair = tuple[dict[str, Any], dict[str, Any]]
TEXTS = [
    "A man is slicing a potato. | A man is cutting up a potato with a knife.",
    "The company said quarterly profit rose. | Profit at the company fell in the quarter.",
    "Two dogs run through the snow. | Two dogs are running.",
    f"{NASTY} & a pair that closes </script> | and goes on",
]


def around(value: float, half: float = 0.012) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": min(value + half, 0.999)}


def finished(task: str, answer: str, metrics: dict[str, float]) -> dict[str, Any]:
    """A run of that task: the teacher has these metrics, and everybody else a little less."""
    run = base(task, next(iter(metrics)))
    run |= {"answer": answer, "fields": ["text"]}
    run["data"] = {
        "train": {"rows": 5_700, "fingerprint": "a"},
        "validation": {"rows": 800, "fingerprint": "b"},
        "test": {"rows": 1_400, "fingerprint": "c"},
        "unlabelled": None,
    }
    lines = {"teacher": "BertForSequenceClassification, 6 layers", "twin": "cut, 3 layers", "student": "cut, 3 layers",
             "artefact": "INT8 dynamic of the student", "baseline": "tfidf"}  # fmt: skip
    less = {"teacher": 0.0, "twin": 0.04, "student": 0.02, "artefact": 0.021, "baseline": 0.2}
    run["models"] = {}
    for k, (role, line) in enumerate(lines.items()):
        one = model(
            line,
            0.9,
            0.9,
            20_000_000 // (k + 1),
            80_000_000 // (k + 1),
            8.0 / (k + 1),
            300.0 * (k + 1),
            1_400,
            (0.1, 0.05),
        )
        one["metrics"] = {name: around(value - less[role]) for name, value in metrics.items()}
        if answer != "labels":
            one |= dict.fromkeys(("ece_before", "ece_after", "temperature"))
        run["models"][role] = one
    metric, best = next(iter(metrics.items()))
    run["baselines"] = [{"name": "tfidf", "metrics": {metric: around(best - 0.2)}}]
    run["comparison"] = {
        "metric": metric, "direction": "higher", "retention": (best - 0.021) / best, "gap_closed": 0.5,
        "agreement": None, "negative_flip_rate": None, "ece": None, "compression": 7.1, "speedup": 3.4,
        "per_class": [], "abstain": None,
        "difference": {"value": 0.02, "low": 0.008, "high": 0.031},
        "intervals": {"retention": around((best - 0.021) / best)},
    }  # fmt: skip
    run["verdict"] = {
        "distillation": "BEATS", "margin": 0.005, "seeds": 1, "why": "The whole interval lies above zero.",
        "next": "Ship the artefact.", "gates": gates(0.1),
    }  # fmt: skip
    run["labels"] = {"names": ["score"], "sentence": "labels: teacher and data have the same 1 names in the same order"}
    run["notes"] = [f"the task is {task}"]
    return run


def proof(*, labels: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {
        "schema": 1, "labels": labels, "examples": [], "disagreements": [], "reliability": {}, "coverage": [],
        "curves": {"student": curves(rng, 0.86, 8), "twin": curves(rng, 0.84, 8)},
        "exits": None, "initialisation": None, "how": {"spearman": "on 1,400 test rows"},
    }  # fmt: skip


def scores_run() -> Pair:
    """Similarity of pairs, 0 to 5."""
    rng = np.random.default_rng(3)
    run, evidence = (
        finished("regression", "score", {"spearman": 0.878, "pearson": 0.881, "r2": 0.77}),
        proof(labels=["score"]),
    )
    run["fields"] = ["sentence1", "sentence2"]
    run["comparison"]["intervals"]["correlation"] = around(0.962)
    truth = rng.uniform(0, 5, 1_400)
    said = {
        name: truth + rng.normal(0, wide, 1_400) for name, wide in (("teacher", 0.5), ("twin", 0.8), ("artefact", 0.65))
    }
    errors = {name: one - truth for name, one in said.items()}
    edges = np.linspace(-2.2, 2.2, 32)
    evidence["residuals"] = {
        "points": [[round(float(v), 3) for v in (truth[i], *(one[i] for one in said.values()))] for i in range(300)],
        "models": list(said),
        "edges": edges.tolist(),
        "counts": {name: np.histogram(np.clip(e, -2.2, 2.2), edges)[0].tolist() for name, e in errors.items()},
        "mean_absolute": {name: float(np.abs(e).mean()) for name, e in errors.items()},
    }
    evidence["apart"] = [
        {"text": TEXTS[k % 4], "data": 4.2 - k / 3, "teacher": 4.0 - k / 4, "artefact": 1.9 + k / 5} for k in range(8)
    ]
    return run, evidence


TOPICS = ["grain", "crude oil", "interest", "ships", "wheat", "trade"]


def several_run() -> Pair:
    """Topics of news, none to three of six."""
    rng = np.random.default_rng(4)
    metrics = {"labels_micro_f1": 0.91, "labels_macro_f1": 0.84, "exact_match": 0.79}
    run, evidence = finished("multi-label", "labels", metrics), proof(labels=TOPICS)
    run["labels"] = {"names": TOPICS, "sentence": "labels: teacher and data have the same 6 names in the same order"}
    run["comparison"] |= {
        "agreement": 0.81,
        "negative_flip_rate": 0.07,
        "per_class": [
            {
                "label": name, "teacher": 0.95 - k / 30, "artefact": 0.84 + k / 40, "p_value": 0.01 if k < 2 else 0.4,
                "rows": 90 - 11 * k, "measure": "f1", "threshold": 0.2 + k / 15,
                "average_precision": {"teacher": 0.97, "artefact": 0.9 + k / 100},
            }
            for k, name in enumerate(TOPICS)
        ],
    }  # fmt: skip
    evidence["reliability"] = {role: bins(rng, 0.05) for role in ("teacher", "twin", "student", "artefact")}
    evidence["apart"] = [
        {
            "text": TEXTS[(k + 3) % 4],
            "data": ["grain", "wheat"],
            "teacher": ["grain", "wheat"],
            "artefact": ["grain", "ships"],
        }
        for k in range(5)
    ] + [{"text": "Nothing of it.", "data": [], "teacher": ["trade"], "artefact": []}]
    return run, evidence


def spans_run() -> Pair:
    """Entities of four types."""
    types = ["person", "location", "group", "creative work"]
    run, evidence = (
        finished("token-classification", "tags", {"entity_f1": 0.62, "precision": 0.66}),
        proof(labels=types),
    )
    run["labels"] = {"names": types, "sentence": "labels: teacher and data have the same 4 names in the same order"}
    run["comparison"]["per_class"] = [
        {
            "label": name,
            "teacher": 0.7 - k / 10,
            "artefact": 0.66 - k / 8,
            "p_value": 0.3,
            "rows": 150 - 30 * k,
            "measure": "entity_f1",
        }
        for k, name in enumerate(types)
    ]
    counts = [[120, 6, 3, 1, 20], [4, 90, 2, 0, 14], [3, 5, 40, 2, 22], [1, 1, 2, 11, 17], [14, 9, 12, 6, 0]]
    words = ["Angela", "Merkel", "met", "the", "Rolling", "Stones", "in", "Paris", "on", "Friday", ",", "after", "it"]
    evidence["spans"] = {
        "types": types,
        "confusion": {"teacher": counts, "artefact": [[max(n - 3, 0) for n in row] for row in counts]},
        "lost": [
            {
                "words": words if k else [NASTY, *words[1:]],
                "gold": [[0, 2, "person"], [4, 6, "group"], [7, 8, "location"]],
                "teacher": [[0, 2, "person"], [4, 6, "group"], [7, 8, "location"]],
                "artefact": [[0, 2, "person"], [5, 6, "person"], [7, 8, "location"]],
            }
            for k in range(4)
        ],
    }
    return run, evidence


def neighbours_run() -> Pair:
    """Vectors of sentences."""
    run, evidence = finished("sentence-embedding", "vector", {"spearman": 0.81}), proof(labels=[])
    run["labels"] = {"names": [], "sentence": ""}
    evidence["neighbours"] = [
        {
            "text": TEXTS[k % 4],
            "teacher": ["A cat sits on the mat.", "A kitten is sitting on a rug.", "Dogs run in the snow."],
            "artefact": [
                "A cat sits on the mat.",
                "The market closed higher on Monday.",
                "A kitten is sitting on a rug.",
            ],
        }
        for k in range(5)
    ]
    near = evidence["neighbours"][0]
    near |= {role: [{"text": text, "cosine": 0.91} for text in near[role]] for role in ("teacher", "artefact")}
    near["shared"] = 4
    return run, evidence


def questions_run() -> Pair:
    """Answers that are a part of the text."""
    run, evidence = finished("question-answering", "answer", {"answer_f1": 0.84, "exact_match": 0.76}), proof(labels=[])
    run["labels"] = {"names": [], "sentence": ""}
    run["fields"] = ["question", "context"]
    context = (
        "The bridge was finished in 1932 after nine years of work. " * 6
        + "It was designed by Ralph Freeman in London. "
        + "Sixteen men died. " * 20
    )
    evidence["answers"] = [
        {
            "question": "Who designed the bridge?",
            "context": context,
            "gold": ["Ralph Freeman", "Freeman"],
            "teacher": "Ralph Freeman",
            "artefact": "Sixteen men",
        },
        {
            "question": f"When was {NASTY} finished?",
            "context": context,
            "gold": ["in the year 1933"],
            "teacher": "1932",
            "artefact": "",
        },
        {"question": "Same?", "context": "same", "gold": ["same"], "teacher": "same", "artefact": "same"},
    ]
    return run, evidence


def speech_run() -> Pair:
    """A decoder: losses of tokens, and what is written after prompts."""
    run, evidence = finished("causal-lm", "next", {"token_loss": 0.84, "token_accuracy": 0.5}), proof(labels=[])
    run["labels"] = {"names": [], "sentence": ""}
    run["fields"] = ["prompt", "completion"]
    run["comparison"]["direction"] = "lower"
    texts = {"tokens": 31.5, "ended": 0.9, "repeated": 0.125}
    run["language"] = {
        "rows": 400, "tokens": 20_480,
        "beside": {
            name: {"token_kl": around(kl), "token_agreement": around(0.71)}
            for name, kl in (("student", 0.21), ("twin", 0.37), ("before", 2.4))
        },
        "written": {
            "rows": 64, "longest": 128, "data": texts | {"ended": 1.0, "repeated": None},
            "models": {name: texts | {"exact_match": around(0.4)} for name in ("teacher", "student", "twin")},
        },
    }  # fmt: skip
    evidence["written"] = [
        {
            "prompt": f"How many {NASTY}?", "data": "2 + 3 #### 5",
            "teacher": {"text": "#### 5", "right": True}, "student": {"text": "", "right": False},
        }
    ]  # fmt: skip
    return run, evidence


OTHERS = {
    "scores": scores_run,
    "several": several_run,
    "spans": spans_run,
    "neighbours": neighbours_run,
    "questions": questions_run,
    "speech": speech_run,
}
