"""The teacher: opened as it is, or trained here first, and kept in the store for every run beside this one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy import students
from understudy.answers import LABELS, SPAN, TAGS
from understudy.data.answered import unanswered
from understudy.data.feed import Feed
from understudy.data.views import shift
from understudy.encoding import CausalEncoder, MaskedEncoder, PassageEncoder, PixelEncoder, TokenEncoder, load_encoder
from understudy.encoding.causal import PROMPTED
from understudy.encoding.masked import SHARE
from understudy.errors import Interrupted, TeacherError, UsageError
from understudy.files import content_hash, new_folder, read_json, seal, sealed, write_json
from understudy.pipeline import asking, texts
from understudy.pipeline.cuts import Cut
from understudy.pipeline.defaults import BUILT_IN, TREES
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.pipeline.members import alone, join, parent_of, refuse, several
from understudy.pipeline.recipe import Recipe
from understudy.pipeline.watching import watching
from understudy.targets.lock import locked
from understudy.tasks.image_classification import pixel_encoder, pixel_statistics
from understudy.tasks.question_answering import passage_encoder, said_of_windows
from understudy.tasks.text_classification import length_limit, subword_encoder
from understudy.tasks.token_classification import said_of_limit, token_encoder
from understudy.teachers import Loaded, boosting, describe, open_teacher, settle
from understudy.teachers.own import save_teacher
from understudy.training import Settings, probe, train
from understudy.wording import metric_name

FAMILIES = BUILT_IN


def teach(material: Material, given: Loaded | None = None) -> tuple[Loaded, Facts]:
    """A teacher whose columns are the data's labels: given, opened, or trained in the run; or several of them as one.

    Returns:
        The teacher, and facts: ``folder`` (where its files are, relative to the store; None for a module that was
        given), ``trained``, ``seconds``, ``history``, ``notes``, ``labels``; of several teachers ``members`` too.
    """
    if given is not None:
        met = _met(material, given)
        return met, {"folder": None, "trained": False, "seconds": 0.0, "history": [], "notes": list(met.notes)}
    if material.recipe.teacher.members is None:
        return _single(material)
    parent = alone(material, parent_of(material)).recipe.teacher
    return several(material, lambda mine: _single(mine, cut=mine.recipe.teacher == parent))


def _single(material: Material, *, cut: bool = True) -> tuple[Loaded, Facts]:
    """One teacher, from a folder, a name, the store or a training; ``cut``: the student may be cut from it."""
    recipe = material.recipe.teacher
    if recipe.path == TREES:
        loaded = trees(material)
        return loaded, {"folder": None, "trained": False, "seconds": 0.0, "history": [], "notes": list(loaded.notes)}
    if asking.is_endpoint(recipe.path):
        loaded = asking.asked(material)
        return loaded, {"folder": None, "trained": False, "seconds": 0.0, "history": [], "notes": list(loaded.notes)}
    if recipe.path in FAMILIES:
        loaded = untrained(material)
        _refuse_student(material, loaded, cut=cut)
        identity = [str(recipe.path), loaded.encoder.fingerprint, str(recipe.width), str(recipe.dropout)]
        return _trained(material, loaded, identity)
    loaded = open_given(material)
    _refuse_student(material, loaded, cut=cut)
    if loaded.fresh_head:
        return _trained(material, loaded, [loaded.fingerprint, loaded.encoder.fingerprint])
    return loaded, {"folder": None, "trained": False, "seconds": 0.0, "history": [], "notes": list(loaded.notes)}


def _met(material: Material, given: Loaded) -> Loaded:
    """A teacher that came as an object, with its columns in the data's order."""
    if given.ask is not None and material.recipe.teacher.targets == "live":
        raise UsageError(
            f"the teacher is a function of raw rows ({given.description}), which cannot run in a training step: "
            "use teacher.targets=stored, with an objective that reads nothing but its logits"
        )
    if given.ask is not None and material.task.answer in (TAGS, SPAN):
        raise TeacherError(
            f"the teacher is a function of raw rows ({given.description}), and a {material.task.name} wants logits of "
            "words: name the folder of a transformers model"
        )
    return settle(given, material.splits.label_names, material.splits.validation.inputs)


def untaught(material: Material) -> tuple[Loaded, bool]:
    """The teacher as far as it is there before anything is trained, and whether any of it will be trained.

    Nothing is asked of an endpoint: equal shares stand in its place.
    """
    recipe = material.recipe.teacher
    if recipe.members is None:
        if recipe.path == TREES:
            return trees(material), False
        if asking.is_endpoint(recipe.path):
            return asking.silent(material), False
        loaded = untrained(material) if recipe.path in FAMILIES else open_given(material)
        return loaded, loaded.fresh_head
    refuse(material)
    found = {name: untaught(alone(material, name))[0] for name in recipe.members}
    fresh = {name: one.fresh_head for name, one in found.items()}
    for name in (name for name in found if fresh[name]):  # each will be trained from its own seed
        found[name] = replace(found[name], fresh_head=False, fingerprint=f"{found[name].fingerprint} {name}")
    return join(material, found, {}), any(fresh.values())


def _refuse_student(material: Material, teacher: Loaded, *, cut: bool) -> None:
    """A student that cannot be made of this teacher, or for these images, is refused before a teacher is trained."""
    student = material.recipe.student
    if student.family == "cut" and cut:
        Cut(material, origin(material, teacher)).refuse()
    elif student.family in FAMILIES:
        images = material.splits.train.inputs["image"]
        family(student.family, pixel_encoder(images), images[:200], 2, width=1, dropout=0.0, layers=student.depth)


def trees(material: Material) -> Loaded:
    """Gradient boosting, fitted on the training rows of a table."""
    splits, seed = material.splits, material.recipe.teacher.seed
    return boosting(splits.train, classes=len(splits.label_names), scores=splits.scale is not None, seed=seed)


def untrained(material: Material) -> Loaded:
    """A built-in image family with random weights, for the images and labels of the data."""
    recipe = material.recipe.teacher
    if "image" not in material.splits.train.inputs:
        raise TeacherError(f"the built-in teacher {recipe.path} reads images, and the task is {material.task.name}")
    images = material.splits.train.inputs["image"]
    encoder = pixel_encoder(images)
    torch.manual_seed(material.recipe.teacher.seed)
    model = family(
        str(recipe.path), encoder, images, len(material.splits.label_names),
        width=recipe.width or 32, dropout=recipe.dropout or 0.0,
    )  # fmt: skip
    notes = (f"the teacher is a {recipe.path} of width {recipe.width}, trained in the run",)
    return Loaded(model, encoder, None, True, describe(model), "untrained", notes)


def open_given(material: Material) -> Loaded:
    """The teacher that the recipe names; its head is fresh where it has to be trained first.

    Raises:
        TeacherError: none named, none there, or one that has to be trained and must not be.
    """
    recipe, names = material.recipe.teacher, material.splits.label_names
    if recipe.path is None:
        raise TeacherError(
            "a run needs a teacher: --teacher FOLDER (a saved transformers model) or URL (an endpoint that labels "
            "texts), cnn or mlp for images, or boosting for tables; a causal-lm can learn from texts alone: "
            "--set student.folder=FOLDER"
        )
    head = {"auto": "auto", "always": "new", "never": "keep"}[recipe.fine_tune]
    limit = material.recipe.data.limit
    loaded = open_teacher(
        recipe.path,
        task=material.task.name,
        label_names=names,
        head=head,
        limit=limit,
        seed=material.recipe.teacher.seed,
        fields=material.splits.fields,
        scale=material.splits.scale,
    )
    if loaded.fresh_head and recipe.fine_tune == "never":
        raise TeacherError(
            f"teacher {recipe.path} has no trained head for these labels, and teacher.fine_tune is never: "
            "a head that was just initialised is never used as a teacher; use --set teacher.fine_tune=auto"
        )
    loaded = _expecting(_shortened(loaded, material), material)
    if texts.texts_alone(material.recipe):
        was = f"the student before it learnt ({loaded.description})"
        return replace(loaded, description=was, notes=(texts.NOTE, *loaded.notes))
    return loaded


def origin(material: Material, teacher: Loaded) -> Loaded:
    """What the student is cut from: its teacher, or the encoder in ``student.folder`` with a fresh head of the task.

    Raises:
        TeacherError: a folder that is no encoder.
    """
    recipe, splits = material.recipe, material.splits
    if recipe.student.folder is None:
        return teacher
    try:
        loaded = open_teacher(
            recipe.student.folder, task=material.task.name, label_names=splits.label_names, head="new",
            limit=recipe.data.limit, seed=recipe.seed, fields=splits.fields, scale=splits.scale,
        )  # fmt: skip
    except TeacherError as error:
        raise TeacherError(f"student.folder, read as a teacher is: {error}") from error
    return replace(_expecting(_shortened(loaded, material), material), fresh_head=False)


def _shortened(loaded: Loaded, material: Material) -> Loaded:
    """The same teacher with its length limit drawn from the data: what never is longer than 40 needs no 256."""
    theirs: Any = loaded.encoder
    if isinstance(theirs, PassageEncoder):
        return _windowed(loaded, theirs, material)
    if loaded.tokenizer is None or material.recipe.data.limit is not None:
        return loaded
    if isinstance(theirs, MaskedEncoder):
        lengths = theirs.lengths(theirs.encode({"text": material.splits.train.inputs["text"][:20_000]}))
        hiding = theirs.with_limit(length_limit(lengths, positions=theirs.limit))
        said = f"texts are read up to {hiding.limit} sub-word tokens, of which {SHARE:.0%} are hidden"
        return replace(loaded, encoder=hiding, notes=(*loaded.notes, said))
    if isinstance(theirs, CausalEncoder):
        some = {name: column[:20_000] for name, column in material.splits.train.inputs.items()}
        read = theirs.encode(some)
        lengths = theirs.lengths(read)
        most = length_limit(lengths, positions=theirs.limit)
        cut = int(((lengths > most) | (False if read.cut is None else read.cut)).sum())
        part = "the beginning of their prompts" if theirs.fields == PROMPTED else "their ends"
        lost = f"; {cut:,} of {len(read):,} training rows are longer and lose {part}" if cut else ""
        said = f"rows are read up to {most} sub-word tokens{lost}"
        return replace(loaded, encoder=theirs.with_limit(most), notes=(*loaded.notes, said))
    if isinstance(theirs, TokenEncoder):
        words = token_encoder(
            loaded.tokenizer, material.splits.train.inputs, positions=loaded.positions, token_types=theirs.token_types
        )
        said = said_of_limit(words, material.splits.train.inputs, "sub-word tokens")
        return replace(loaded, encoder=words, notes=(*loaded.notes, said))
    encoder = subword_encoder(
        loaded.tokenizer,
        material.splits.train.inputs,
        positions=loaded.positions,
        token_types=theirs.token_types,
    )
    return replace(
        loaded, encoder=encoder, notes=(*loaded.notes, f"texts are read up to {encoder.limit} sub-word tokens")
    )


def _expecting(loaded: Loaded, material: Material) -> Loaded:
    """The same teacher; a fresh head of several labels begins at how often each holds in the training rows."""
    if material.task.answer is LABELS and loaded.fresh_head:
        students.begin_at_shares(loaded.model, material.shares)
        return replace(loaded, fingerprint=f"{loaded.fingerprint} begins at shares")
    return loaded


def _windowed(loaded: Loaded, theirs: PassageEncoder, material: Material) -> Loaded:
    """The same teacher with windows drawn from the data, which says "no answer" only where the data does."""
    train = material.splits.train
    encoder = passage_encoder(
        loaded.tokenizer, train.inputs, positions=loaded.positions, token_types=theirs.token_types,
        unanswerable=unanswered(train.labels) > 0, limit=material.recipe.data.limit,
    )  # fmt: skip
    return replace(loaded, encoder=encoder, notes=(*loaded.notes, said_of_windows(encoder, train.inputs)))


def family(
    name: str,
    encoder: PixelEncoder,
    images: Any,
    classes: int,
    *,
    width: int,
    dropout: float,
    layers: int = 2,
    depthwise: bool = False,
) -> nn.Module:
    """A built-in image model for images as the encoder gives them, normalised by the statistics of ``images``."""
    mean, std = pixel_statistics(encoder.encode({"image": list(images[:2000])}))
    if name == "cnn":
        return students.Cnn(
            encoder.size, encoder.channels, classes,
            width=width, depthwise=depthwise, dropout=dropout, mean=mean, std=std,
        )  # fmt: skip
    return students.Mlp(
        encoder.size, encoder.channels, classes, width=width, layers=layers, dropout=dropout, mean=mean, std=std
    )


def _trained(material: Material, fresh: Loaded, identity: list[str]) -> tuple[Loaded, Facts]:
    """The teacher from the store, trained first where it is not there."""
    recipe, splits = material.recipe, material.splits
    dials = [
        str(v)
        for v in (recipe.teacher.epochs, recipe.teacher.learning_rate, recipe.teacher.batch_size, recipe.teacher.jitter)
    ]
    dials += [str(recipe.teacher.seed), recipe.teacher.precision]
    data = [splits.train.fingerprint, splits.validation.fingerprint, *splits.meaning, str(recipe.evaluation.metric)]
    fingerprint = content_hash("teacher-1", *identity, *dials, *data)
    folder = material.store / "teachers" / fingerprint
    if not sealed(folder):
        if folder.is_dir():
            material.journal.progress.say(f"the stored teacher {fingerprint[:8]} is damaged: it is trained again")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent, name=f"{fingerprint}.lock", doing="training this teacher in"):
            if not sealed(folder):  # a run beside this one may have been quicker
                _train(material, folder, fresh)
    facts, metric = read_json(folder / "training.json"), metric_name(str(recipe.evaluation.metric))
    notes = [
        *fresh.notes,
        f"the teacher was trained on the data: {facts['validation']:.4f} {metric} on validation",
    ]
    loaded = reopened(material, folder, notes)
    return loaded, {"folder": f"teachers/{fingerprint}", "trained": True, "notes": notes, **facts}


def reopened(material: Material, folder: Path, notes: Sequence[str]) -> Loaded:
    """A teacher that was trained for this data, from its folder in the store."""
    splits = material.splits
    loaded = open_teacher(
        folder / "model", task=material.task.name, label_names=splits.label_names, fields=splits.fields
    )
    return replace(loaded, encoder=load_encoder(folder, read_json(folder / "encoder.json")), notes=tuple(notes))


def _train(material: Material, folder: Path, fresh: Loaded) -> None:
    model, encoder = fresh.model, fresh.encoder
    recipe, splits, journal = material.recipe, material.splits, material.journal
    journal.begin("teach")
    torch.manual_seed(recipe.teacher.seed)
    jitter = recipe.teacher.jitter
    view = partial(_jitter, most=jitter, seed=recipe.teacher.seed) if jitter else None
    feed = Feed(splits.train, {"student": encoder}, view=view)
    student = students.Student(model)
    checkpoints = folder.parent / f"{folder.name}.checkpoints"
    precision, sentence = _precision(recipe, student, feed, checkpoints / "precision.json")
    journal.progress.say(sentence)
    settings = Settings(
        epochs=recipe.teacher.epochs or 1,
        batch_size=recipe.teacher.batch_size,
        learning_rate=recipe.teacher.learning_rate or 1e-3,
        precision=precision,
        seed=recipe.teacher.seed,
        checkpoint_seconds=recipe.train.checkpoint_seconds,
    )
    logs = material.folder / "track" / "teacher"
    try:
        with watching(journal.progress, "teacher", tracker=recipe.train.track, folder=logs) as watch:
            done = train(
                student,
                feed,
                objective=[material.task.hard()],
                settings=settings,
                validate=material.validator(encoder),
                folder=checkpoints,
                watch=watch,
                should_stop=journal.should_stop,
            )
    except Interrupted as error:
        raise Interrupted(f"teacher: {error}") from None
    with new_folder(folder) as draft:
        save_teacher(model, draft / "model", label_names=splits.label_names, tokenizer=fresh.tokenizer)
        write_json(draft / "encoder.json", encoder.save(draft))
        facts = {"history": list(done.history), "seconds": done.seconds, "validation": done.best["student"]}
        write_json(draft / "training.json", {**facts, "precision": precision, "decisions": [sentence, *done.notes]})
        seal(draft)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _precision(recipe: Recipe, student: nn.Module, feed: Feed, frozen: Path) -> tuple[str, str]:
    """As the recipe says, or by a probe whose outcome is frozen: a resumed training must not decide anew."""
    if recipe.teacher.precision != "auto":
        return recipe.teacher.precision, f"the teacher is trained in {recipe.teacher.precision}, as asked for"
    if not frozen.is_file():
        write_json(frozen, probe(student, feed, batch_size=recipe.teacher.batch_size))
    precision, sentence = read_json(frozen)
    return str(precision), f"the teacher's {sentence}"


def _jitter(pixels: Any, keys: Any, *, epoch: int, most: int, seed: int) -> Any:
    return shift(pixels, keys, most=most, seed=seed, epoch=epoch)
