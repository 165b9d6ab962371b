"""Sub-word ids of texts that are said from left to right: what a decoder reads, and which tokens of it count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.chat import ChatProblem, Template, conversation
from understudy.encoding.features import RowError, columns, padded, text_columns
from understudy.encoding.masked import NOWHERE, weighed
from understudy.encoding.subwords import FILE, SubwordEncoder
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.ragged import Ragged

TEXT, PROMPTED, CHAT = ("text",), ("prompt", "completion"), ("messages",)
_HELD = 1 << 26  # logits that are held at once where rows are only measured: 256 MB
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Spoken:
    """Texts as sub-words.

    Attributes:
        ids: of every sub-word: start, prompt, what is said, end.
        first: int64 [N], the position of the first token that counts; those behind it count too, but for
        said: of conversations the positions of all tokens that count; None of others.
        size: int64 [N], UTF-8 bytes of the text that counts.
    """

    ids: Ragged
    first: Array
    size: Array
    said: Ragged | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cut(self) -> Array | None:
        """bool [N]: texts that lost their ends, or the beginning of their prompts."""
        return self.ids.cut


class CausalEncoder:
    """Sub-word ids of texts, prompts and completions, or conversations, each token to be said after those before it.

    Of a plain text every token counts that has one before it; of a prompt and its completion those of the completion
    alone, which is a sequence of sub-words of its own, as it is when a model writes it. The end is said too, whatever
    fills short rows. A text that ends in white space goes on elsewhere and has no end (`data.language` cuts long texts
    so), nor has one that is longer than the limit. A completion always ends. A prompt that leaves it no room loses its
    beginning.

    Of a conversation every turn of the assistant counts, with the mark that ends it, but for one that begins the
    conversation. Its ids are those of the text that its chat template makes of it, as a whole, and nothing is put
    before or behind. Longer than the limit it loses its end, and its beginning instead where the assistant would not
    have come to speak.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``; it is copied.
        limit: the most ids a row may have.
        start: ids that every row begins with; where there are none the first token of a plain text does not count.
        end_id: what a text ends with; None: nothing.
        padding_id: what fills short rows in a batch.
        fields: ``("text",)``, ``("prompt", "completion")`` or ``("messages",)``.
        template: of conversations.
    """

    kind = "causal"

    def __init__(
        self,
        tokenizer: Any,
        *,
        limit: int,
        start: Sequence[int] = (),
        end_id: int | None = None,
        padding_id: int = 0,
        fields: Sequence[str] = TEXT,
        template: Template | None = None,
    ) -> None:
        if tuple(fields) not in (TEXT, PROMPTED, CHAT):
            raise UsageError(f"a decoder reads text, prompt and completion, or messages, got {', '.join(fields)}")
        if (template is None) == (tuple(fields) == CHAT):
            raise UsageError("a chat template is for messages, and messages want one")
        if limit < len(start) + 2:
            raise UsageError(f"a limit of {limit} ids leaves no room for text")
        self._inner = SubwordEncoder(tokenizer, limit=1 << 20, token_types=False, padding_id=padding_id)
        self.limit, self.fields, self.padding_id = int(limit), tuple(fields), int(padding_id)
        self.template = template
        self.start, self.end_id = tuple(map(int, start)), None if end_id is None else int(end_id)
        self.size: int = self._inner.size

    @property
    def fingerprint(self) -> str:
        """Changes with the tokenizer and every setting."""
        return content_hash(self.kind, self._inner.fingerprint, repr(sorted(self._settings().items())))

    @property
    def tokenizer(self) -> Any:
        """Its own ``tokenizers.Tokenizer``: for reading."""
        return self._inner.tokenizer

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens after which a model that writes has said what it had to say: the end of a text, and of a turn."""
        mark = self.tokenizer.token_to_id(self.template.mark) if self.template is not None else None
        return tuple(dict.fromkeys(one for one in (self.end_id, mark) if one is not None))

    @property
    def most_rows(self) -> int:
        """Rows whose logits over the whole vocabulary are held at once where nothing is learnt."""
        return max(1, _HELD // (self.limit * self.size))

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Spoken:
        """Ids of every row. Raises RowError where a row holds no text, or no conversation that the template shows."""
        if self.fields == CHAT:
            return self._conversations(columns(inputs, CHAT)[0])
        each = text_columns(inputs, self.fields)
        read = self._prompted if self.fields == PROMPTED else self._plain
        found = [read(row, *texts) for row, texts in enumerate(zip(*each, strict=True))]
        ids = _ragged([one[0] for one in found])
        cut = np.array([one[3] for one in found], bool)
        first, size = (np.array([one[place] for one in found], np.int64) for place in (1, 2))
        return Spoken(Ragged(ids.values, ids.offsets, None, cut), first, size)

    def masked(
        self, features: Spoken, indices: Sequence[int] | Array, *, epoch: int | None = None
    ) -> tuple[dict[str, Array], Array]:
        """The inputs of a model, and what it is to say: the same form as of hidden tokens, and nothing is hidden.

        The shift by one is done here and nowhere else: at ``places`` stands the token before the one that is said.

        Args:
            features: of all rows.
            indices: [N] the rows that are wanted.
            epoch: every epoch asks the same.

        Returns:
            ``input_ids``, ``attention_mask`` int64 [N, L], ``places`` int64 [N, P], 0 behind a row's last; and the ids
            that come next there, int64 [N, P], -1 behind it.
        """
        rows = np.asarray(indices, np.int64)
        some = features.ids.take(rows)
        ids, mask = padded(some, self.padding_id)
        next_ones, there = _next_ones(features, rows, some.lengths)
        said = np.where(there, np.take_along_axis(ids, np.minimum(next_ones, ids.shape[1] - 1), axis=1), NOWHERE)
        places = np.where(there, next_ones - 1, 0)
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "places": places}, said

    def collate(self, features: Spoken, indices: Sequence[int] | Array) -> dict[str, Array]:
        """The inputs of `masked`."""
        return self.masked(features, indices)[0]

    def reduced(self, features: Spoken, indices: Sequence[int] | Array, logits: Array) -> Array:
        """What is kept of logits [N, P, V] of rows as `collate` gives them, float32 [N, 4]: see `joined`."""
        return self.joined(features, indices, weighed(logits, self.masked(features, indices)[1]))

    def joined(self, features: Spoken, indices: Sequence[int] | Array, sums: Array) -> Array:
        """float32 [N, 4]: tokens that count, their loss in nats, those that are the likeliest; and bytes of the text.

        Args:
            features: of all rows.
            indices: [N] the rows of which these are.
            sums: [N, 3], `encoding.masked.weighed`.
        """
        return np.column_stack([sums, features.size[np.asarray(indices, np.int64)]]).astype(np.float32)

    def lengths(self, features: Spoken) -> Array:
        """int64 [N]: ids per row."""
        return features.ids.lengths

    def counts(self, features: Spoken) -> Array:
        """int64 [V]: how often each token is to be said."""
        starts = features.ids.offsets[:-1]
        if features.said is not None:
            counted = features.ids.values[np.repeat(starts, features.said.lengths) + features.said.values]
        else:
            place = np.arange(len(features.ids.values)) - np.repeat(starts, features.ids.lengths)
            counted = features.ids.values[place >= np.repeat(features.first, features.ids.lengths)]
        return np.bincount(counted, minlength=self.size).astype(np.int64)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``tokenizer.json``; the entry for a manifest."""
        self._inner.save(folder)
        return {"kind": self.kind, "file": FILE, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> CausalEncoder:
        """The encoder that `save` wrote."""
        names = ("limit", "start", "end_id", "padding_id", "fields")
        settings = {name: entry[name] for name in names}
        if "template" in entry:
            settings["template"] = Template(**entry["template"])
        inner = SubwordEncoder.load(folder, {**entry, "fields": list(TEXT), "token_types": False})
        return cls(inner.tokenizer, **settings)

    def with_limit(self, limit: int) -> CausalEncoder:
        """The same with room for so many ids."""
        return CausalEncoder(self._inner.tokenizer, **{**self._settings(), "limit": limit, "template": self.template})

    def _settings(self) -> dict[str, Any]:
        more = {} if self.template is None else {"template": self.template.settings}
        return {
            "limit": self.limit, "start": list(self.start), "end_id": self.end_id, "padding_id": self.padding_id,
            "fields": list(self.fields), **more,
        }  # fmt: skip

    def _read(self, row: int, column: str, text: str) -> Any:
        found = self.tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)
        if not found.ids:
            raise RowError(row, column, "a text without a sub-word")
        return found

    def _conversations(self, rows: Sequence[Any]) -> Spoken:
        found = []
        for row, value in enumerate(rows):
            try:
                found.append(self._conversed(value))
            except ChatProblem as problem:
                raise RowError(row, CHAT[0], str(problem)) from None
        ids, said = _ragged([one[0] for one in found]), _ragged([one[1] for one in found])
        size = np.array([one[2] for one in found], np.int64)
        cut = np.array([one[3] for one in found], bool)
        first = np.array([one[1][0] if one[1] else 1 for one in found], np.int64)
        return Spoken(Ragged(ids.values, ids.offsets, None, cut), first, size, said)

    def _conversed(self, value: Any) -> tuple[list[int], list[int], int, bool]:
        """Ids, which of them count, the bytes of what counts, and whether something was lost."""
        template = self.template
        assert template is not None
        text, turns = template.spans(conversation(value))
        found = self.tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)
        # a token that reaches over the beginning of a turn is said by whoever takes the turn
        spoken: list[list[int]] = [
            [place for place, (start, stop) in enumerate(found.offsets) if place and stop > turn[0] and start < turn[1]]
            for turn in turns
        ]
        first = min((place for places in spoken for place in places), default=0)
        begin = 0 if first < self.limit else len(found.ids) - self.limit
        ids = found.ids[begin : begin + self.limit]
        said: list[int] = []
        size = 0
        for (start, _, content), places in zip(turns, spoken, strict=True):
            kept = [place for place in places if begin < place < begin + self.limit]
            whole, said = len(kept) == len(places), [*said, *(place - begin for place in kept)]
            if kept:
                between = (start, content) if whole else (found.offsets[kept[0]][0], found.offsets[kept[-1]][1])
                size += _bytes(text[max(start, between[0]) : min(content, between[1])])
        return ids, said, size, len(ids) < len(found.ids)

    def _end(self) -> list[int]:
        return [] if self.end_id is None else [self.end_id]

    def _plain(self, row: int, text: str) -> tuple[list[int], int, int, bool]:
        found = self._read(row, "text", text)
        end = [] if text[-1:].isspace() else self._end()
        room = self.limit - len(self.start)
        cut = len(found.ids) + len(end) > room
        kept = min(len(found.ids), room)
        # where nothing is before it the first token is read and not said, nor are its bytes
        begins = 0 if self.start else found.offsets[0][1]
        ids = [*self.start, *found.ids[:kept], *([] if cut else end)]
        return ids, max(1, len(self.start)), _bytes(text[begins : found.offsets[kept - 1][1] if cut else None]), cut

    def _prompted(self, row: int, prompt: str, completion: str) -> tuple[list[int], int, int, bool]:
        asked, said = self._read(row, "prompt", prompt), self._read(row, "completion", completion)
        end = self._end()
        room = self.limit - len(self.start)
        most = room - min(1, len(asked.ids))  # something of the prompt always stays
        short = len(said.ids) + len(end) > most
        answer = said.ids[:most] if short else [*said.ids, *end]
        before = asked.ids[-(room - len(answer)) :]
        size = _bytes(completion[: said.offsets[len(answer) - 1][1]] if short else completion)
        lost = short or len(before) < len(asked.ids)
        return [*self.start, *before, *answer], len(self.start) + len(before), size, lost


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _ragged(rows: list[list[int]]) -> Ragged:
    return Ragged.of([np.array(row, np.int32) for row in rows], np.zeros(0, np.int32))


def _next_ones(features: Spoken, rows: Array, lengths: Array) -> tuple[Array, Array]:
    """Positions of the tokens that count, int64 [N, P], 1 behind a row's last; and bool [N, P], which are there."""
    if features.said is not None:
        return padded(features.said.take(rows), 1)
    counted = np.maximum(lengths - features.first[rows], 0)
    behind = np.arange(max(1, int(counted.max(initial=1))))[None, :]
    there = behind < counted[:, None]
    return np.where(there, features.first[rows][:, None] + behind, 1), there
