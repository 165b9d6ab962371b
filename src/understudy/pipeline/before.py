"""What would fail only after hours of training, refused before its first step."""

from __future__ import annotations

from pathlib import Path

from understudy.answers import LABEL, MASKED, NEXT
from understudy.data import Splits
from understudy.data.augmentation import IMAGE_VIEWS, TEXT_VIEWS
from understudy.data.problems import nearest
from understudy.data.read import image_row
from understudy.encoding import PixelEncoder, RowError
from understudy.errors import DataError, RecipeError, TeacherError, choices
from understudy.pipeline.adapting import refuse_adapters
from understudy.pipeline.asking import refuse_endpoint
from understudy.pipeline.defaults import AUTO, BUILT_IN, FAMILIES, TREES
from understudy.pipeline.objective import entries, reads_only_logits, refuse_silence, refuse_terms
from understudy.pipeline.recipe import Objective, Recipe, Student, with_values
from understudy.pipeline.samples import refuse as refuse_samples
from understudy.pipeline.steps import of_step, refuse_steps
from understudy.pipeline.watching import check_tracker
from understudy.pipeline.written import refuse_rollouts
from understudy.statistics import METRICS
from understudy.tasks import Task, task_named

CHOSEN = (
    *("layers", "width", "heads", "feed_forward", "vocabulary", "rank", "depth", "blocks"),
    *("dimensions", "hidden", "words", "buckets", "exits"),
)  # dials of the student that mean nothing where its family is yet to be chosen


def refuse(recipe: Recipe, splits: Splits) -> None:
    """Checks a resolved recipe against its rows; looks at no label of the test split.

    Raises:
        RecipeError: a metric that is not known, or gates and labels of interest that are no label of the data.
        TeacherError: a built-in image teacher where there are no images.
        UsageError: a tracker that is not there.
    """
    refuse_endpoint(recipe)
    check_tracker(recipe.train.track)
    _refuse_unchosen(recipe)
    refuse_terms(recipe)
    refuse_silence(recipe)
    refuse_steps(recipe)
    for step in recipe.steps:
        inner = of_step(recipe, step)
        refuse_terms(inner)
        if step.name in (recipe.learns_from, *(other.learns_from for other in recipe.steps)):
            refuse_silence(inner, f"steps, {step.name}, objective")
    _refuse_families(recipe)
    _refuse_folder(recipe)
    _refuse_bits(recipe)
    _refuse_auto(recipe)
    _refuse_members(recipe)
    _refuse_peers(recipe)
    _refuse_moves(recipe, splits)
    _refuse_task(recipe)
    refuse_rollouts(recipe)
    refuse_adapters(recipe)
    table = task_named(str(recipe.task)).tabular
    if (recipe.teacher.path == TREES) != table and (table or recipe.teacher.path == TREES) and recipe.teacher.path:
        raise TeacherError(
            f"the teacher of a {recipe.task} is {TREES}, got {recipe.teacher.path}: name it with --teacher {TREES}, or "
            "pass your own to distill_models"
            if table
            else f"the built-in teacher {TREES} reads tables, and the task is {recipe.task}: name the folder of a model"
        )
    if table and recipe.teacher.targets == "live":
        raise RecipeError(f"teacher.targets: {TREES} answers raw rows and cannot run in a training step: use stored")
    if recipe.teacher.path in BUILT_IN and "image" not in splits.train.inputs:
        raise TeacherError(
            f"the built-in teacher {recipe.teacher.path} reads images, and the task is {recipe.task}: "
            "name the folder of a transformers model with --teacher"
        )
    names, counts = splits.label_names, splits.validation.counts(len(splits.label_names))
    outside = recipe.evaluation.out_of_scope
    if outside is not None and outside not in names:
        raise RecipeError(_no_label("evaluation.out_of_scope", outside, names))
    for label in recipe.export.floors:
        if label not in names:
            raise RecipeError(_no_label("export.floors", label, names))
        if not counts[names.index(label)]:
            raise RecipeError(
                f'export.floors names "{label}", which no validation row has: its recall cannot be measured; '
                "add such rows to validation, or take the floor out"
            )


def _refuse_task(recipe: Recipe) -> None:
    """What means nothing for this task's answer."""
    task = task_named(str(recipe.task))
    answer, metric = task.answer, str(recipe.evaluation.metric)
    fitting = [name for name, one in METRICS.items() if one.answer == answer.name]
    if metric not in fitting:
        raise RecipeError(
            f'evaluation.metric: no metric "{metric}" of {task.name} ({nearest(metric, fitting)}); --metric says it'
        )
    if not answer.softens and recipe.objective.temperature is not None:
        raise RecipeError(
            f"objective.temperature: {recipe.objective.temperature} would change nothing: {task.name} gives "
            f"{'scores' if answer.labelled else 'vectors'}, which are not softened; leave it out, or take it out of a "
            "recipe by name with --set objective.temperature=null"
        )
    if answer.reduced:
        _refuse_hidden(recipe, task)
    if not answer.labelled:
        _refuse_labels(recipe, task.name)
    elif recipe.student.embedding is not None:
        raise RecipeError(f"student.embedding is the width of vectors, and {task.name} gives none; leave it out")
    only = {
        "objective.class_weights": recipe.objective.class_weights == "balanced",
        "export.floors": bool(recipe.export.floors),
        "evaluation.out_of_scope": recipe.evaluation.out_of_scope is not None,
        "student.exits": recipe.student.exits is not None,
        "teacher.members": recipe.teacher.members is not None,
    }
    for key, said in only.items():
        if said and answer is not LABEL:
            raise RecipeError(f"{key} is for tasks whose answer is one label of several, and a {task.name} is none")


def _refuse_hidden(recipe: Recipe, task: Task) -> None:
    """What does not go with texts that are their own labels, be it tokens that are hidden, or those that come next."""
    if task.answer is NEXT:
        refuse_samples(recipe, [name for name, _ in entries(recipe)])
    elif recipe.teacher.targets == "stored":
        raise RecipeError(
            f"teacher.targets: other tokens are hidden in every epoch of a {task.name}, so that no answer can be "
            "stored: use live, or leave it out"
        )
    if recipe.data.views:
        why = "every epoch is a view of its own" if task.answer is MASKED else "another text would be another label"
        raise RecipeError(f"data.views: {why} in a {task.name}; leave it out")
    if recipe.student.family == AUTO:
        raise RecipeError(f"student auto: a {task.name} has one family of students, cut: name it with --student cut")


def _refuse_labels(recipe: Recipe, task: str) -> None:
    """What wants labels, where training rows have none."""
    if recipe.objective.alpha != Objective.model_fields["alpha"].default:
        raise RecipeError(
            f"objective.alpha: {recipe.objective.alpha} would change nothing: training rows of {task} have no labels "
            "to weigh against the teacher; leave it out"
        )
    if recipe.teacher.fine_tune == "always":
        raise RecipeError(
            f"teacher.fine_tune: a teacher of {task} is taken as it is, for there are no labels to train it on"
        )


def _refuse_unchosen(recipe: Recipe) -> None:
    if recipe.student.family != AUTO:
        return
    sizes = (key for key in CHOSEN if getattr(recipe.student, key) != Student.model_fields[key].default)
    said = [f"student.{key}" for key in sizes] + [key for key in ("steps", "peers") if getattr(recipe, key)]
    if said:
        raise RecipeError(
            f"{', '.join(said)}: student auto chooses family and sizes of one student that learns alone: leave "
            f"{'that' if len(said) == 1 else 'these'} out, or name a family with --student"
        )


def _refuse_families(recipe: Recipe) -> None:
    known = FAMILIES[str(recipe.task)]
    said = {f"steps, {step.name}": str(of_step(recipe, step).student.family) for step in recipe.steps}
    said |= {f"peers, {n}": str(differs.get("family", "teacher")) for n, differs in enumerate(recipe.peers, 1)}
    for where, family in said.items():
        if family not in known and family != "teacher":
            raise RecipeError(f'{where}: student "{family}" cannot do {recipe.task}: {choices(family, known)}')


def _refuse_folder(recipe: Recipe) -> None:
    if recipe.student.folder is not None and recipe.student.family != "cut":
        raise RecipeError(
            f"student.folder is what a cut student is cut from, and the student is a {recipe.student.family}: leave it "
            "out, or name --student cut"
        )


def _refuse_bits(recipe: Recipe) -> None:
    if recipe.export.bits == 4 and recipe.student.family not in ("static", "ngram", AUTO):
        raise RecipeError(
            f"export.bits: 4 bits are for students that look vectors up, and the student is a {recipe.student.family}: "
            "use 8, or a static or ngram student"
        )


def _refuse_members(recipe: Recipe) -> None:
    several = len(recipe.teacher.members or ()) > 1
    for one in (recipe, *(of_step(recipe, step) for step in recipe.steps)):
        if several and one.learns_from == "teacher" and not reads_only_logits(one):
            raise RecipeError(
                "teacher.members: several teachers share no layers, only answers: take the terms that read features "
                "out of the objective, or name one teacher"
            )


def _refuse_auto(recipe: Recipe) -> None:
    inner = [of_step(recipe, step) for step in recipe.steps]
    for dial in ("temperature", "alpha"):
        if not any(getattr(one.objective, dial) == "auto" for one in (recipe, *inner)):
            continue
        if recipe.steps or recipe.peers:
            raise RecipeError(
                f"objective.{dial}: auto is chosen by short runs of a student that learns alone, and this recipe has "
                f"{'steps' if recipe.steps else 'peers'}: say a number"
            )


def _refuse_moves(recipe: Recipe, splits: Splits) -> None:
    if recipe.data.views and task_named(str(recipe.task)).tabular:
        raise RecipeError("data.views: texts and images have views, rows of a table have none: leave it out")
    mine, kind = (IMAGE_VIEWS, "images") if "image" in splits.train.inputs else (TEXT_VIEWS, "texts")
    for name in recipe.data.moves or ():
        if name not in mine:
            raise RecipeError(f"data.moves: {name} is not for {kind}, which take {', '.join(mine)}")
        if name == "masked_words" and recipe.data.masked_model is None:
            raise RecipeError("data.moves: masked_words wants data.masked_model, the folder of a masked language model")
        if name == "masked_words" and not Path(str(recipe.data.masked_model)).is_dir():
            raise RecipeError(f"data.masked_model: no folder at {recipe.data.masked_model}")
    if recipe.data.moves and not recipe.data.views:
        raise RecipeError("data.moves without data.views changes nothing: data.views=1 makes one view of every row")


def _refuse_peers(recipe: Recipe) -> None:
    for number, differs in enumerate(recipe.peers, 1):
        if "start" in differs or (differs.get("family") == "teacher" and len(differs) > 1):
            odd = "start" if "start" in differs else next(key for key in differs if key != "family")
            raise RecipeError(
                f"peers: {odd} of peer {number} would change nothing: a peer starts afresh, and one of family teacher "
                "is the teacher's own kind as it is"
            )
        if differs.get("family") != "teacher":
            with_values(recipe, {f"student.{key}": value for key, value in differs.items()})
        if recipe.ships == "best" and differs:
            raise RecipeError(
                f"ships: best wants peers that are like the student, and peer {number} differs in "
                f"{', '.join(differs)}: only what has a twin can be judged; use ships: student"
            )
    if recipe.ships == "best" and recipe.student.exits is not None:
        raise RecipeError("ships: best and student.exits do not go together: only the student's own exits are taught")
    if recipe.ships == "best" and not recipe.peers:
        raise RecipeError(
            "ships: best wants peers to choose among, and there are none: peers: [{}] is one more student"
        )


def _no_label(key: str, name: str, names: tuple[str, ...]) -> str:
    return f'{key} names "{name}", which is no label of the data ({nearest(name, names)})'


def decode(splits: Splits, recipe: Recipe) -> None:
    """Opens every image once: a broken one in the test split is found now, and not after the training.

    Raises:
        DataError: an image that cannot be decoded; its file and row (from 1) are named, or its split where there is no
            file.
    """
    encoder = PixelEncoder((8, 8), channels=1)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    for name, part in (parts | {"unlabelled": splits.unlabelled}).items():
        if part is None or "image" not in part.inputs:
            continue
        try:
            for start in range(0, len(part), 1024):
                encoder.encode({"image": part.inputs["image"][start : start + 1024]})
        except RowError as error:
            row, dials = start + error.row, recipe.data
            said = image_row(dials.path, dials.image, part.inputs["image"][row]) if dials.path else ""
            where = said or f"{name}, row {row + 1:,}"
            raise DataError(f"{where}: {error.problem}; replace the image, or take the row out") from None
