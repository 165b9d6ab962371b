"""Recipes known by name: short files of data, to be copied and edited."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NAMED: Mapping[str, Path] = {
    path.stem: path for path in sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
}
