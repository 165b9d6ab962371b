"""``understudy init``: looks at the data and writes a commented recipe, each suggestion with its reason."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from understudy import tags
from understudy.data import Splits, load
from understudy.data.answered import unanswered
from understudy.passages import LONGEST
from understudy.ragged import Ragged
from understudy.tasks import LAYOUTS, TASKS

_RARE = 10  # times that the largest class may outnumber the smallest before weights are suggested
_FEW_TEST_ROWS = 1_000
_OUT_OF_SCOPE = frozenset({"oos", "ood", "out_of_scope", "out of scope", "out-of-scope", "none_of_the_above"})
_NEXT = "causal-lm"


@dataclass(frozen=True)
class _Line:
    """One setting of the recipe and why; no value: the line is only a comment."""

    key: str
    value: Any
    why: str


def init(
    data: str, *, text: str = "text", label: str = "label", image: str = "image", task: str | None = None, seed: int = 0
) -> str:
    """A recipe for this data, as commented YAML that ``load_recipe`` reads.

    Args:
        data: folder, file or hub name, as ``understudy.data.load`` takes it.
        text: column of the text.
        label: column of the label.
        image: column of the image.
        task: None takes what the data looks like.
        seed: seed of the split.

    Raises:
        DataError: the data cannot be read or has nothing to learn.
    """
    found, splits = load(data, task=task, text=text, label=label, image=image, seed=seed, layouts=LAYOUTS)
    names = {"text": text, "label": label, "image": image}
    columns = {key: name for key, name in names.items() if name != key}
    kind = "images" if "image" in splits.fields else "tables" if TASKS[found].tabular else "texts"
    head = [f"# {data}: {found}", *(f"# {line}" for line in _facts(splits, kind, found))]
    sections = {
        "": [_Line("task", found, "inferred from the columns" if task is None else "as you said")],
        "teacher": [_TEACHERS[kind]],
        "data": [_Line("path", data, ""), *(_Line(key, name, "") for key, name in columns.items())],
        "student": [_student(splits, kind, found)],
        "objective": _objective(splits, found),
        "evaluation": _evaluation(splits),
    }
    blocks = [_block(section, lines) for section, lines in sections.items() if lines]
    tail = "# Every other key has a default: understudy schema lists them, understudy check tries this recipe out."
    return "\n\n".join(["\n".join(_comment(line) for line in head), *blocks, tail]) + "\n"


def _facts(splits: Splits, kind: str, task: str) -> list[str]:
    """What the data is, in sentences."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    rows = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
    facts = [
        f"rows: {rows}" + (f", unlabelled {len(splits.unlabelled):,}" if splits.unlabelled else ""),
        _classes(splits, task),
        _rows(splits, kind),
    ]
    if len(splits.test) < _FEW_TEST_ROWS:
        facts.append(_known_to(splits))
    return [line for line in (*facts, *splits.notes) if line]


def _known_to(splits: Splits) -> str:
    """How exactly a few test rows can tell a good metric: the standard error of a share, or of a correlation."""
    rows = len(splits.test) // (2 if splits.couples else 1)
    if not splits.label_names and not splits.couples and splits.scale is None:
        return ""  # a text is its own label: no share of rows is measured
    if splits.scale is not None or splits.couples:
        wide = 196 * (1 - 0.9**2) / np.sqrt(rows)
        what = "pairs" if splits.couples else "rows"
        return f"so few test {what} know a correlation of 0.9 only to about ±{wide:.1f} points (hundredths)"
    wide = 196 * np.sqrt(0.9 * 0.1 / rows)
    if _questions(splits):
        return f"so few test rows know an exact match of 90 % only to about ±{wide:.1f} points"
    what = "a share of 90 % of rows with all labels right" if splits.train.labels.ndim == 2 else "an accuracy of 90 %"
    return f"so few test rows know {what} only to about ±{wide:.1f} points"


def _classes(splits: Splits, task: str) -> str:
    if task == _NEXT:
        return "no labels: a text is its own label, every token after those before it"
    if not splits.label_names and not splits.couples:
        return "no labels: a text is its own label, and some of its tokens are hidden"
    if splits.couples:
        return "no labels: vectors are learnt of texts alone, and validation and test are pairs of texts"
    if splits.scale is not None:
        return ""  # the notes of the data say where the scores lie
    if _questions(splits):
        return _answers(splits)
    if splits.train.labels.dtype.kind == "O":
        return _entities(splits)
    counts = splits.train.counts(len(splits.label_names))
    largest, smallest = int(np.argmax(counts)), int(np.argmin(counts))
    if splits.train.labels.ndim == 2:
        each = splits.train.labels[splits.train.known].sum(1).mean()
        name, most = splits.label_names[largest], counts[largest]
        return f"{len(counts)} labels, {each:.1f} a row; commonest {name} ({most:,} training rows)"
    if counts[largest] == counts[smallest]:
        return f"{len(counts)} classes of {counts[largest]:,} training rows each"
    share, names = 100 * counts[largest] / counts.sum(), splits.label_names
    most = f"{names[largest]} ({counts[largest]:,} training rows, {share:.1f} %)"
    return f"{len(counts)} classes; largest {most}, smallest {names[smallest]} ({counts[smallest]:,})"


def _questions(splits: Splits) -> bool:
    return "context" in splits.fields


def _answers(splits: Splits) -> str:
    golds = splits.train.labels[splits.train.known]
    lengths = np.array([last - first + 1 for gold in golds for first, last in [gold.target] if first])
    bare, longer = unanswered(golds), int((lengths > LONGEST).sum())
    median = f"median {int(np.median(lengths))}, longest {int(lengths.max())}" if len(lengths) else "none"
    more = f"; {longer:,} are longer than the {LONGEST} that a model may say" if longer else ""
    return f"words of an answer: {median}{more}; {bare:,} of {len(golds):,} training questions have none in their text"


def _entities(splits: Splits) -> str:
    types = tags.types_of(splits.label_names)
    found = tags.spans(Ragged.of(list(splits.train.labels[splits.train.known])))
    counts = np.bincount(found[:, 3], minlength=len(types))
    most, least = int(counts.argmax()), int(counts.argmin())
    return (
        f"{len(types)} types of entities, {len(found):,} in training rows; commonest {types[most]} "
        f"({counts[most]:,}), rarest {types[least]} ({counts[least]:,})"
    )


def _rows(splits: Splits, kind: str) -> str:
    if kind == "images":
        return _image_sizes(splits.train.inputs["image"])
    return _text_lengths(splits.train.texts) if kind == "texts" else f"columns: {', '.join(splits.fields)}"


def _text_lengths(texts: list[str]) -> str:
    lengths = np.array([len(text.split()) for text in texts])
    median, most, longest = np.percentile(lengths, [50, 95, 100]).astype(int)
    words = len({word.lower() for text in texts for word in text.split()})
    return f"words in a text: median {median}, 95 % have at most {most}, longest {longest}; {words:,} distinct words"


def _image_sizes(images: list[bytes], *, looked_at: int = 200) -> str:
    from PIL import Image

    sizes = Counter((opened.size, opened.mode) for opened in (Image.open(io.BytesIO(i)) for i in images[:looked_at]))
    (width, height), mode = sizes.most_common(1)[0][0]
    return f"images: {width} x {height} pixels, {mode}" + (
        f", and {len(sizes) - 1} other sizes" if len(sizes) > 1 else ""
    )


_TEACHERS = {
    "texts": _Line(
        "path", None, "folder or hub name of your model; a plain encoder is fine-tuned first (--teacher says it too)"
    ),
    "images": _Line("path", "cnn", "built in; or the folder of a transformers vision model"),
    "tables": _Line("path", "boosting", "built in: gradient boosting, fitted in the run"),
}


def _student(splits: Splits, kind: str, task: str) -> _Line:
    if kind == "images":
        return _Line("family", "cnn", "mlp is smaller to run on tiny images")
    if kind == "tables":
        return _Line("family", "mlp", "a few matrix products in the place of many trees")
    if task == _NEXT:
        return _Line("family", "cut", "half of the teacher's layers: what ships is a smaller decoder of its kind")
    if not splits.label_names and not splits.couples:
        return _Line("family", "cut", "half of the teacher's layers: what ships is a smaller encoder of its kind")
    if splits.pairs:
        return _Line("family", "cut", "half of the teacher's layers: a pair wants words of both texts side by side")
    if _questions(splits):
        return _Line("family", "cut", "half of the teacher's layers: a question wants words of both texts side by side")
    if splits.train.labels.dtype.kind == "O":
        return _Line("family", "gru", "reads each sentence from both sides; conv is quicker, cut follows the teacher")
    why = "a bag of word vectors, no attention at run time; where word order matters (sentiment), try gru or cut"
    return _Line("family", "static", why)


def _objective(splits: Splits, task: str) -> list[_Line]:
    lines = [_Line("temperature", "auto", "chosen on validation from short runs over 1, 2, 4 and 8")]
    if splits.scale is not None or splits.couples:  # scores and vectors are not softened
        lines = []
    elif task == _NEXT:
        lines = [_Line("temperature", 1, "over the whole vocabulary; whoever writes draws at 1 too")]
    elif not splits.label_names:
        lines = [_Line("temperature", 2, "over the whole vocabulary, as DistilBERT has it")]
    if splits.unlabelled is not None:
        lines.append(_Line("alpha", 0.1, "little weight on labels: unlabelled rows have only the teacher's word"))
    if _unbalanced(splits):
        lines.append(
            _Line("class_weights", "balanced", "the largest class has over ten times the rows of the smallest")
        )
    return lines


def _evaluation(splits: Splits) -> list[_Line]:
    lines = []
    if _unbalanced(splits):
        lines.append(_Line("metric", "macro_f1", "accuracy would hide the small classes"))
    for name in splits.label_names if splits.train.labels.ndim == 1 else ():
        if name.lower() in _OUT_OF_SCOPE:
            lines.append(
                _Line("out_of_scope", name, "reported apart: in-scope accuracy, and AUROC of being out of scope")
            )
    return lines


def _unbalanced(splits: Splits) -> bool:
    kind = splits.train.labels.dtype.kind
    if splits.scale is not None or splits.train.labels.ndim == 2 or kind == "O" or splits.couples:
        return False
    counts = splits.train.counts(len(splits.label_names))
    return bool(counts.max() > _RARE * max(counts.min(), 1))


def _block(section: str, lines: list[_Line]) -> str:
    indent = "  " if section else ""
    rows = [f"{section}:"] if section else []
    for line in lines:
        said = f"{indent}{line.key}: {_scalar(line.value)}"
        rows.append(f"{said}  {_comment(f'# {line.why}')}" if line.why else said)
    return "\n".join(rows)


def _scalar(value: Any) -> str:
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6).strip()[1:-1]


def _comment(line: str) -> str:
    """A comment stays on its line whatever a label is called."""
    return "".join(c if c.isprintable() else " " for c in line)
