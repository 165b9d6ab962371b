"""Runs as the pipeline writes them: digits that went well, 151 intents in text, a failed gate, and almost nothing."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NASTY = "<script>alert(1)</script>"
INTENTS = [
    "card_arrival",
    "balance",
    "transfer",
    "exchange_rate",
    "freeze_account",
    "pin_change",
    "international_fees",
    "credit_limit",
    "report_fraud",
    "bill_due",
    "insurance_change",
    "rewards_balance",
    "redeem_rewards",
    "travel_alert",
    "flight_status",
    "book_flight",
    "lost_luggage",
    "carry_on",
    "car_rental",
    "gas_type",
    "oil_change",
    "tire_pressure",
    "calendar",
    "reminder",
    "alarm",
    "timer",
    "weather",
    "restaurant_reviews",
    "restaurant_reservation",
    "ingredient_substitution",
]


def rate(value: float, rows: int) -> dict[str, float]:
    """A rate with its Wilson interval, as statistics writes it."""
    z, half = 1.96, 1.96 * math.sqrt(value * (1 - value) / rows + 1.96**2 / (4 * rows**2))
    middle, scale = value + z * z / (2 * rows), 1 + z * z / rows
    return {"value": value, "low": (middle - half) / scale, "high": (middle + half) / scale}


def model(
    line: str,
    accuracy: float,
    f1: float,
    parameters: int,
    size: int,
    p50: float,
    speed: float,
    rows: int,
    ece: tuple[float, float],
) -> dict[str, Any]:
    return {
        "model": line,
        "parameters": parameters,
        "bytes": size,
        "metrics": {
            "accuracy": rate(accuracy, rows),
            "macro_f1": {"value": f1, "low": f1 - 0.014, "high": min(f1 + 0.012, 0.999)},
        },
        "latency_ms": {"p50": p50, "p95": p50 * 1.22, "p99": p50 * 1.61, "batch": 1, "threads": 1},
        "throughput_per_s": {"value": speed, "batch": 32, "threads": 1},
        "temperature": 1.31,
        "ece_before": ece[0],
        "ece_after": ece[1],
    }


def curves(
    rng: np.random.Generator, top: float, epochs: int, per_epoch: int = 40, floor: float = 0.18
) -> list[dict[str, Any]]:
    points = []
    for step in range(epochs * per_epoch):
        epoch = (step + 1) / per_epoch
        loss = floor + 2.1 * math.exp(-epoch / 2.2) + abs(rng.normal(0, 0.06))
        at_end = (step + 1) % per_epoch == 0
        validation = top - 0.45 * math.exp(-epoch / 1.7) + rng.normal(0, 0.003) if at_end else None
        points.append(
            {"step": step, "epoch": epoch, "loss": loss, "validation": validation, "terms": {"hard_labels": loss / 3}}
        )
    return points


def bins(rng: np.random.Generator, bias: float) -> list[dict[str, Any]]:
    return [
        {
            "confidence": c,
            "accuracy": float(np.clip(c - bias * (1 - c) * 2 + rng.normal(0, 0.02), 0, 1)),
            "count": int(6 + 300 * c**8),
        }
        for c in np.linspace(0.25, 0.985, 9).tolist()
    ]


def coverage(top: float, bottom: float) -> list[dict[str, float]]:
    return [
        {"threshold": t, "coverage": 1 - 0.42 * t**3, "accuracy": bottom + (top - bottom) * (1 - math.exp(-3 * t))}
        for t in np.linspace(0, 1, 41).tolist()
    ]


def base(task: str, metric: str = "accuracy") -> dict[str, Any]:
    return {
        "schema": 1,
        "understudy": "0.1.0",
        "task": task,
        "recipe": {
            "task": task,
            "temperature": 4.0,
            "alpha": 0.2,
            "student": {"kind": "mlp", "width": 64},
            "seed": 0,
            "epochs": 20,
        },
        "stages": [
            {"name": "data", "status": "done", "seconds": 0.4, "fingerprint": "a1"},
            {"name": "teach", "status": "reused", "seconds": 0.0, "fingerprint": "b2"},
            {"name": "label", "status": "done", "seconds": 2.1, "fingerprint": "c3"},
            {"name": "train", "status": "done", "seconds": 18.4, "fingerprint": "d4"},
            {"name": "export", "status": "done", "seconds": 3.3, "fingerprint": "e5"},
            {"name": "evaluate", "status": "done", "seconds": 9.8, "fingerprint": "f6"},
        ],
        "environment": {
            "python": "3.11.2",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "device": "cpu",
            "threads": 2,
            "precision": "fp32",
        },
        "objective": [
            {
                "name": "soft_labels",
                "per": "examples",
                "of": "student",
                "against": "teacher",
                "weight": 0.8,
                "formula": "temperature² · KL(teacher ‖ student)",
            },
            {
                "name": "hard_labels",
                "per": "labelled",
                "of": "student",
                "against": "labels",
                "weight": 0.2,
                "formula": "−log p(label)",
            },
        ],
        "export": {
            "ladder": [
                {"rung": "fp32", "bytes": 120_000, "metric": 0.976, "drop": 0.0, "rows_per_s": 9_120.0},
                {"rung": "int8", "bytes": 33_400, "metric": 0.975, "drop": 0.1, "rows_per_s": 21_400.0},
            ],
            "parity": {"rows": 256, "largest": 0.0004},
        },
        "cost": {
            "label_seconds": 2.1,
            "teacher_calls": 1437,
            "train_seconds": 18.4,
            "twin_seconds": 15.9,
            "calls_per_day": 200_000,
            "teacher_cost_per_million": 41.0,
            "student_cost_per_million": 1.7,
            "break_even_days": 0.4,
            "sentence": "Distilling pays for itself after 10 hours at 200,000 calls a day.",
        },
    }


def gates(drop: float) -> list[dict[str, Any]]:
    return [
        {"name": "parity", "limit": 0.001, "value": 0.0004, "passed": True},
        {"name": "max_drop", "limit": 0.5, "value": drop, "passed": drop <= 0.5, "unit": "points"},
        {"name": "max_mb", "limit": 1.0, "value": 0.0334, "passed": True},
        {"name": "loads", "limit": True, "value": True, "passed": True},
    ]


def picture(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def digit_examples(rng: np.random.Generator, many: int, *, wrong: bool = False) -> list[dict[str, Any]]:
    digits = load_digits()
    centres = np.stack([digits.data[digits.target == k].mean(0) for k in range(10)])
    distance = ((digits.data[:, None] - centres) ** 2).sum(-1)
    teacher = -distance / 95
    teacher -= teacher.mean(1, keepdims=True)
    student = teacher * 0.8 + rng.normal(0, 0.5, teacher.shape)
    sure = np.sort(teacher, axis=1)
    order = np.argsort(sure[:, -1] - sure[:, -2])
    chosen = order[:many] if wrong else order[20 : 20 + 9 * many : 9]
    names = [str(k) for k in range(10)]
    result = []
    for i in chosen.tolist():
        example: dict[str, Any] = {
            "image": picture(digits.images[i]),
            "label": names[digits.target[i]],
            "labels": names,
            "teacher": teacher[i].tolist(),
            "student": student[i].tolist(),
            "teacher_rest": None,
            "student_rest": None,
        }
        if wrong:
            pair = np.argsort(-teacher[i])[:2].tolist()
            example |= {
                "teacher_label": names[pair[0]],
                "artefact_label": names[pair[1]],
                "teacher_confidence": 0.91,
                "artefact_confidence": 0.86,
            }
        result.append(example)
    return result


def digits_run() -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    run = base("image-classification")
    run["data"] = {
        "train": {"rows": 1077, "fingerprint": "x"},
        "validation": {"rows": 360, "fingerprint": "y"},
        "test": {"rows": 360, "fingerprint": "z"},
        "unlabelled": None,
    }
    run["models"] = {
        "teacher": model(
            "convolutional network, 3 blocks, width 64",
            0.9889,
            0.9886,
            181_322,
            728_400,
            0.61,
            9_120,
            360,
            (0.021, 0.009),
        ),
        "twin": model(
            "multilayer perceptron, one layer of 64", 0.9639, 0.9636, 4_810, 21_000, 0.034, 160_000, 360, (0.024, 0.013)
        ),
        "student": model(
            "multilayer perceptron, one layer of 64", 0.9778, 0.9777, 4_810, 21_000, 0.034, 160_000, 360, (0.031, 0.012)
        ),
        "artefact": model("the student in ONNX, INT8", 0.975, 0.9748, 4_810, 9_800, 0.029, 181_000, 360, (0.033, 0.012))
        | {"bits": 8},
        "baseline": {
            "model": "multinomial logistic regression",
            "parameters": 650,
            "bytes": 5_200,
            "metrics": {"accuracy": rate(0.9528, 360)},
            "latency_ms": None,
            "throughput_per_s": None,
        },
    }
    run["models"]["teacher"]["engine"] = "onnxruntime"
    run["baselines"] = [
        {"name": "logistic regression on pixels", "metrics": {"accuracy": rate(0.9528, 360)}},
        {"name": "majority", "metrics": {"accuracy": rate(0.1028, 360)}},
    ]
    teacher = [1.0, 0.972, 1.0, 0.973, 1.0, 1.0, 1.0, 0.972, 0.943, 0.972]
    export = [1.0, 0.944, 1.0, 0.946, 1.0, 0.973, 1.0, 1.0, 0.80, 0.917]
    run["comparison"] = {
        "metric": "accuracy",
        "direction": "higher",
        "retention": 0.9859,
        "gap_closed": 0.556,
        "agreement": 0.978,
        "negative_flip_rate": 0.0194,
        "ece": 0.012,
        "compression": 74.3,
        "speedup": 19.8,
        "difference": {"value": 0.0139, "low": 0.0028, "high": 0.0278},
        "mcnemar_p": 0.039,
        "per_class": [
            {"label": str(k), "teacher": t, "artefact": a, "p_value": 0.001 if k == 8 else 0.4}
            for k, (t, a) in enumerate(zip(teacher, export, strict=True))
        ],
        "abstain": coverage(0.9995, 0.975)[22],
    }
    run["verdict"] = {
        "distillation": "BEATS",
        "margin": 0.005,
        "seeds": 1,
        "why": "The whole interval lies above zero. One seed: it covers the choice of test rows, not the seed.",
        "next": "Digit 8 lost most: look at its disagreements before shipping, or widen the student to 96.",
        "gates": gates(0.1),
    }
    run["labels"] = {
        "names": [str(k) for k in range(10)],
        "teacher_order": [str(k) for k in range(10)],
        "permuted": False,
        "sentence": "Teacher and data name the same 10 labels in the same order.",
    }
    run["notes"] = [
        "Task image-classification, inferred from the column image.",
        "Precision fp32: the probe found no faster one on this processor.",
    ]
    evidence = {
        "schema": 1,
        "labels": [str(k) for k in range(10)],
        "curves": {"student": curves(rng, 0.978, 20), "twin": curves(rng, 0.965, 20, floor=0.05)},
        "examples": digit_examples(rng, 18),
        "disagreements": digit_examples(rng, 5, wrong=True),
        "reliability": {
            "teacher": bins(rng, 0.01),
            "twin": bins(rng, 0.11),
            "student": bins(rng, 0.06),
            "artefact": bins(rng, 0.06),
        },
        "coverage": coverage(0.9995, 0.975),
        "initialisation": None,
        "how": {
            "accuracy": "Share of the 360 test rows with the right label; Wilson interval.",
            "difference": "Student minus twin on the same rows; 10,000 paired bootstrap samples.",
            "latency_ms": "From file bytes to label, batch 1, one thread, 2,000 calls after 200 to warm up.",
            "throughput_per_s": "Best of batch 1, 8, 32, 128 on one thread; the teacher in onnxruntime.",
            "bytes": "Every file that the model needs at run time, vocabularies included.",
        },
    }
    return run, evidence


def text_run() -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(1)
    names = [*INTENTS, *(f"intent_{k}" for k in range(150 - len(INTENTS))), "out_of_scope"]
    run = base("text-classification")
    run["recipe"]["temperature"] = 1.0
    run["data"] = {
        name: {"rows": n, "fingerprint": name}
        for name, n in (("train", 15_100), ("validation", 3_100), ("test", 5_500), ("unlabelled", 40_000))
    }
    run["models"] = {
        "teacher": model(
            "BertForSequenceClassification, 6 layers, hidden 384",
            0.9616,
            0.9601,
            22_771_351,
            91_600_000,
            7.8,
            412,
            4500,
            (0.018, 0.011),
        ),
        "twin": model(
            "static, 25,000 words of 64 dimensions",
            0.9464,
            0.9449,
            1_900_000,
            7_610_000,
            0.031,
            68_000,
            4500,
            (0.042, 0.016),
        ),
        "student": model(
            "static, 25,000 words of 64 dimensions",
            0.9489,
            0.9476,
            1_900_000,
            7_610_000,
            0.031,
            68_000,
            4500,
            (0.039, 0.013),
        ),
        "artefact": model(
            "static, per-row INT8 table", 0.9487, 0.9471, 1_900_000, 2_180_000, 0.028, 71_500, 4500, (0.039, 0.013)
        ),
        "baseline": model(
            "TF-IDF words and characters, linear SVM",
            0.9411,
            0.9391,
            8_400_000,
            33_600_000,
            0.9,
            2_300,
            4500,
            (0.2, 0.05),
        ),
    }
    run["baselines"] = [
        {"name": "TF-IDF + LinearSVC", "metrics": {"accuracy": rate(0.9411, 4500)}},
        {"name": "majority", "metrics": {"accuracy": rate(0.0067, 4500)}},
    ]
    scores = 1 - rng.beta(1, 20, 151)
    run["comparison"] = {
        "metric": "accuracy",
        "direction": "higher",
        "retention": 0.9866,
        "gap_closed": 0.164,
        "agreement": 0.958,
        "negative_flip_rate": 0.024,
        "ece": 0.013,
        "compression": 42.0,
        "speedup": 173.5,
        "difference": {"value": 0.0025, "low": -0.0016, "high": 0.0067},
        "per_class": [
            {
                "label": n,
                "teacher": float(s),
                "artefact": float(np.clip(s + rng.normal(-0.012, 0.05), 0, 1)),
                "p_value": float(rng.random() ** 0.3),
            }
            for n, s in zip(names, scores, strict=True)
        ],
        "abstain": coverage(0.998, 0.9487)[17],
        "out_of_scope": {
            "label": "out_of_scope",
            "models": {"teacher": rate(0.972, 1000), "artefact": rate(0.951, 1000), "twin": None},
        },
        "in_scope": {"models": {"teacher": rate(0.962, 4500), "artefact": rate(0.9487, 4500)}},
    }
    run["comparison"]["per_class"][3] |= {"teacher": 0.97, "artefact": 0.70, "p_value": 1e-6}
    run["verdict"] = {
        "distillation": "INCONCLUSIVE",
        "margin": 0.005,
        "seeds": 1,
        "why": "The interval holds zero and reaches beyond the margin.",
        "next": "Run three seeds, or add unlabelled text: the teacher labels it for free.",
        "gates": gates(0.02),
    }
    run["labels"] = {
        "names": names,
        "teacher_order": names,
        "permuted": True,
        "sentence": "The teacher’s 151 labels were reordered by name.",
    }
    texts = [
        "how much is a euro in pounds right now",
        "my card still has not arrived, it has been two weeks",
        "what will the bank charge me if i pay in a shop abroad",
    ]

    def example(i: int, shown: list[int]) -> dict[str, Any]:
        teacher = rng.normal(0, 1.1, 151)
        teacher[shown] += np.linspace(9, 3, len(shown))
        student = teacher * 0.75 + rng.normal(0, 0.6, 151)
        rest = np.setdiff1d(np.arange(151), shown)
        return {
            "text": texts[i % 3] if i else f"{NASTY} & a text that closes </script> and goes on for a while",
            "label": names[shown[0]],
            "labels": [names[k] for k in shown],
            "teacher": teacher[shown].tolist(),
            "student": student[shown].tolist(),
            "teacher_rest": float(np.log(np.exp(teacher[rest]).sum())),
            "student_rest": float(np.log(np.exp(student[rest]).sum())),
        }

    said = {
        "teacher_label": names[0],
        "artefact_label": names[6],
        "teacher_confidence": 0.97,
        "artefact_confidence": 0.93,
    }
    evidence = {
        "schema": 1,
        "labels": names,
        "curves": {
            "student": curves(rng, 0.949, 30),
            "twin": curves(rng, 0.947, 30, floor=0.05),
            "teacher": curves(rng, 0.962, 6),
        },
        "examples": [example(i, rng.choice(28, 8, replace=False).tolist()) for i in range(12)],
        "disagreements": [example(i + 1, rng.choice(28, 8, replace=False).tolist()) | said for i in range(4)],
        "reliability": {
            "teacher": bins(rng, 0.02),
            "twin": bins(rng, 0.12),
            "artefact": bins(rng, 0.05),
            "artefact_before": bins(rng, 0.3),
        },
        "coverage": coverage(0.998, 0.9487),
        "initialisation": None,
        "how": {"accuracy": "Share of the in-scope test rows with the right label; Wilson interval."},
    }
    return run, evidence
