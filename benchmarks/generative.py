"""What a small decoder learns of a larger one, live, from a store, of its texts and on-policy, beside its twin.

    python benchmarks/generative.py --data FOLDER_OF_DATA_SETS --out OUT
    python benchmarks/generative.py --data FOLDER_OF_DATA_SETS --out OUT --sets tiny_shakespeare,corpus_en --seeds 1
    python benchmarks/generative.py --out OUT --table                       # the table of what is there

Every set is a folder of ``train|validation|test.parquet`` with a column ``text``. A byte-level BPE and a GPT-2-like
teacher of about 5 M parameters are made from the training texts (its best epoch on validation), then students of a
quarter of its size, from random weights, one in OUT/ROW-SEED for every row and seed: the same rows in the same order
for the same number of steps, so equal training tokens; their last weights count. A second call goes on where the first
one stopped. The table has bits per byte on the test texts of the first set, and the differences to the twin and to the
live teacher with their 95 % intervals (over test rows and seeds; less is better).

Sequence-level: the teacher writes every training row anew, once, after its first tokens, at temperature 1 and exactly
as long as it was, and the student learns those texts as the twin learns the data's. On-policy: the student writes half
of its batches after the first halves of the rows, as long as they were where it does not end before; it reads as many
tokens as the others, and of a batch that it wrote those count that it wrote, about half.

Time, by steps that were timed (one thread, process time, median of some ten steps of 32 rows): twin 0.21 s, stored
0.25, live 0.41, JSD 0.53, on-policy 0.51 where the student writes; teacher 0.61; a store 12.6 s for 320 rows, the
teacher's own texts 12 s for 256. So on tiny_shakespeare (6,308 rows, 1,188 steps a student) this takes about 2.8 hours
of one core:

    nice python benchmarks/generative.py --data FOLDER_OF_DATA_SETS --out runs/generative --seeds 3

docs/tasks.md has the table of `--precision bf16 --epochs 4 --teacher-epochs 6`: about three hours of one core that had
another training beside it.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy import objectives as match
from understudy.data import Examples
from understudy.data.feed import Feed
from understudy.data.read import load
from understudy.files import new_folder, read_json, read_tensors, seal, sealed, write_json, write_tensors
from understudy.objectives import Term
from understudy.records import Batch, Targets
from understudy.statistics import METRICS, Interval, difference
from understudy.students import CausalLM, Student
from understudy.targets import Store, fingerprint
from understudy.targets.packing import bytes_per_position
from understudy.tasks import LAYOUTS
from understudy.teachers import (
    Live,
    Loaded,
    StoredTokens,
    open_teacher,
    sample_identity,
    score_rows,
    token_scorer,
)
from understudy.teachers.writing import drawing, numbers_of, speaker_of, write
from understudy.training import Lower, Rollouts, Settings, train

END = "<|endoftext|>"
TEACHER = {"n_embd": 256, "n_layer": 6, "n_head": 8}  # 5.1 M parameters with 1,024 entries
STUDENT = {"n_embd": 148, "n_layer": 4, "n_head": 4}  # 1.2 M
WRITERS = 64  # rows that the teacher writes at once
LIMIT = 256  # ids of a row, at most
TOP = 16
METRIC = "bits_per_byte"
AGAINST = {"twin": "to the twin", "forward-kl-live": "to forward KL, live"}
KEPT = 8  # ids of a row, its start among them, after which the teacher writes
SHARE = 0.5  # of the batches that a student writes in the row on-policy
CLOSE = 0.01  # bits per byte by which a store may differ from the live teacher


class Renormalised(StoredTokens):
    """Only the head that is stored, made to sum to 1: what most stores do. It is biased: the tail is said not to be."""

    def targets(self, batch: Batch) -> Targets:
        """As `StoredTokens.targets`, without a tail."""
        said = dict(super().targets(batch).signals)
        head, mass = f"{self.name}.sample.head_log_p", f"{self.name}.sample.log_mass"
        said[head] = said[head] - said[head].logsumexp(-1, keepdim=True)
        said[mass] = torch.full_like(said[mass], -torch.inf)
        return Targets(said)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        called: in words.
        term: what is learnt.
        source: ``None``, ``live``, ``stored`` or ``top``.
        k: tokens of the head that are stored.
        n: tokens of the tail.
        written: whether the teacher wrote the rows.
        share: of the batches, that the student writes.
    """

    called: str
    term: Term
    source: str | None = None
    k: int = 0
    n: int = 0
    written: bool = False
    share: float = 0.0


ROWS = {
    "twin": Row("student alone (twin)", match.hard_tokens()),
    "sequence-level": Row("sequence-level (the teacher's texts)", match.hard_tokens(), written=True),
    "forward-kl-live": Row("forward KL, live", match.soft_tokens(), "live"),
    "forward-kl-stored": Row("forward KL, stored (k = 8, n = 16)", match.sampled_tokens(), "stored", 8, 16),
    "top-16-renormalised": Row(f"top-{TOP} renormalised, stored (biased)", match.sampled_tokens(), "top", TOP, 1),
    "jsd-live": Row("JSD, live", match.soft_tokens(divergence="jensen_shannon"), "live"),
    "on-policy": Row("on-policy (half of the batches), forward KL, live", match.soft_tokens(), "live", share=SHARE),
}


def main() -> None:
    """Makes what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="tiny_shakespeare", help="names with commas; the first one is measured on")
    parser.add_argument("--only", help="names of rows, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="passes of a student over the training rows")
    parser.add_argument("--teacher-epochs", type=int, default=10, help="most passes of the teacher")
    parser.add_argument("--entries", type=int, default=1024, help="of the vocabulary")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--table", action="store_true", help="run nothing")
    said = parser.parse_args()
    names = said.only.split(",") if said.only else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        raise SystemExit(f"no row {unknown[0]}: {', '.join(ROWS)}")
    if not said.table:
        if said.data is None:
            raise SystemExit("--data is missing: a folder of data sets")
        _claim(said)
        _run(said, names)
    print(as_markdown(said.out))


def _claim(said: argparse.Namespace) -> None:
    """One folder holds runs of one setting: they are compared."""
    mine = {name: getattr(said, name) for name in ("sets", "epochs", "teacher_epochs", "entries", "precision")}
    path = said.out / "settings.json"
    if path.is_file() and read_json(path) != mine:
        raise SystemExit(f"{said.out} holds runs of other settings ({read_json(path)}): another --out, or those")
    said.out.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)


def _run(said: argparse.Namespace, names: list[str]) -> None:
    splits = [load(said.data / name, task="causal-lm", layouts=LAYOUTS)[1] for name in said.sets.split(",")]
    rows, held_out = Examples.join([one.train for one in splits]), splits[0].test
    teacher = _teacher(said, rows, splits[0].validation)
    feed = Feed(rows, {"student": teacher.encoder, "teacher": teacher.encoder})
    for seed in range(said.seeds):
        for name in names:
            folder = said.out / f"{name}-{seed}"
            if not (folder / "facts.json").is_file():
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
                _student(said, ROWS[name], seed, folder, feed, teacher, held_out)


def _teacher(said: argparse.Namespace, rows: Examples, validation: Examples) -> Loaded:
    """The trained teacher with its tokenizer, made once."""
    folder = said.out / "teacher"
    if not sealed(folder):
        print("teacher", file=sys.stderr, flush=True)
        draft = said.out / "untrained"
        tokenizer = _tokenizer(rows.inputs["text"], said.entries)
        _decoder(TEACHER, len(tokenizer), 0).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        loaded = open_teacher(draft, task="causal-lm", label_names=(), limit=LIMIT)
        feed = Feed(rows, {"student": loaded.encoder})
        validate = Lower(lambda module: _bits(getattr(module, "module", module), loaded.encoder, validation)[1])
        settings = _settings(said, said.teacher_epochs, 0)
        checkpoints = said.out / "teacher.checkpoints"
        train(Student(loaded.model), feed, objective=[match.hard_tokens()], settings=settings, validate=validate,
              folder=checkpoints)  # fmt: skip
        inner: Any = loaded.model.cpu()
        with new_folder(folder) as made:
            inner.model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            seal(made)
    return open_teacher(folder, task="causal-lm", label_names=(), limit=LIMIT)


def _student(
    said: argparse.Namespace, row: Row, seed: int, folder: Path, feed: Feed, teacher: Loaded, held_out: Examples
) -> None:
    encoder: Any = teacher.encoder
    model = CausalLM(_decoder(STUDENT, encoder.size, seed))
    if row.written:
        feed = _written(said.out / "written.safetensors", feed, teacher)
    prepare = Rollouts(encoder, row.share, longest=None, seed=seed) if row.share else None
    source, store = _source(said, row, teacher, feed.examples)
    settings = _settings(said, said.epochs, seed)
    done = train(Student(model), feed, objective=[row.term], teacher=source, settings=settings,
                 prepare=prepare, folder=folder / "checkpoints")  # fmt: skip
    sums, value = _bits(model.cpu(), encoder, held_out)
    tokens = int(encoder.counts(feed.features["student"]).sum())
    wanted = bytes_per_position(encoder.size, k=row.k, n=row.n) if row.k else None
    if row.source == "top":  # what a store of heads alone would take: neither a tail nor its mass is read
        wanted = bytes_per_position(encoder.size, k=row.k, n=0) - 4
    facts = {
        METRIC: value, "seconds": done.seconds, "writing_seconds": done.preparing, "tokens": tokens * said.epochs,
        "bytes_per_token": wanted,
        "on_disk": store.stats()["bytes"] / tokens if store is not None and row.source == "stored" else None,
        "parameters": {"student": _size(model), "teacher": _size(teacher.model)},
        "teacher": _bits(teacher.model.cpu(), encoder, held_out)[1],
    }  # fmt: skip
    write_tensors(folder / "test.safetensors", {"sums": sums})
    write_json(folder / "facts.json", facts)


def _written(path: Path, feed: Feed, teacher: Loaded) -> Feed:
    """The same rows as the teacher writes them after their first ids, as long as they were; made once."""
    spoken = feed.features["student"]
    if not path.is_file():
        print("the teacher writes", file=sys.stderr, flush=True)
        write_tensors(path, {"ids": _rewritten(spoken, feed, teacher)})
    other = copy.copy(feed)
    values = read_tensors(path)["ids"]
    other.features = dict.fromkeys(feed.features, replace(spoken, ids=replace(spoken.ids, values=values)))
    return other


def _rewritten(spoken: Any, feed: Feed, teacher: Loaded) -> np.ndarray:
    encoder: Any = teacher.encoder
    speaker = speaker_of(teacher.model, "the teacher")
    device, values = next(speaker.parameters()).device, spoken.ids.values.copy()
    lengths, end = spoken.ids.lengths, encoder.end_id
    order = np.flatnonzero(lengths > KEPT + 1)
    order = order[np.argsort(lengths[order], kind="stable")]
    for start in range(0, len(order), WRITERS):
        some = order[start : start + WRITERS]
        ends = np.array([spoken.ids[row][-1] == end for row in some])  # an end stays where it is
        room = torch.from_numpy(lengths[some] - KEPT - ends).to(device)
        numbers = numbers_of([feed.examples.keys[row] for row in some], int(room.max())).to(device)
        draws = drawing(encoder.size, numbers)
        endless = torch.full((encoder.size,), 0.0, device=device).index_fill(
            0, torch.tensor([end], device=device), -torch.inf
        )
        ids = torch.from_numpy(np.stack([spoken.ids[row][:KEPT] for row in some]).astype(np.int64)).to(device)
        said = write(
            speaker, ids, torch.full_like(room, KEPT), room=room, ends=(),
            choose=lambda logits, step, draws=draws, endless=endless: draws(logits[:, : encoder.size] + endless, step),
        )  # fmt: skip
        for row, tokens, count in zip(some, said.cpu().numpy(), room.tolist(), strict=True):
            first = spoken.ids.offsets[row] + KEPT
            values[first : first + count] = tokens[:count]
    return values


def _source(said: argparse.Namespace, row: Row, teacher: Loaded, rows: Examples) -> tuple[Any, Store | None]:
    """Who teaches, and the store where there is one; the teacher is asked once for all seeds."""
    if row.source is None:
        return None, None
    if row.source == "live":
        return Live(teacher.model), None
    encoder: Any = teacher.encoder
    dials: dict[str, Any] = {"k": row.k, "n": row.n, "temperature": 1.0, "seed": 0}
    identity = {"teacher": teacher.fingerprint, "encoding": encoder.fingerprint, **sample_identity(encoder, **dials)}
    store = Store(said.out / ".store" / "targets" / fingerprint(identity), identity=identity)
    store.write(rows.keys, token_scorer(teacher.model, encoder, rows, **dials), shard_rows=256, dtype="given")
    return (Renormalised if row.source == "top" else StoredTokens)(store), store


def _tokenizer(texts: Any, entries: int) -> Any:
    """A byte-level BPE whose end of a text is its start and padding too."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    inner = ByteLevelBPETokenizer()
    inner.train_from_iterator(texts, vocab_size=entries, min_frequency=2, special_tokens=[END], show_progress=False)
    marks = {"eos_token": END, "bos_token": END, "pad_token": END}
    return PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, model_max_length=LIMIT, **marks)


def _decoder(sizes: dict[str, int], entries: int, seed: int) -> Any:
    """A GPT-2 with random weights and tied embeddings, without dropout."""
    import transformers as hf

    torch.manual_seed(seed)
    drop = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=entries, n_positions=LIMIT, **sizes, **drop, **ids))


def _settings(said: argparse.Namespace, epochs: int, seed: int) -> Settings:
    return Settings(
        epochs=epochs, batch_size=32, learning_rate=1e-3, weight_decay=0.1, schedule="cosine", seed=seed,
        precision=said.precision,
    )  # fmt: skip


def _bits(model: torch.nn.Module, encoder: Any, rows: Examples) -> tuple[np.ndarray, float]:
    """Sums of every row, float32 [N, 4], and bits per byte."""
    sums = np.asarray(score_rows(model, encoder, rows.inputs), np.float32)
    return sums, float(METRICS[METRIC].function(np.zeros((len(sums), 1), np.int64), sums))


def _size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def as_markdown(out: Path) -> str:
    """One line for every row of which some seed is there, then what is left out."""
    head = ["row", "seeds", "bits per byte", *AGAINST.values(), "bytes a token stored", "on disk", "seconds"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|'}{'---:|' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in _cells(out)]
    for path in sorted(out.glob("*-0/facts.json"))[:1]:
        one = read_json(path)
        sizes = one["parameters"]
        lines.append(
            f"\nteacher: {one['teacher']:.4f} bits per byte, {sizes['teacher']:,} parameters; students: "
            f"{sizes['student']:,} parameters, {one['tokens']:,} training tokens each"
        )
    return "\n".join([*lines, *_reached(out)])


def _reached(out: Path) -> Iterator[str]:
    """What was aimed at, and whether it is so."""
    found = _folders(out)
    gap = _difference(found["forward-kl-stored"], found["forward-kl-live"])
    if gap is not None:
        yield f"\nstored - live: {gap.value:+.4f} bits per byte; within {CLOSE}: {_yes(abs(gap.value) <= CLOSE)}"
    gap = _difference(found["top-16-renormalised"], found["forward-kl-live"])
    if gap is not None:
        yield f"\ntop-{TOP} renormalised - live: {gap.value:+.4f}; beyond its interval: {_yes(gap.low > 0)}"
    ahead = [name for name in ROWS if (gap := _difference(found[name], found["twin"])) is not None and gap.high < 0]
    yield f"\nrows that beat the twin beyond their intervals: {', '.join(ahead) or 'none'}"


def _yes(so: bool) -> str:
    return "yes" if so else "no"


def _folders(out: Path) -> dict[str, dict[str, Path]]:
    """Row -> seed -> its folder."""
    return {name: {f.parent.name.rpartition("-")[2]: f.parent for f in out.glob(f"{name}-[0-9]*/facts.json")}
            for name in ROWS}  # fmt: skip


def _cells(out: Path) -> Iterator[list[str]]:
    found = _folders(out)
    for name, folders in found.items():
        if not folders:
            continue
        facts = [read_json(folder / "facts.json") for folder in folders.values()]
        stored, disk = facts[0]["bytes_per_token"], facts[0]["on_disk"]
        yield [
            ROWS[name].called,
            str(len(folders)),
            f"{np.mean([one[METRIC] for one in facts]):.4f}",
            *("–" if name == other else _gap(folders, found[other]) for other in AGAINST),
            "–" if stored is None else str(stored),
            "–" if disk is None else f"{disk:.1f}",
            f"{np.mean([one['seconds'] for one in facts]):.0f}",
        ]


def _gap(ours: dict[str, Path], theirs: dict[str, Path]) -> str:
    """The difference in bits per byte over the seeds that both have, with its interval."""
    seen = _difference(ours, theirs)
    return "–" if seen is None else f"{seen.value:+.4f} [{seen.low:+.4f}, {seen.high:+.4f}]"


def _difference(ours: dict[str, Path], theirs: dict[str, Path]) -> Interval | None:
    both = sorted(set(ours) & set(theirs))
    if not both or ours == theirs:
        return None
    mine, other = (
        np.stack([read_tensors(one[seed] / "test.safetensors")["sums"] for seed in both]) for one in (ours, theirs)
    )
    return difference(METRIC, np.zeros((mine.shape[1], 1), np.int64), mine, other)


if __name__ == "__main__":
    main()
