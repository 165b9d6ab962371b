"""Where every part of a cut student comes from, found by comparing its weights with the teacher's bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from understudy.features import layer_stack
from understudy.students.cutting.axes import Axes
from understudy.students.cutting.factors import factors_of
from understudy.students.cutting.following import moved
from understudy.students.cutting.making import RECORD
from understudy.students.cutting.projections import FEED_FORWARD, feed_forward_of, head_size_of, key_heads_of
from understudy.students.cutting.sizes import Sizes
from understudy.students.cutting.width import carried, rescaled
from understudy.students.cutting.wording import part, sentence
from understudy.students.saving import parameters

CLOSE = 1e-4  # relative: rows of a factorised table are compared as numbers, not as bits


def inheritance(student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
    """What a cut student has from its teacher, found by comparing every tensor bit by bit.

    Ask before training. Of PCA nothing is left to compare; the config remembers what was projected from what.

    Returns:
        ``stack``: path of the layers. ``layers``: student layer -> teacher layer, None where no layer is equal.
        ``teacher_layers``: how many it has.
        ``carried`` and ``fresh``: names of the tensors outside the stack that are equal, and not.
        ``parameters``: {"teacher", "student"}. ``channels``, ``heads``, ``feed_forward``, ``vocabulary``: {"kept",
        "of", "how", "from"}; how is ``whole``, ``copied``, ``projected`` or ``fresh``, and ``from`` lists what was
        copied (of heads and feed-forward units a list for each layer), None otherwise. None where there is nothing to
        compare: all but vocabulary of a model as wide as its teacher, vocabulary of an image model.
        ``rank``: {"rank", "of", "energy", "used"} with the share of the squares of the table that it keeps, and that
        share where each sub-word weighs as often as it was used (None without rows), or None.
        ``chosen_by``: what channels, heads and units were chosen by, "" where none were left out. ``sentence``.

    Raises:
        UsageError: one of the two is not a transformers model with one stack of layers.
    """
    path, own = layer_stack(student)
    teacher_path, theirs = layer_stack(teacher)
    compared = _Compared.of(student, teacher, path)
    layers, heads, units = {}, [], []
    for i in range(len(own)):
        layers[i], maps = compared.layer(path, i, len(theirs))
        heads.append(_heads(maps.get(f"mixed.{layers[i]}"), compared))
        units.append(_listed(maps.get(f"units.{layers[i]}")))
    outside = compared.outside()
    carried_over = [name for name, same in outside.items() if same]
    record = getattr(getattr(student, "config", None), RECORD, None) or {}
    if compared.energy is not None:
        compared.energy["used"] = record.get("energy")
    report: dict[str, Any] = {
        "stack": teacher_path,
        "layers": layers,
        "teacher_layers": len(theirs),
        "carried": carried_over,
        "fresh": [name for name in outside if name not in carried_over],
        "parameters": {"teacher": parameters(teacher), "student": parameters(student)},
        **_sizes(compared, record, heads, units),
        "rank": compared.energy,
        "chosen_by": str(record.get("by", "")),
    }
    return {**report, "sentence": sentence(report, record, len(theirs))}


@dataclass
class _Compared:
    """Two models, and which entries of the teacher's axes the student has."""

    mine: dict[str, Tensor]
    theirs: dict[str, Tensor]
    stack: str
    kinds: dict[str, tuple[str, ...]]
    axes: Axes | None
    sizes: Sizes | None
    maps: dict[str, Tensor]
    vocabulary: tuple[int, int] | None
    energy: dict[str, Any] | None = None
    table: str = ""

    @classmethod
    def of(cls, student: nn.Module, teacher: nn.Module, stack: str) -> _Compared:
        ours: Any = getattr(student, "config", None)
        theirs: Any = getattr(teacher, "config", None)
        mine = {name: value.detach().cpu() for name, value in student.state_dict().items()}
        source = {name: value.detach().cpu() for name, value in teacher.state_dict().items()}
        kinds: dict[str, tuple[str, ...]] = {name: ("",) * value.ndim for name, value in source.items()}
        axes = sizes = None
        keys = ("hidden_size", "num_attention_heads", "head_dim", *FEED_FORWARD)
        if any(getattr(ours, key, None) != getattr(theirs, key, None) for key in keys):
            axes = Axes.of(teacher)
            kinds = dict(axes.kinds)
            width, heads, units = ours.hidden_size, ours.num_attention_heads, feed_forward_of(ours)
            fed = axes.feed_forward if units is None else units[1]
            sizes = Sizes(width, heads, key_heads_of(ours), head_size_of(ours), fed)
        words, all_words = getattr(ours, "vocab_size", None), getattr(theirs, "vocab_size", None)
        vocabulary = (words, all_words) if isinstance(words, int) and isinstance(all_words, int) else None
        if vocabulary and vocabulary[0] != vocabulary[1]:
            for name, rows in moved(teacher, vocab_size=vocabulary[1] + 1).items():
                marked = ["vocabulary" if axis in rows else kind for axis, kind in enumerate(kinds[name])]
                kinds[name] = tuple(marked)
        found = cls(mine, source, stack, kinds, axes, sizes, {}, vocabulary)
        found._find_width()
        found._find_words(student)
        return found

    def _find_width(self) -> None:
        """Channels: the slices of the largest tensor outside the layers whose other axes are all whole."""
        if self.axes is None or self.sizes is None or self.sizes.width == self.axes.width:
            return
        names = [name for name in self.kinds if name in self.mine and not name.startswith(f"{self.stack}.")]
        for kind in ("width", "inner"):
            alone = [n for n in names if len(self.kinds[n]) > 1 and set(self.kinds[n]) == {"", kind}]
            for name in sorted(alone, key=lambda n: self.mine[n].numel(), reverse=True):
                axis, mine, source = self.kinds[name].index(kind), self.mine[name], self.theirs[name]
                source = _tail(source, mine) if axis else source
                chosen = _matched(*(value.movedim(axis, 0).flatten(1) for value in (mine, source)))
                if chosen is not None:
                    self.maps[kind] = chosen
                    break

    def _find_words(self, student: nn.Module) -> None:
        """Rows of the sub-words, and what is left of the table at a rank."""
        factors = factors_of(student)
        names = [name for name, kind in self.kinds.items() if kind[:1] == ("vocabulary",) and len(kind) == 2]
        if factors is not None:
            self.table = f"{factors[0]}.weight"
            names = [self.table]
        if not names or (factors is None and names[0] not in self.mine):
            return
        source = carried({names[0]: self.theirs[names[0]]}, self.kinds, self.maps)[names[0]]
        if factors is None:
            chosen = _matched(self.mine[names[0]], source)
        else:
            module = factors[1]
            chosen = _nearest(module.table.weight.detach().cpu(), source, module.project.weight.detach().cpu())
        if chosen is not None and "vocabulary" in self.kinds[names[0]]:
            self.maps["vocabulary"] = chosen
        if factors is not None:
            self.energy = {"rank": factors[1].table.embedding_dim, "of": int(factors[1].project.out_features)}
            whole = factors[1].whole().cpu()
            known = chosen is not None and source.shape[1] == whole.shape[1]
            self.energy["energy"] = _energy(whole, source[chosen]) if known else None

    def layer(self, path: str, mine: int, total: int) -> tuple[int | None, dict[str, Tensor]]:
        """Which of the teacher's layers a layer is, and the maps of its heads and units."""
        own = {name: value for name, value in self.mine.items() if name.startswith(f"{path}.{mine}.")}
        for other in range(total):
            maps = self._inside(mine, other)
            if maps is None:
                continue
            prefix = f"{path}.{other}."
            there = {name: value for name, value in self.theirs.items() if name.startswith(prefix)}
            there = self._carried(there, {**self.maps, **maps})
            renamed = {f"{path}.{mine}.{name.removeprefix(prefix)}": value for name, value in there.items()}
            if renamed.keys() == own.keys() and all(_equal(own[name], renamed[name]) for name in own):
                return other, maps
        return None, {}

    def outside(self) -> dict[str, bool]:
        """Whether each of the student's tensors outside its layers is the teacher's."""
        there = {name: value for name, value in self.theirs.items() if not name.startswith(f"{self.stack}.")}
        there = self._carried(there, self.maps)
        found = {}
        for name, value in self.mine.items():
            if name.startswith(f"{self.stack}."):
                continue
            if self.table and name.startswith(self.table.removesuffix("weight")):
                found[name] = bool(self.energy and self.energy["energy"] is not None)
                continue
            found[name] = name in there and _equal(value, _tail(there[name], value))
        return found

    def _carried(self, weights: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = carried(weights, self.kinds, maps)
        return found if self.axes is None or self.sizes is None else rescaled(found, self.axes, self.sizes)

    def _inside(self, mine: int, other: int) -> dict[str, Tensor] | None:
        """Heads and units of one layer in another; None where they are not there."""
        if self.axes is None or self.sizes is None:
            return {}
        maps = {}
        here, there = self.axes.layers[mine], self.axes.layers[other]
        for kind, ours, theirs in (
            ("key", (here.key,), (there.key,)), ("value", (here.value,), (there.value,)),
            ("units", here.rises, there.rises),
        ):  # fmt: skip
            found = _matched(self._rows(self.mine, kind, ours), self._rows(self.theirs, kind, theirs))
            if found is None:
                return None
            maps[f"{kind}.{other}"] = found
        return self.axes.whole(maps)

    def _rows(self, weights: Mapping[str, Tensor], kind: str, paths: tuple[str, ...]) -> Tensor:
        """The weights that give keys, values or units, [outputs, *], the teacher's with the channels that are kept."""
        axes, names = self.axes, [f"{path}.weight" for path in paths]
        assert axes is not None
        assert self.sizes is not None
        some = {name: weights[name] for name in names}
        if weights is self.theirs:
            some = carried(some, self.kinds, self.maps)
        across = [self.kinds[name][0] == "width" for name in names]  # GPT-2's weights are [inputs, outputs]
        rows = torch.cat([some[n].T if flip else some[n] for n, flip in zip(names, across, strict=True)], dim=1)
        if kind == "units" or not axes.layers[0].fused:
            return rows
        sizes = Sizes.of(axes) if weights is self.theirs else self.sizes
        keys = sizes.key_heads * sizes.head_size
        return rows.split([sizes.heads * sizes.head_size, keys, keys])[1 if kind == "key" else 2]


def _matched(mine: Tensor, theirs: Tensor) -> Tensor | None:
    """For each row the first row of the teacher's with the same bits that was not taken; None where one has none."""
    if mine.shape[1:] != theirs.shape[1:] or mine.dtype != theirs.dtype:
        return None
    places: dict[bytes, list[int]] = {}
    for i, row in enumerate(_bytes(theirs)):
        places.setdefault(row, []).append(i)
    found = []
    for row in _bytes(mine):
        left = places.get(row)
        if not left:
            return None
        found.append(left.pop(0))
    return torch.tensor(found)


def _bytes(value: Tensor) -> list[bytes]:
    packed = value.clone(memory_format=torch.contiguous_format).view(torch.uint8)
    return [row.tobytes() for row in packed.numpy()]


def _nearest(rows: Tensor, table: Tensor, project: Tensor) -> Tensor | None:
    """For each row of a factorised table the teacher's row that it stands for; None where one is not close to any."""
    if table.shape[1] != project.shape[0]:
        return None
    coordinates = table.double() @ torch.linalg.pinv(project.double()).T
    if len(rows) == len(table):
        same = (rows.double() - coordinates).norm() <= CLOSE * coordinates.norm()
        return torch.arange(len(rows)) if same else None
    found = []
    for some in rows.double().split(1024):
        distance, place = torch.cdist(some, coordinates).min(1)
        if bool((distance > CLOSE * coordinates.norm(dim=1).mean()).any()):
            return None
        found.append(place)
    return torch.cat(found)


def _energy(found: Tensor, wanted: Tensor) -> float:
    wanted, found = wanted.double(), found.double()
    return float(1 - (found - wanted).square().sum() / wanted.square().sum())


def _heads(rows: Tensor | None, compared: _Compared) -> list[int] | None:
    """Which heads the mixed values are of."""
    if rows is None or compared.axes is None or compared.sizes is None:
        return None
    return [int(row) // compared.axes.head_size for row in rows[:: compared.sizes.head_size]]


def _listed(rows: Tensor | None) -> list[int] | None:
    return None if rows is None else [int(row) for row in rows]


def _tail(value: Tensor, like: Tensor) -> Tensor:
    """The last rows of a longer table: RoBERTa's positions begin behind the padding id."""
    longer = value.ndim == like.ndim and len(value) > len(like) if value.ndim and like.ndim else False
    return value[-len(like) :] if longer else value


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _sizes(compared: _Compared, record: Mapping[str, Any], heads: list[Any], units: list[Any]) -> dict[str, Any]:
    axes, sizes = compared.axes, compared.sizes
    projected = record.get("choose") == "pca"
    words = compared.vocabulary
    found: dict[str, Any] = {"channels": None, "heads": None, "feed_forward": None, "vocabulary": None}
    if axes is not None and sizes is not None:
        channels = _listed(compared.maps.get("width"))
        found["channels"] = part(sizes.width, axes.width, channels, projected)
        found["heads"] = part(sizes.heads, axes.heads, heads, projected)
        found["feed_forward"] = part(sizes.feed_forward, axes.feed_forward, units, projected)
    if words is not None:
        found["vocabulary"] = part(words[0], words[1], _listed(compared.maps.get("vocabulary")), projected)
    return found
