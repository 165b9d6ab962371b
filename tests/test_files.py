"""Layer 0: files that are complete or not there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from understudy import files
from understudy.errors import DiskFull, StoreError

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "weights.ünï": np.arange(5, dtype=np.int8),
    "b": np.array(3.5),
    "nothing": np.zeros((0, 4), np.float16),
    "yes": np.array([True, False, True]),
    "long": np.arange(4, dtype=np.int64),
    "short": np.arange(3, dtype=np.int16),
}


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(st.lists(st.text(alphabet=st.characters()), max_size=4), st.lists(st.text(), max_size=4))
def test_content_hash_tells_any_two_sequences_apart(left: list[str], right: list[str]) -> None:
    assert (files.content_hash(*left) == files.content_hash(*right)) == (left == right)


def test_content_hash_is_the_same_on_every_machine() -> None:
    assert files.content_hash("a", b"b") == "6a93c5780b9861cdd8d2761a748d9591"  # b2sum -l 128
    assert files.content_hash("\ud800") != files.content_hash("?")


def test_json_round_trip_and_what_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    files.write_json(path, {"ä": ["\ud800", 1.5, None]})
    assert files.read_json(path) == {"ä": ["\ud800", 1.5, None]}
    with pytest.raises(ValueError):
        files.write_json(path, {"x": float("nan")})
    assert files.read_json(path)["ä"][1] == 1.5, "a failed write must leave the old file"
    path.write_text('{"x": ')
    with pytest.raises(StoreError, match=r"x\.json"):
        files.read_json(path)
    with pytest.raises(StoreError, match=r"gone\.json"):
        files.read_json(tmp_path / "gone.json")


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    files.write_text(tmp_path / "x.txt", "old")

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFull, match=r"x\.txt") as caught:
        files.write_text(tmp_path / "x.txt", "new")
    assert caught.value.exit_code == 75
    with pytest.raises(DiskFull), files.new_folder(tmp_path / "folder") as draft:
        (draft / "y").write_text("y")
    monkeypatch.undo()
    assert (tmp_path / "x.txt").read_text() == "old"
    assert leftovers(tmp_path) == ["x.txt"]


def test_a_full_disk_that_only_a_foreign_writer_noticed(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), files.new_folder(tmp_path / "folder"):
        raise RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)")
    assert leftovers(tmp_path) == []


def test_new_folder_replaces_as_a_whole_and_vanishes_on_error(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with files.new_folder(tmp_path / "run") as draft:
            (draft / content).mkdir()
            (draft / content / "x").write_text(content)
            assert content not in leftovers(tmp_path)
    assert leftovers(tmp_path / "run") == ["two"]

    def interrupted() -> None:
        with files.new_folder(tmp_path / "run") as draft:
            (draft / "three").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert leftovers(tmp_path) == ["run"]
    assert leftovers(tmp_path / "run") == ["two"]


def test_a_seal_breaks_with_any_byte_and_any_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_bytes(b"abc")
    (tmp_path / "y").write_bytes(b"")
    assert not files.sealed(tmp_path)
    before = files.folder_hash(tmp_path)
    files.seal(tmp_path)
    assert files.sealed(tmp_path)
    assert files.folder_hash(tmp_path) == before, "the seal is no part of the content"
    assert set(json.loads((tmp_path / "seal.json").read_text())) == {"sub/x", "y"}
    (tmp_path / "sub" / "x").write_bytes(b"abd")
    assert not files.sealed(tmp_path)
    assert files.folder_hash(tmp_path) != before
    (tmp_path / "sub" / "x").write_bytes(b"abc")
    assert files.sealed(tmp_path)
    (tmp_path / "y").unlink()
    assert not files.sealed(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"ünder": 'stu"dy'}])
def test_tensors_are_byte_for_byte_those_of_the_safetensors_package(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    files.write_tensors(tmp_path / "x", TENSORS, metadata)
    assert (tmp_path / "x").read_bytes() == safetensors.numpy.save(TENSORS, metadata)
    assert files.read_metadata(tmp_path / "x") == (metadata or {})


@pytest.mark.parametrize("mmap", [True, False])
def test_tensors_round_trip(tmp_path: Path, mmap: bool) -> None:
    safetensors.numpy.save_file(TENSORS, tmp_path / "x")
    read = files.read_tensors(tmp_path / "x", mmap=mmap)
    assert set(read) == set(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    assert read["a"].flags.writeable is not mmap


def test_layouts_that_numpy_has_and_the_format_has_not(tmp_path: Path) -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4).T
    files.write_tensors(tmp_path / "x", {"x": array})
    np.testing.assert_array_equal(files.read_tensors(tmp_path / "x")["x"], np.arange(12).reshape(3, 4).T)
    with pytest.raises(StoreError, match="complex128"):
        files.write_tensors(tmp_path / "x", {"x": np.zeros(1, np.complex128)})


def test_bfloat16_arrives_as_float32(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    values = torch.randn(7).bfloat16()
    save_file({"x": values}, tmp_path / "x")
    np.testing.assert_array_equal(files.read_tensors(tmp_path / "x")["x"], values.float().numpy())


def test_a_corrupt_file_is_named_and_never_read_wrongly(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    files.write_tensors(path, TENSORS)
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])

    def with_header(**changes: object) -> bytes:
        text = json.dumps({**header, **changes}).encode()
        return len(text).to_bytes(8, "little") + text + whole[8 + size :]

    entry = header["a"]
    corrupt = {
        "empty": b"",
        "four bytes": whole[:4],
        "cut data": whole[:-1],
        "more data": whole + b"x",
        "endless header": (1 << 60).to_bytes(8, "little") + whole[8:],
        "no JSON": whole[:8] + b"\x80" + whole[9:],
        "a list": (2).to_bytes(8, "little") + b"[]",
        "metadata": with_header(__metadata__=[1]),
        "unknown dtype": with_header(a={**entry, "dtype": "F7"}),
        "wrong shape": with_header(a={**entry, "shape": [2, 4]}),
        "negative": with_header(a={**entry, "shape": [-2, -3]}),
        "no shape": with_header(a={"dtype": "F32", "data_offsets": entry["data_offsets"]}),
        "overlap": with_header(a={**entry, "data_offsets": [0, 24]}),
        "text": with_header(a="F32"),
    }
    for name, data in corrupt.items():
        path.write_bytes(data)
        with pytest.raises(StoreError, match=r"x\.safetensors"):
            print(name, files.read_tensors(path))
    with pytest.raises(StoreError, match="gone"):
        files.read_tensors(tmp_path / "gone")


def test_no_altered_byte_raises_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.safetensors"
    files.write_tensors(path, TENSORS)
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        for value in (0x22, 0x39, 0xFF):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                read = files.read_tensors(path)
            except StoreError:
                refused += 1
            else:
                assert sum(array.nbytes for array in read.values()) <= len(whole)
    assert refused > 700
