"""An artefact is what was exported, byte for byte, or it is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from understudy import runtime
from understudy.errors import ArtefactError, UsageError
from understudy.runtime.artefact import manifest_hash

from .conftest import MAKERS, Made


def shipped(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "README.md")


def test_any_altered_byte_is_refused_and_the_file_named(made: Made) -> None:
    paths = shipped(made.folder)
    assert len(paths) >= 2
    for path in paths:
        whole = path.read_bytes()
        for position in (0, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(ArtefactError, match=path.name):
                runtime.load(made.folder)
        path.write_bytes(whole)
    runtime.load(made.folder)


def test_any_missing_file_is_refused_and_named(made: Made) -> None:
    for path in shipped(made.folder):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(ArtefactError, match=path.name):
            runtime.load(made.folder)
        path.write_bytes(whole)


def test_the_card_may_be_completed_later(made: Made) -> None:
    (made.folder / "README.md").write_text("# now with numbers")
    runtime.load(made.folder)
    (made.folder / "README.md").unlink()
    runtime.load(made.folder)


def change(folder: Path, *, rehash: bool = True, **changes: Any) -> None:
    manifest = json.loads((folder / "understudy.json").read_text())
    manifest.update(changes)
    if rehash:
        manifest["hash"] = manifest_hash(manifest)
    (folder / "understudy.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "schema 1, got 2"),
        ({"schema": None}, "schema 1, got None"),
        ({"encoder": {"kind": "bytes"}}, "bytes"),
        ({"model": {"kind": "torch", "file": "static.safetensors"}}, "torch"),
        ({"model": {"kind": "static", "file": "other.safetensors"}}, "other.safetensors"),
        ({"files": {"../secret": "00"}}, "outside"),
        ({"files": {"/etc/passwd": "00"}}, "outside"),
    ],
)
def test_manifests_of_another_kind(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    folder = MAKERS["static"](tmp_path / "artefact").folder
    change(folder, **changes)
    with pytest.raises(ArtefactError, match=says):
        runtime.load(folder)


def test_an_edited_threshold_is_noticed(tmp_path: Path) -> None:
    folder = MAKERS["static"](tmp_path / "artefact").folder
    change(folder, rehash=False, abstain_below=0.0)
    with pytest.raises(ArtefactError, match="altered after the export"):
        runtime.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": 1}', "\x00"])
def test_manifests_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "understudy.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"understudy\.json"):
        runtime.load(tmp_path)


def test_a_corrupt_model_with_the_right_hash(tmp_path: Path) -> None:
    from understudy.files import file_hash

    for kind, name in {"static": "static.safetensors", "pixels": "model.onnx"}.items():
        folder = MAKERS[kind](tmp_path / kind).folder
        (folder / name).write_bytes(b"\xff" * 64)
        manifest = json.loads((folder / "understudy.json").read_text())
        change(folder, files={**manifest["files"], name: file_hash(folder / name)})
        with pytest.raises(ArtefactError, match=name):
            runtime.load(folder)


def test_run_folders_and_moved_artefacts(tmp_path: Path) -> None:
    made = MAKERS["subwords"](tmp_path / "run" / "artefact")
    wanted = runtime.load(made.folder).predict(made.rows[:5])
    assert runtime.load(tmp_path / "run").predict(made.rows[:5]) == wanted
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert runtime.load(str(tmp_path / "elsewhere")).predict(made.rows[:5]) == wanted
    for nothing in (tmp_path, tmp_path / "none"):
        with pytest.raises(ArtefactError, match="no artefact in"):
            runtime.load(nothing)


@pytest.mark.skipif(os.name != "posix", reason="checks permissions")
def test_no_local_path_ships(made: Made) -> None:
    for path in made.folder.iterdir():
        assert str(made.folder.parent).encode() not in path.read_bytes()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    folder = MAKERS["subwords"](tmp_path / "artefact").folder
    for package in ("tokenizers", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(UsageError, match=f"pip install {package}"):
                runtime.load(folder)
