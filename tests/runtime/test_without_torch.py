"""The runtime in a virtual environment that holds only numpy, onnxruntime, tokenizers and pillow."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from .conftest import LABELS, Made

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "pillow")
ROOT = Path(__file__).parents[2]
PROGRAM = """
import importlib.util, json, sys
import understudy, understudy.runtime
heavy = ["torch", "transformers", "datasets", "pandas", "scipy"]
print(json.dumps([[name for name in heavy if importlib.util.find_spec(name)], sorted(set(heavy) & set(sys.modules))]))
"""


def installed(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        pytest.skip(f"cannot install {' '.join(arguments)[:80]}: is a package registry there? ({reason[0][:200]})")


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a lean environment with the package installed, without its dependencies."""
    folder = tmp_path_factory.mktemp("lean")
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    installed(programs / "python", *PACKAGES)
    if importlib.util.find_spec("hatchling"):
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
        (package,) = map(str, folder.glob("*.whl"))
    else:
        package = str(ROOT)
    installed(programs / "python", "--no-deps", package)
    return programs


def clean() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def test_nothing_heavy_is_there_or_imported(lean: Path) -> None:
    done = subprocess.run([lean / "python", "-c", PROGRAM], capture_output=True, text=True, check=True, env=clean())
    assert json.loads(done.stdout) == [[], []]


@pytest.mark.parametrize("kind", ["static", "subwords", "pixels"])
def test_predict(lean: Path, all_made: dict[str, Made], kind: str, tmp_path: Path) -> None:
    made = all_made[kind]
    rows = made.rows[:30]
    if kind == "pixels":
        for number, row in enumerate(rows):
            (tmp_path / f"{number}.png").write_bytes(row["image"])
        rows = [{"image": str(tmp_path / f"{number}.png")} for number in range(len(rows))]
    done = subprocess.run(
        [lean / "understudy", "predict", made.folder],
        input="".join(json.dumps(row) + "\n" for row in rows),
        capture_output=True, text=True, env=clean(), cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [{key: answer[key] for key in row} for row, answer in zip(rows, answers, strict=True)] == rows
    wanted = np.exp(made.logits[:30] / 2)
    wanted /= wanted.sum(axis=1, keepdims=True)
    got = np.array([list(answer["probabilities"].values()) for answer in answers])
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert [answer["label"] for answer in answers] == [LABELS[i] for i in wanted.argmax(axis=1)]


def test_an_error_is_one_line(lean: Path, tmp_path: Path) -> None:
    done = subprocess.run([lean / "understudy", "predict", tmp_path], capture_output=True, text=True, env=clean())
    assert done.returncode == 3
    assert done.stderr.startswith("understudy: no artefact in ")
    assert done.stderr.count("\n") == 1
