"""More rows out of rows: each view is an example of its own, with its own content key, which the teacher labels itself.

So stored targets stay aligned with no bookkeeping, and student and teacher are always shown the same thing. What a view
looks like depends on (seed, number of the view, content key) alone: not on the order of the rows, on which others there
are, or on the process. The one exception is ``mixup``, whose partner is looked for among the rows.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy import tags
from understudy.answers import blank
from understudy.data import image_views, text_views
from understudy.data.examples import Examples, content_key
from understudy.data.text_views import Fill, Neighbours, Random
from understudy.encoding.features import RowError, not_text
from understudy.errors import UsageError, choices
from understudy.files import content_hash
from understudy.ragged import as_rows

TEXT_VIEWS = ("drop_words", "swap_words", "replace_words", "masked_words")
IMAGE_VIEWS = ("shift", "rotate", "crop", "flip", "mixup")
KEEP_THE_LABEL = ("shift", "rotate", "crop", "flip")
MOVE_WORDS = ("drop_words", "swap_words")  # by their places alone, so the tags of words can go where these go

_ROWS = 512  # viewed together: enough for a masked language model to form batches, few enough to be held as pixels

View = Callable[[Any, Random], Any]
Move = Callable[[list[Any], str, Sequence[int], Sequence[Random]], list[Any]]  # values of a column at some rows


@dataclass(frozen=True, eq=False)
class Views:
    """Rows made from rows.

    Attributes:
        examples: the views; no two of one content, and none with the content of a row that was there.
        origins: [M] the row that each was made from.
        asked: views times different contents.
        unchanged: views in which nothing had changed; left out.
        repeated: views with the content of another view or of a known row; left out.
    """

    examples: Examples
    origins: NDArray[np.int64]
    asked: int
    unchanged: int
    repeated: int

    @property
    def note(self) -> str:
        """What was made and what was left out, one sentence."""
        left = [f"{self.unchanged:,} in which nothing changed"] * bool(self.unchanged)
        left += [f"{self.repeated:,} that repeat{'s' * (self.repeated == 1)} a row or a view"] * bool(self.repeated)
        return f"{len(self.examples):,} of {self.asked:,} views became rows" + (
            f"; left out: {' and '.join(left)}" if left else ""
        )


def augment(
    examples: Examples,
    names: Sequence[str],
    *,
    views: int,
    seed: int,
    neighbours: Neighbours | None = None,
    fill: Fill | None = None,
    labelled: bool = False,
    avoid: Collection[str] = (),
) -> Views:
    """``views`` new rows for each content: every one goes through the named views, in their order.

    Every view of a row draws from a generator of its own, seeded with ``content_hash(seed, view, key)``. Rows are
    ordered by number of the view first, so that more views only add rows at the end. Images come back as PNG.

    Args:
        examples: rows of texts, lists of words or images; a view of text changes every column of strings and of words.
            They stay as they are.
        names: of `TEXT_VIEWS` or `IMAGE_VIEWS`, at least one; what they do is in `data.text_views` and
            `data.image_views`.
        views: at least 1.
        seed: another seed, other views.
        neighbours: for ``replace_words``: word -> near words.
        fill: for ``masked_words``: asks a masked language model.
        labelled: give the views the labels of their rows, which images that are moved keep, and the tags of words: each
            goes where its word goes, and a word that is replaced leaves its tag to the other.
        avoid: more keys that no view may have: those of validation and test rows, lest they are learnt from.

    Returns:
        The views, without a label (-1: only soft terms hear them) unless ``labelled``.

    Raises:
        UsageError: an unknown view, one for other rows than these, one that lacks what it needs or changes the label,
            or no view at all.
        RowError: a row that holds no text or no image.

    >>> made = augment(Examples.of({"text": ["my card", "yes"]}, [0, 1]), ["swap_words"], views=2, seed=0)
    >>> made.examples.inputs["text"], made.examples.labels.tolist()
    (['card my'], [-1])
    >>> made.note
    '1 of 4 views became rows; left out: 2 in which nothing changed and 1 that repeats a row or a view'
    """
    if views < 1 or not names:
        raise UsageError(f"augment makes at least 1 view with at least one move; got views={views} and {list(names)}")
    tagged = labelled and examples.labels.dtype.kind == "O"
    columns = _columns(examples, names, labelled=labelled and not tagged)
    first = {key: row for row, key in reversed(list(enumerate(examples.keys)))}
    moves = [_move(name, examples, first, neighbours, fill) for name in names]
    rows, known = sorted(first.values()), {*examples.keys, *avoid}
    made: dict[str, list[Any]] = {name: [] for name in examples.inputs}
    keys, origins, unchanged = list[str](), list[int](), 0
    said: list[Any] = []
    for view in range(views):
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            randoms = [_random(seed, view, examples.keys[row]) for row in some]
            where = _followed(examples, some, columns[0], names, moves, randoms) if tagged else []
            viewed = _viewed(examples, some, columns, moves, randoms)
            for i, (row, values) in enumerate(zip(some, viewed, strict=True)):
                if values is None:
                    unchanged += 1
                elif (key := content_key(values)) not in known:
                    known.add(key)
                    keys.append(key)
                    origins.append(row)
                    if tagged:
                        said.append(_following(examples.labels[row], where[i]))
                    for name, value in values.items():
                        made[name].append(value)
    sources = np.array(origins, np.int64)
    labels = examples.labels[sources] if labelled else blank(examples.labels, len(keys))
    if tagged:
        labels = as_rows(said)
    asked = views * len(rows)
    return Views(Examples(made, labels, tuple(keys)), sources, asked, unchanged, asked - unchanged - len(keys))


def _columns(examples: Examples, names: Sequence[str], *, labelled: bool) -> list[str]:
    """The columns that these views are for: all of strings, or all of image files."""
    for name in names:
        if name not in (*TEXT_VIEWS, *IMAGE_VIEWS):
            raise UsageError(f'there is no view "{name}": {choices(name, (*TEXT_VIEWS, *IMAGE_VIEWS))}')
        if labelled and name not in KEEP_THE_LABEL:
            raise UsageError(
                f'the view "{name}" may change what a row is, so its label cannot be kept: leave labelled out, or use '
                f"{', '.join(KEEP_THE_LABEL)}"
            )
    held = {column: type(values[0]) for column, values in examples.inputs.items() if values}
    texts, images = ([column for column, kind in held.items() if kind in wanted] for wanted in ((str, list), (bytes,)))
    for name in names if held else ():
        kind, wanted, others = ("texts", texts, IMAGE_VIEWS) if name in TEXT_VIEWS else ("images", images, TEXT_VIEWS)
        if not wanted:
            raise UsageError(f'the view "{name}" is for {kind}, and these rows hold none; others: {", ".join(others)}')
    if texts and images and not set(names) <= set(TEXT_VIEWS) and not set(names) <= set(IMAGE_VIEWS):
        raise UsageError(f"views of texts and of images are made one after the other, not together: {list(names)}")
    return texts if names[0] in TEXT_VIEWS else images


def _move(
    name: str, examples: Examples, first: Mapping[str, int], neighbours: Neighbours | None, fill: Fill | None
) -> Move:
    """A view as a function of many values."""
    if name == "masked_words":
        if fill is None:
            raise UsageError("masked_words asks a masked language model: give fill=, see data.filling")
        return lambda texts, _, __, randoms: text_views.masked_words(texts, randoms, fill)
    if name == "replace_words":
        if neighbours is None:
            raise UsageError("replace_words wants neighbours=, such as nearest_words(words, vectors)")
        return partial(_each, partial(text_views.replace_words, neighbours=neighbours))
    if name == "mixup":
        return partial(_mixed, examples, sorted(first), first)
    return partial(_each, getattr(text_views if name in TEXT_VIEWS else image_views, name))


def _each(view: View, values: list[Any], column: str, rows: Sequence[int], randoms: Sequence[Random]) -> list[Any]:
    return [view(value, random) for value, random in zip(values, randoms, strict=True)]


def _mixed(
    examples: Examples,
    ring: Sequence[str],
    first: Mapping[str, int],
    values: list[Any],
    column: str,
    rows: Sequence[int],
    randoms: Sequence[Random],
) -> list[Any]:
    """Every image with the one whose key comes next after a random point: new rows change few partners of old ones."""
    mixed = []
    for pixels, row, random in zip(values, rows, randoms, strict=True):
        place = bisect_left(ring, random.bytes(16).hex()) % len(ring)
        if ring[place] == examples.keys[row]:
            place = (place + 1) % len(ring)
        other = _pixels(examples, column, first[ring[place]], like=pixels)
        mixed.append(image_views.mixup(pixels, other, random))
    return mixed


def _viewed(
    examples: Examples, rows: Sequence[int], columns: Sequence[str], moves: Sequence[Move], randoms: Sequence[Random]
) -> list[dict[str, Any] | None]:
    """The views of some rows; None where nothing changed."""
    found = {name: [values[row] for row in rows] for name, values in examples.inputs.items()}
    changed = [False] * len(rows)
    for column in columns:
        values = before = [_read(examples, column, row) for row in rows]
        for move in moves:
            values = move(values, column, rows, randoms)
        for i, (old, new) in enumerate(zip(before, values, strict=True)):
            if isinstance(new, str | list):
                same = old == new
            elif not (same := np.array_equal(old, new)):  # an image that did not change keeps its file
                new = image_views.write_png(new)
            if not same:
                found[column][i], changed[i] = new, True
    names = list(found)
    return [
        dict(zip(names, values, strict=True)) if new else None
        for values, new in zip(zip(*found.values(), strict=True), changed, strict=True)
    ]


def _followed(
    examples: Examples,
    rows: Sequence[int],
    column: str,
    names: Sequence[str],
    moves: Sequence[Move],
    randoms: Sequence[Random],
) -> list[NDArray[np.int64]]:
    """Of each row's view the place that every word comes from; the generators are left as they are.

    The moves are made twice: with the words, since what a view draws may depend on them, and with their places.
    """
    randoms = [copy.deepcopy(random) for random in randoms]
    values = [_read(examples, column, row) for row in rows]
    places = [[str(place) for place in range(len(words))] for words in values]
    for name, move in zip(names, moves, strict=True):
        if name in MOVE_WORDS:
            places = move(places, column, rows, [copy.deepcopy(random) for random in randoms])
        values = move(values, column, rows, randoms)
    return [np.array([int(place) for place in one], np.int64) for one in places]


def _following(row: Any, places: NDArray[np.int64]) -> Any:
    return None if row is None else tags.following(row, places)


def _random(seed: int, view: int, key: str) -> Random:
    return np.random.Generator(np.random.PCG64(int(content_hash(str(seed), str(view), key), 16)))


def _read(examples: Examples, column: str, row: int) -> Any:
    """A text or a list of words as it is, an image as pixels."""
    value = examples.inputs[column][row]
    if isinstance(examples.inputs[column][0], bytes):
        return _pixels(examples, column, row)
    if not isinstance(value, str | list):
        raise not_text(row, column, value)
    return value


def _pixels(examples: Examples, column: str, row: int, like: Any = None) -> Any:
    image = examples.inputs[column][row]
    if not isinstance(image, bytes):
        raise RowError(row, column, f"wanted the bytes of an image file, got a {type(image).__name__}")
    try:
        return image_views.read_pixels(image, like)
    except RowError as error:
        raise RowError(row, column, error.problem) from error.__cause__
