"""The card that ships beside the model: what it is, how it is asked, what was measured, where it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from understudy.report import exits, formats, sentences
from understudy.report.facts import Facts, dig, listed, read
from understudy.report.formats import number
from understudy.wording import metric_name, words

EXAMPLES: Mapping[str, Any] = {
    "image": "example.png",
    "text": "where is my card?",
    "sentence1": "where is my card?",
    "sentence2": "my card has not arrived",
    "question": "who built the bridge?",
    "context": "The bridge was built by Ann Lee.",
    "tokens": ["Ann", "Lee", "lives", "in", "Paris"],
    "prompt": "Who built the bridge?",
    "completion": " Ann Lee.",
    "messages": [
        {"role": "user", "content": "Who built the bridge?"},
        {"role": "assistant", "content": "Ann Lee."},
    ],
}
"""A value for every column that a task may read."""
COLUMNS = 6  # of a table that the example has, at most
ANSWER = {
    "label": "`label`, `probabilities` and `abstained`",
    "score": "`score`, on the scale of the data",
    "labels": "`labels`, those whose probability reaches their own threshold (there may be none), and `probabilities`",
    "tags": "`tags`, one for each word, and `spans`, the entities that they spell out",
    "span": "`answer` (empty where there is none), `start` and `end` (its letters in the context, from one up to the "
    "other) and `probability`",
    "masked": "`loss`, nats for each token that is hidden of it, and `filled`, the likeliest sub-words behind each of "
    "its own masks",
    "next": "`loss`, nats for each token that counts, and `bits_per_byte`",
    "vector": "`embedding`, a list of numbers of length 1; `model.embed(texts)` gives them as an array",
}
WEAK = {"labels": "labels", "tags": "types of entities"}
"""What a line of the table by class is of."""
LIMIT = {
    "label": "It always answers with one of its labels: whatever lies outside them is a guess.",
    "score": "It always answers with a score, for rows unlike those of training too, and never says how sure it is.",
    "labels": "It knows its labels and no other: whatever lies outside them gets none, or a wrong one.",
    "tags": "It knows its types and no other; a word behind its limit is never part of an entity.",
    "span": "It only ever answers in the words of the context, at most 30 of them, whether or not they are right.",
    "masked": "It knows the language of its corpus. A task of its own wants the weights beside it, and fine-tuning.",
    "next": "It knows the language of its texts and says how likely one is. To write, take the weights beside it.",
    "vector": "Cosines mean what the teacher's mean, on texts like those of training; no vector says how sure it is.",
}


def card(run: dict[str, Any]) -> str:
    """The Markdown card of the exported model: what it is, how to use it, what was measured, where it ends.

    Args:
        run: the content of run.json; whatever is missing leaves no heading.

    Returns:
        Markdown that ends with a newline. Names from the data set are escaped for Markdown and HTML alike. An export
        with a failed gate is called a candidate throughout.
    """
    facts = read(run)
    parts = [_opening(facts), _use(facts), _measured(facts), _limits(facts), _gates(facts), _labels(facts), _how(facts)]
    return "\n\n".join(part for part in parts if part).replace(formats.SPACE, " ") + "\n"


def safe(text: Any) -> str:
    """Text of a data set for Markdown: nothing in it is markup, and it stays on one line.

    >>> print(safe("<b>|*"))
    &lt;b&gt;\\|\\*
    """
    flat = (
        " ".join((formats.DASH if text is None else str(text)).split())
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", flat)


def _opening(facts: Facts) -> str:
    task = facts.task or "a task"
    if facts.failed:
        title = f"# A candidate for {safe(task)} that failed its gates"
        first = f"**Do not ship this.** {safe(sentences.gates(facts))}"
    else:
        title, first = f"# A distilled model for {safe(task)}", ""
    teacher, student = (facts.models[role].line if role in facts.models else "" for role in ("teacher", "student"))
    what = f"A small model ({safe(student)})" if student else "A small model"
    what += f", taught by a large one ({safe(teacher)})." if teacher else ", taught by a large one."
    kept = [f"**{value}** {said}" for value, said, _ in sentences.kept(facts)]
    lines = [title, first, f"{what} It runs without PyTorch.", f"{'; '.join(kept)}." if kept else ""]
    lines.append(f"**{facts.verdict}.** {sentences.headline(facts)}" if facts.verdict else "")
    return "\n\n".join(line for line in lines if line)


def _use(facts: Facts) -> str:
    row, needs = _example(facts)
    rows = json.dumps([row["text"] if list(row) == ["text"] else row])
    adds = f"Every row comes back with {ANSWER[facts.answer]}.\n\n" if facts.answer in ANSWER else ""
    return (
        f"## Use\n\n```python\nfrom understudy import runtime\n"
        f'model = runtime.load("path/to/this/folder")\nprint(model.predict({rows}))\n```\n\n'
        f"```sh\necho '{json.dumps(row)}' | understudy predict path/to/this/folder -\n```\n\n"
        f"{adds}Needs {needs} at most; never torch."
    )


def _example(facts: Facts) -> tuple[dict[str, Any], str]:
    """A row as the task reads it, and what has to be installed."""
    said = dig(facts.run, "fields")
    columns = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    if facts.task.startswith("tabular"):  # columns have any names; one that a shell would read is left out
        shown = [name for name in columns if re.fullmatch(r"[\w .\-]{1,40}", name)][:COLUMNS]
        return dict.fromkeys(shown, "..."), "numpy and onnxruntime"
    image = "image" in facts.task
    fields = [name for name in columns if name in EXAMPLES] or ["image" if image else "text"]
    needs = "numpy, onnxruntime and pillow" if image else "numpy, onnxruntime and tokenizers"
    if "messages" in fields:
        needs = "numpy, onnxruntime, tokenizers and jinja2"
    return {name: EXAMPLES[name] for name in fields}, needs


def _measured(facts: Facts) -> str:
    if not facts.models:
        return ""
    head = ["", facts.metric_name, "95 % interval", "size", "latency p50", "throughput"]
    roles = ("artefact", "student", "twin", "teacher", "baseline")
    models = [facts.models[role] for role in roles if role in facts.models]
    rows = [[m.name, *sentences.cells(facts, m)] for m in models]
    if any(m.ece_after is not None for m in models):
        head.append("ECE")
        rows = [[*row, formats.share(m.ece_after)] for row, m in zip(rows, models, strict=True)]
    table = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    said = [_conditions(facts)]
    for key, text in (
        ("agreement", "of the test rows get the teacher’s answer"),
        ("negative_flip_rate", "of them the teacher had right and this model has wrong"),
    ):
        value = number(dig(facts.run, "comparison", key))
        if value is not None:
            said.append(f"{formats.share(value, facts.digits)} {text}.")
    said += [sentences.together(facts), exits.sentence(facts)]
    return "## Measured\n\n" + "\n".join(table) + "\n\n" + " ".join(text for text in said if text)


def _conditions(facts: Facts) -> str:
    export = facts.models.get("artefact")
    bits = []
    for name, found in (("Latency", export.latency), ("throughput", export.throughput)) if export else ():
        batch, threads = number(found.get("batch")), number(found.get("threads"))
        if batch is not None and threads is not None:
            bits.append(f"{name} at batch {batch:.0f}, threads {threads:.0f}")
    rows = number(dig(facts.run, "data", "test", "rows"))
    if rows is not None:
        bits.append(f"metrics on {rows:,.0f} test rows")
    return f"{'; '.join(bits)}." if bits else ""


def _limits(facts: Facts) -> str:
    said = []
    worst = sorted(
        (r for r in listed(facts.run, "comparison", "per_class") if number(r.get("artefact")) is not None),
        key=lambda r: float(r["artefact"]),
    )[:5]
    if worst:
        weak = ", ".join(f"{safe(r.get('label'))} ({formats.share(number(r['artefact']))})" for r in worst)
        measure = next((f", by {safe(metric_name(r['measure']))}" for r in worst if r.get("measure")), "")
        said.append(f"Weakest {WEAK.get(facts.answer, 'classes')}{measure}: {weak}.")
    abstain = dig(facts.run, "comparison", "abstain")
    threshold, covered, right = (number(dig(abstain, key)) for key in ("threshold", "coverage", "accuracy"))
    if threshold is not None:
        answered = f", which leaves {formats.share(covered)} of the rows" if covered is not None else ""
        answered += f" at {formats.share(right)} accuracy" if answered and right is not None else ""
        said.append(f"Abstains below a confidence of {formats.plain(threshold)}{answered}.")
    said += [LIMIT[facts.answer]] if facts.answer in LIMIT else []
    seeds = number(dig(facts.run, "verdict", "seeds"))
    if seeds == 1:
        said.append("One training seed: the intervals cover the choice of test rows, not of the seed.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in said)


def _gates(facts: Facts) -> str:
    if not facts.gates:
        return ""
    rows = [
        f"- {'passed' if g.passed else '**FAILED**'}: {safe(g.name)} {safe(g.value)} (limit {safe(g.limit)})"
        for g in facts.gates
    ]
    return "## Gates\n\n" + "\n".join(rows)


def _labels(facts: Facts) -> str:
    names = [safe(formats.clip(name, 80)) for name in dig(facts.run, "labels", "names") or []]
    if not names or facts.answer in ("score", "span", "vector"):
        return ""
    shown = ", ".join(names[:200]) + (f", … ({len(names)} in all)" if len(names) > 200 else "")
    sentence = dig(facts.run, "labels", "sentence")
    return f"## Labels ({len(names)})\n\n{shown}" + (f"\n\n{safe(sentence)}" if sentence else "")


def _how(facts: Facts) -> str:
    where = dig(facts.run, "environment") or {}
    bits = [f"{words(key)} {safe(value)}" for key, value in where.items() if value not in (None, "", [], {})]
    text = (
        f"The {facts.export_name} was measured with the runtime that ships it, from the raw input to the answer, on a"
        " test split that was opened once; everything was chosen on validation. Rates have Wilson intervals, all else"
        " bootstrap ones."
    )
    return f"## How it was measured\n\n{text}" + (f"\n\n{', '.join(bits)}." if bits else "")
