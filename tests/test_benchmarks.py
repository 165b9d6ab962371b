"""The benchmarks run: what they measure is their own business."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_cost_of_a_step_is_measured() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/step_cost.py"), "--rows", "70", "--steps", "1", "--clock", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if re.search(r"\d\.\d+x", line)]
    assert len(lines) == 7, done.stdout
