"""More rows for the student: views of the rows there are, made once, kept in the run, labelled by the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy import students
from understudy.answers import blank
from understudy.data import Examples, augment, nearest_words
from understudy.encoding import WordEncoder
from understudy.errors import RecipeError, TeacherError
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.teachers import Loaded
from understudy.teachers.folder import fingerprint, quiet

FILE = "views.parquet"
MOST, NEAREST = 30_000, 8  # words that may stand in for others, and how many for each
USUAL = {"text": ("drop_words", "swap_words"), "image": ("shift",)}


def make_views(material: Material, teacher: Loaded) -> Facts:
    """Writes RUN/views.parquet: ``data.views`` views of every row that the student learns from, none with a label.

    Made once and read from there, because near ties among neighbours or a masked model's words fall differently with
    another number of threads, and a resumed training must see the same rows.

    Returns:
        ``rows`` and ``note``.

    Raises:
        RecipeError: moves that are not for these rows, or that lack the masked model they ask.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    recipe, splits = material.recipe.data, material.splits
    kind = "image" if "image" in splits.train.inputs else "text"
    moves = recipe.moves or USUAL[kind]
    more: dict[str, Any] = {}
    if "replace_words" in moves:
        more["neighbours"] = _neighbours(material.learnable, teacher)
    if "masked_words" in moves:
        more["fill"] = _fill(recipe.masked_model)
    avoid = [*splits.validation.keys, *splits.test.keys]
    made = augment(material.learnable, moves, views=recipe.views, seed=material.recipe.seed, avoid=avoid, **more)
    path = material.folder / FILE
    draft = path.with_suffix(".part")
    parquet.write_table(pa.table({name: list(values) for name, values in made.examples.inputs.items()}), draft)
    draft.replace(path)
    return {"rows": len(made.examples), "note": f"views ({', '.join(moves)}): {made.note}"}


def said_of_views(material: Material) -> list[str]:
    """Everything beside rows and teacher that decides the views, as parts of a fingerprint."""
    recipe, model = material.recipe.data, material.recipe.data.masked_model
    weights = fingerprint(Path(model)) if model is not None and "masked_words" in (recipe.moves or ()) else ""
    words = [str(recipe.views), repr(recipe.moves), weights, str(material.recipe.seed)]
    return [*words, material.splits.test.fingerprint]  # no view may be a test row


def read_views(folder: Path, *, labels: Any = None) -> Examples:
    """The rows that `make_views` wrote, without a label; of the kind of ``labels``, where those are not positions."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(folder / FILE)
    nothing = None if labels is None else blank(labels, len(table))
    return Examples.of({name: table.column(name).to_pylist() for name in table.column_names}, nothing)


def _neighbours(rows: Examples, teacher: Loaded) -> Any:
    """Word -> the nearest words, by the teacher's own outputs for them.

    Words that only the teacher knows are among them: so a student hears of words that no row has.
    """
    teacher = teacher.parent
    if teacher.tokenizer is None:
        raise RecipeError("data.moves: replace_words wants a transformers teacher, whose word vectors say what is near")
    ours = [word for word in WordEncoder.fit(rows.texts, most=MOST).words if word.isalpha()]
    words = list(dict.fromkeys([*ours, *whole_words(teacher.tokenizer)]))[: max(len(ours), MOST)]
    return nearest_words(words, students.static_vectors(teacher.model, teacher.tokenizer, words), k=NEAREST)


def whole_words(tokenizer: Any) -> list[str]:
    """The words of three letters or more that are one sub-word of a tokenizer, in the order of its ids.

    WordPiece marks what goes on with a word (``##ing``), byte-level BPE and SentencePiece what begins one.
    """
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    begins = next((mark for mark in ("\u0120", "\u2581") if any(token.startswith(mark) for token in tokens)), "")
    words = (token.removeprefix(begins) for token in tokens if token.startswith(begins))
    return [word for word in words if len(word) > 2 and word.isalpha()]


def _fill(folder: str | None) -> Any:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from understudy.data.filling import masked_language_model

    if folder is None:
        raise RecipeError("data.moves: masked_words wants data.masked_model, the folder of a masked language model")
    if not Path(folder).is_dir():
        raise TeacherError(f"data.masked_model: no folder at {folder}")
    with quiet():
        model, how = AutoModelForMaskedLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    if how["missing_keys"]:
        raise TeacherError(
            f"data.masked_model: {folder} has no head for masked words, and one that was just initialised would say "
            "anything: wanted a model that was trained on masked words"
        )
    return masked_language_model(model, AutoTokenizer.from_pretrained(folder, local_files_only=True))
