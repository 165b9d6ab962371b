"""Stored targets are joined by content: nothing misaligns them, nothing is asked twice, nothing corrupt is used."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import StoreError, TeacherError, UsageError
from understudy.files import content_hash
from understudy.targets import Store, fingerprint

IDENTITY = {
    "teacher": content_hash("weights"),
    "tokenizer": content_hash("tokenizer"),
    "encoding": "subwords:128",
    "task": "text-classification",
    "labels": content_hash("a", "b", "c"),
    "view": "",
}


def keys(*numbers: int) -> list[str]:
    return [content_hash(str(number)) for number in numbers]


def answer(key: str, classes: int = 5) -> np.ndarray:
    """What the teacher says: a function of the content alone."""
    return np.random.default_rng(int(key, 16)).normal(size=classes).astype(np.float32)


class Teacher:
    """Answers by content and counts what it is asked."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.rows = list(rows)
        self.asked: list[str] = []

    def __call__(self, indices: list[int]) -> dict[str, np.ndarray]:
        self.asked += [self.rows[i] for i in indices]
        return {
            "teacher.logits": np.stack([answer(self.rows[i]) for i in indices]),
            "teacher.top": np.array([int(self.rows[i][:4], 16) for i in indices]),
        }


def filled(folder: Path, rows: Sequence[str], **options: Any) -> tuple[Store, Teacher]:
    store, teacher = Store(folder, identity=IDENTITY), Teacher(rows)
    store.write(rows, teacher, **options)
    return store, teacher


def test_what_is_written_is_read_in_any_order(tmp_path: Path) -> None:
    rows = keys(*range(50))
    filled(tmp_path, rows, shard_rows=16)
    wanted = random.Random(0).choices(rows, k=120)
    for limit in (1 << 30, 0):
        read = Store(tmp_path, identity=IDENTITY, in_memory=limit).read(wanted)
        assert np.array_equal(read["teacher.logits"], np.stack([answer(key) for key in wanted]))
        assert read["teacher.top"].tolist() == [int(key[:4], 16) for key in wanted]


@settings(max_examples=25, deadline=None)
@given(
    order=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    more=st.lists(st.integers(0, 60), max_size=40),
    shard_rows=st.integers(1, 9),
)
def test_order_repeats_and_shards_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], more: list[int], shard_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    first, second = keys(*order), keys(*more)
    _, teacher = filled(folder, first, shard_rows=shard_rows)
    assert teacher.asked == list(dict.fromkeys(first))
    store = Store(folder, identity=IDENTITY)
    asked = Teacher(second)
    missing = store.missing(second)
    assert missing == [key for key in dict.fromkeys(second) if key not in set(first)]
    assert store.write(second, asked, shard_rows=shard_rows) == len(missing)
    assert asked.asked == missing
    every = second + first
    assert np.array_equal(store.read(every)["teacher.logits"], np.stack([answer(key) for key in every]))
    assert len(store) == len(set(every)) == Store(folder, identity=IDENTITY).stats()["rows"]


def test_a_hundred_new_rows_are_a_hundred_rows_scored(tmp_path: Path) -> None:
    old, new = keys(*range(1000)), keys(*range(1000, 1100))
    filled(tmp_path, old, shard_rows=256)
    rows = [*old, *new, *new[:50]]
    random.Random(1).shuffle(rows)
    teacher = Teacher(rows)
    assert Store(tmp_path, identity=IDENTITY).write(rows, teacher) == 100
    assert sorted(teacher.asked) == sorted(new)
    assert Store(tmp_path, identity=IDENTITY).write(rows, teacher) == 0
    assert len(teacher.asked) == 100


@pytest.mark.parametrize("part", ["teacher", "tokenizer", "encoding", "labels", "view"])
def test_another_identity_is_refused_with_the_reason(part: str, tmp_path: Path) -> None:
    filled(tmp_path, keys(1, 2))
    other = {**IDENTITY, part: content_hash("other")}
    with pytest.raises(StoreError, match=f"another {part} ") as caught:
        Store(tmp_path, identity=other)
    assert content_hash("other")[:12] in str(caught.value)
    assert IDENTITY[part][:12] in str(caught.value)
    assert sum(f"another {name} " in str(caught.value) for name in IDENTITY) == 1
    assert fingerprint(other) != fingerprint(IDENTITY)


def test_opening_makes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "none", identity=IDENTITY)
    assert (len(store), store.missing(keys(1, 1, 2))) == (0, keys(1, 2))
    assert not (tmp_path / "none").exists()
    with pytest.raises(StoreError, match=r"2 of 2 contents have no targets .*understudy label"):
        store.read(keys(1, 2))


def test_rows_that_are_not_there_are_counted(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, keys(1, 2))
    with pytest.raises(StoreError, match="1 of 3 contents"):
        store.read(keys(1, 2, 3, 3))


KILLED = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from understudy.files import content_hash
    from understudy.targets import Store

    rows = [content_hash(str(i)) for i in range(400)]
    def score(indices):
        print(indices[0], flush=True)
        time.sleep(0.01)
        return {"logits": np.stack([np.random.default_rng(int(rows[i], 16)).normal(size=400) for i in indices])}
    Store(Path(sys.argv[1]), identity={"teacher": "a"}).write(rows, score, shard_rows=20)
"""


def killed_after(folder: Path, shards: int, seconds: float) -> None:
    """A writer that is killed somewhere in or after that shard, as the time allows."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(shards):
            process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


def test_a_killed_writer_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    rows = [content_hash(str(i)) for i in range(400)]

    def score(indices: list[int]) -> dict[str, np.ndarray]:
        asked.extend(indices)
        return {"logits": np.stack([np.random.default_rng(int(rows[i], 16)).normal(size=400) for i in indices])}

    asked: list[int] = []
    whole = Store(tmp_path / "whole", identity={"teacher": "a"})
    whole.write(rows, score, shard_rows=20)
    folder = tmp_path / "killed"
    for shards, seconds in ((2, 0.012), (3, 0.002), (4, 0.02)):
        killed_after(folder, shards, seconds)
    assert (folder / "lock").exists()
    store = Store(folder, identity={"teacher": "a"})
    kept = len(store)
    assert 0 < kept < 400
    assert kept % 20 == 0
    asked = []
    assert store.write(rows, score, shard_rows=20) == 400 - kept
    assert asked == list(range(kept, 400))
    assert np.array_equal(store.read(rows)["logits"], whole.read(rows)["logits"])
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in whole.folder.iterdir())
    assert store.notes == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_corrupt_shard_is_set_aside_and_asked_again(damage: str, tmp_path: Path) -> None:
    rows = keys(*range(30))
    filled(tmp_path, rows, shard_rows=10)
    victim = sorted(tmp_path.glob("*.safetensors"))[1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes({"flip": bytes(data), "truncate": bytes(data[:-7]), "empty": b""}[damage])
    store = Store(tmp_path, identity=IDENTITY)
    assert store.missing(rows) == rows[10:20]
    assert len(store.notes) == 1
    assert victim.name in store.notes[0]
    assert victim.with_name(victim.name + ".corrupt").exists()
    assert not victim.exists()
    with pytest.raises(StoreError, match="10 of 30"):
        store.read(rows)
    teacher = Teacher(rows)
    assert store.write(rows, teacher) == 10
    assert teacher.asked == rows[10:20]
    again = Store(tmp_path, identity=IDENTITY)
    assert again.notes == []
    assert np.array_equal(again.read(rows)["teacher.logits"], np.stack([answer(key) for key in rows]))


def test_two_writers_are_refused_and_the_second_may_go_on_afterwards(tmp_path: Path) -> None:
    first, second = Store(tmp_path, identity=IDENTITY), Store(tmp_path, identity=IDENTITY)
    rows = keys(1, 2, 3)
    teacher = Teacher(rows)

    def score(indices: list[int]) -> dict[str, np.ndarray]:
        with pytest.raises(StoreError, match=rf"process {os.getpid()} on .*delete .*lock"):
            second.write(rows, teacher)
        return teacher(indices)

    assert first.write(rows, score) == 3
    assert not (tmp_path / "lock").exists()
    assert second.write(rows, Teacher(rows)) == 0  # it looks again once it has the lock
    assert len(teacher.asked) == 3


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    def score(indices: list[int]) -> dict[str, np.ndarray]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path, identity=IDENTITY).write(keys(1), score)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json"]


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


@pytest.mark.parametrize(
    ("holder", "free"),
    [
        (lambda: {"pid": dead_pid(), "host": socket.gethostname()}, True),
        (lambda: {"pid": os.getpid(), "host": socket.gethostname(), "started": "1"}, True),  # the number is used again
        (lambda: {"pid": os.getppid(), "host": socket.gethostname()}, False),
        (lambda: {"pid": dead_pid(), "host": "another-machine"}, False),
        (lambda: {}, False),
    ],
    ids=["dead", "pid used again", "alive", "another machine", "nobody's name"],
)
def test_the_lock_of_the_dead_is_taken_over(holder: Callable[[], dict[str, Any]], free: bool, tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists() and "started" in holder():
        pytest.skip("this system does not tell when a process started")
    (tmp_path / "lock").write_text(json.dumps(holder()))
    store = Store(tmp_path, identity=IDENTITY)
    if free:
        assert store.write(keys(1), Teacher(keys(1))) == 1
        assert not (tmp_path / "lock").exists()
    else:
        with pytest.raises(StoreError, match=r"delete .*lock"):
            store.write(keys(1), Teacher(keys(1)))
        assert (tmp_path / "lock").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_named_and_the_others_are_kept(value: float, tmp_path: Path) -> None:
    rows = keys(*range(10))
    store = Store(tmp_path, identity=IDENTITY)

    def score(indices: list[int]) -> dict[str, np.ndarray]:
        logits = np.stack([answer(rows[i]) for i in indices])
        logits[[i in (3, 7) for i in indices], 1] = value
        return {"teacher.logits": logits}

    with pytest.raises(TeacherError, match=f'"teacher.logits" of row 3 .content {rows[3]}.* is {value}'):
        store.write(rows, score)
    assert Store(tmp_path, identity=IDENTITY).missing(rows) == [rows[3], rows[7]]


def test_half_precision_is_half_the_bytes_and_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    rows = keys(*range(200))
    one = Store(tmp_path / "32", identity=IDENTITY)
    half = Store(tmp_path / "16", identity=IDENTITY)

    def score(indices: list[int]) -> dict[str, np.ndarray]:
        return {"logits": np.stack([answer(rows[i], 150) for i in indices])}

    one.write(rows, score)
    half.write(rows, score, dtype="float16")
    assert one.read(rows)["logits"].dtype == np.float32
    assert half.read(rows)["logits"].dtype == np.float16
    assert 600 < one.stats()["bytes_per_row"] < 625
    assert 300 < half.stats()["bytes_per_row"] < 325
    assert half.verify(score, keys=rows)["max_error"] < 1e-3
    with pytest.raises(TeacherError, match='inf as float16: store it with dtype "float32"'):
        half.write(keys(999), lambda indices: {"logits": np.full((1, 150), 1e6)}, dtype="float16")


def test_verify_asks_the_same_rows_again_by_content(tmp_path: Path) -> None:
    rows = keys(*range(100))
    store, _ = filled(tmp_path, rows, shard_rows=30)
    shuffled = random.Random(3).sample(rows + keys(*range(500, 520)), 120)
    teacher = Teacher(shuffled)
    assert store.verify(teacher, 16, keys=shuffled) == {"rows": 16, "max_error": 0.0, "agreement": 1.0}
    assert len(set(teacher.asked)) == 16
    assert set(teacher.asked) <= set(rows)
    assert store.verify(Teacher(rows), 1000, keys=rows)["rows"] == 100


@pytest.mark.parametrize(
    "change",
    [
        lambda said: {**said, "teacher.logits": said["teacher.logits"][:, ::-1]},
        lambda said: {**said, "teacher.logits": said["teacher.logits"] + 0.01},
        lambda said: {**said, "teacher.logits": said["teacher.logits"][:, :4]},
        lambda said: {"teacher.logits": said["teacher.logits"]},
        lambda said: {**said, "teacher.logits": said["teacher.logits"] * np.nan},
        lambda said: {**said, "teacher.top": said["teacher.top"] + 1},
    ],
    ids=["permuted", "shifted", "fewer labels", "a signal less", "NaN", "integers"],
)
def test_verify_refuses_another_teacher(change: Callable[[Any], Any], tmp_path: Path) -> None:
    rows = keys(*range(40))
    store, teacher = filled(tmp_path, rows)
    with pytest.raises(StoreError, match="another teacher's targets"):
        store.verify(lambda indices: change(teacher(indices)), keys=rows)


def test_verify_of_nothing_is_an_error(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, keys(1))
    with pytest.raises(StoreError, match="nothing to verify"):
        store.verify(Teacher(keys(2)), keys=keys(2))


def test_stopping_ends_on_whole_shards(tmp_path: Path) -> None:
    rows, seen = keys(*range(50)), []
    store, teacher = Store(tmp_path, identity=IDENTITY), Teacher(rows)
    stop = iter([False, False, True])
    done = store.write(
        rows, teacher, shard_rows=10, on_stop=lambda: next(stop), on_progress=lambda a, b: seen.append((a, b))
    )
    assert (done, len(store), len(teacher.asked)) == (20, 20, 20)
    assert seen == [(0, 50), (10, 50), (20, 50)]
    assert store.write(rows, teacher, shard_rows=10) == 30


def test_support_is_kept_and_another_one_refused(tmp_path: Path) -> None:
    support = {"teacher": [True, True, False]}
    Store(tmp_path, identity=IDENTITY, support=support).write(keys(1), Teacher(keys(1)))
    assert Store(tmp_path, identity=IDENTITY).support["teacher"].tolist() == [True, True, False]
    with pytest.raises(StoreError, match="knows 2 of 3 labels, wanted all labels"):
        Store(tmp_path, identity=IDENTITY, support={})


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ({}, TeacherError, "returned no signal"),
        ({"teacher.logits": np.zeros((1, 5))}, TeacherError, r"shape \[1, 5\] for 2 rows"),
        ({"teacher.logits": np.array(["a", "b"])}, TeacherError, "dtype <U1"),
        ({"teacher.logits": np.zeros((2, 6))}, StoreError, r"float32\[5\].*now gives .*float32\[6\]"),
        ({"other.logits": np.zeros((2, 5))}, StoreError, "other.logits"),
    ],
)
def test_answers_of_another_form_are_refused(said: Any, error: type[Exception], match: str, tmp_path: Path) -> None:
    store, _ = filled(tmp_path, keys(1, 2))
    with pytest.raises(error, match=match):
        store.write(keys(3, 4), lambda indices: said)
    assert Store(tmp_path, identity=IDENTITY).missing(keys(1, 2, 3, 4)) == keys(3, 4)


def test_what_cannot_be_a_key_or_an_identity(tmp_path: Path) -> None:
    store = Store(tmp_path, identity=IDENTITY)
    for wrong in ("a text", "0" * 31, "G" * 32):
        with pytest.raises(UsageError, match="not a content key"):
            store.missing([wrong])
    with pytest.raises(UsageError, match="maps names to strings"):
        Store(tmp_path, identity={"teacher": 3})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="float16"):
        store.write(keys(1), Teacher(keys(1)), dtype="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 9, "identity": {}}'])
def test_a_manifest_that_is_not_ours(content: str, tmp_path: Path) -> None:
    filled(tmp_path, keys(1))
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=r"manifest\.json"):
        Store(tmp_path, identity=IDENTITY)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(StoreError, match="without a manifest"):
        Store(tmp_path, identity=IDENTITY)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write in"):
        Store(tmp_path / "file" / "store", identity=IDENTITY).write(keys(1), Teacher(keys(1)))


FULL = """
    import builtins, errno, sys
    import numpy as np
    from understudy.errors import DiskFull
    from understudy.files import content_hash
    from understudy.targets import Store

    class Full:
        def __init__(self, file): self.file = file
        def __enter__(self): return self
        def __exit__(self, *error): self.file.close()
        def write(self, data):
            self.file.write(data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", *more, **named):
        file = real(path, mode, *more, **named)
        return Full(file) if mode == "xb" and "draft" in str(path) else file

    rows, real = [content_hash(str(i)) for i in range(20)], builtins.open
    store = Store(sys.argv[1], identity={"teacher": "a"})
    store.write(rows[:10], lambda indices: {"logits": np.zeros((10, 4))})
    builtins.open = opened
    try:
        store.write(rows, lambda indices: {"logits": np.zeros((10, 4))})
    except DiskFull as error:
        print(error)
"""


def test_a_full_disk_keeps_whole_shards_and_nothing_else(tmp_path: Path) -> None:
    """In a process of its own, where a file of the second shard takes five bytes and then no more."""
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path)]
    assert "disk is full" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert len(Store(tmp_path, identity={"teacher": "a"})) == 10
