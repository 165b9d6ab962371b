"""Nothing heavy at import, and nothing changed by it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "pandas",
    "scipy",
    "sklearn",
    "accelerate",
    "onnx",
    "onnxruntime",
    "altair",
)
CODE = """
import json, logging, os, sys
environment, handlers = dict(os.environ), list(logging.getLogger().handlers)
import {module}
heavy = sorted(name for name in {heavy!r} if name in sys.modules)
quiet = dict(os.environ) == environment and logging.getLogger().handlers == handlers
print(json.dumps([heavy, quiet]))
"""


@pytest.mark.parametrize("module", ["understudy", "understudy.runtime", "understudy.cli.app", "understudy.report"])
def test_importing_is_light_and_silent(module: str) -> None:
    code = CODE.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True]
    assert done.stderr == ""


def test_help_imports_neither_a_model_nor_a_recipe() -> None:
    code = (
        "import sys; from understudy.__main__ import main\n"
        "try: code = main(['distill', '--help'])\n"
        "except SystemExit as error: code = error.code\n"
        f"heavy = [name for name in (*{HEAVY!r}, 'numpy', 'pydantic_settings', 'yaml') if name in sys.modules]\n"
        "sys.exit(code or ' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--temperature" in done.stdout
