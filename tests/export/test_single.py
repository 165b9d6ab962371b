"""An artefact as one file: the same answers, and not one byte of it may differ."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from understudy import runtime
from understudy.encoding import WordEncoder
from understudy.errors import ArtefactError
from understudy.export import single_file, static_tensors, write_artefact
from understudy.runtime.single import sealed_archive
from understudy.students import Ngram

TEXTS = ["where is my card", "", "cash 😀", "\x00 \ud800"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    encoder = WordEncoder(["card", "cash"], buckets=20, pairs=True)
    made = tmp_path_factory.mktemp("single") / "run" / "artefact"
    tensors = static_tensors(Ngram(encoder.size, 4, 3), bits=4)
    write_artefact(made, task="t", labels=["a", "b", "c"], encoder=encoder, model=tensors, card="# Card")
    return made


def test_the_file_is_the_folder(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.understudy"
    single_file(folder, path)
    once = path.read_bytes()
    single_file(folder.parent, path)  # the run that it lies in; replaced
    assert path.read_bytes() == once
    predictor = runtime.load(path)
    np.testing.assert_array_equal(predictor.logits(TEXTS), runtime.load(folder).logits(TEXTS))
    assert predictor.manifest == runtime.load(folder).manifest
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    with zipfile.ZipFile(path) as archive:  # any program opens it
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert len(once) < sum(map(len, files.values())) + 1000
    assert [file.name for file in tmp_path.iterdir()] == ["model.understudy"]


def test_a_flipped_byte_is_refused_wherever_it_is(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one"
    single_file(folder, path)
    whole = path.read_bytes()
    for position in {*range(0, len(whole), 23), *range(len(whole) - 60, len(whole))}:
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        with pytest.raises(ArtefactError, match="one"):
            runtime.load(path)
    for data in (whole[:-1], whole[:100], whole + b"x", b""):
        path.write_bytes(data)
        with pytest.raises(ArtefactError, match="one"):
            runtime.load(path)


def archive(files: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compression) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return sealed_archive(whole.getvalue())


@pytest.mark.parametrize("name", ["../secret", "/secret", "a/b", "..", ".hidden", "a\\b", "a/"])
def test_names_that_lie_outside_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    (tmp_path / "one").write_bytes(archive({**files, name: b"x"}))
    with pytest.raises(ArtefactError, match="outside"):
        runtime.load(tmp_path / "one")
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def test_archives_of_another_kind(folder: Path, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    wrong = {
        "compressed": archive(files, compression=zipfile.ZIP_DEFLATED),
        "understudy.json": archive({"x": b"y"}),
        "lacks static": archive({name: data for name, data in files.items() if name != "static.safetensors"}),
        "static.safetensors was altered": archive({**files, "static.safetensors": b"x"}),
        "no artefact": b"PK but not really",
    }
    for says, data in wrong.items():
        (tmp_path / "one").write_bytes(data)
        with pytest.raises(ArtefactError, match=says):
            runtime.load(tmp_path / "one")


def test_only_an_artefact_becomes_a_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no artefact in"):
        single_file(tmp_path, tmp_path / "one")
    assert not (tmp_path / "one").exists()
