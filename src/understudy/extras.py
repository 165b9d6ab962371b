"""Optional dependencies: one clear message instead of an ImportError."""

from __future__ import annotations

import importlib
from types import ModuleType

from understudy.errors import UsageError


def require(module: str, *, package: str, why: str) -> ModuleType:
    """The module, or a UsageError that says which package is missing and what it is for.

    >>> require("json", package="json", why="manifests").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(f"{why} needs the package {package}, which is not installed: pip install {package}") from None
