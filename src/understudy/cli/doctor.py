"""What this machine offers to a run: versions, devices, threads, precision, disk, missing extras."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from understudy import __version__

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "asimd", "bf16", "i8mm")
_TIGHT_DISK = 5e9


def examine(folder: Path) -> dict[str, Any]:
    """The state of the installation and the machine.

    Args:
        folder: where runs would go; its disk is looked at.

    Returns:
        versions, machine and extras (name -> what there is), problems (sentences; empty is good news).
    """
    versions, problems = _versions()
    machine = _machine(folder)
    if machine["free disk"]["bytes"] < _TIGHT_DISK:
        problems.append("less than 5 GB of free disk: teachers, targets and checkpoints may not fit")
    return {"versions": versions, "machine": machine, "extras": _extras(), "problems": problems}


def cpu_flags(text: str) -> list[str]:
    """The vector extensions that matter to a run, from the text of ``/proc/cpuinfo``.

    >>> cpu_flags("flags : fpu avx2 avx512f avx512_bf16")
    ['avx2', 'avx512f', 'avx512_bf16']
    """
    there = set(text.split())
    return [flag for flag in _FLAGS if flag in there]


def _versions() -> tuple[dict[str, str], list[str]]:
    found = {"understudy": __version__, "python": platform.python_version()}
    problems = []
    for name in _required():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
            problems.append(f"{name} is missing: pip install {name}")
    return found, problems


def _required() -> list[str]:
    return [name for name, extra in _requirements() if extra is None]


def _requirements() -> list[tuple[str, str | None]]:
    """(package, extra or None) of everything that the installed understudy asks for."""
    try:
        lines = metadata.requires("understudy") or []
    except metadata.PackageNotFoundError:
        lines = []  # run from a source tree without an installation
    pairs = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)", line)
        if name:
            pairs.append((name.group(), extra.group(1) if extra else None))
    return pairs


def _extras() -> dict[str, str]:
    missing: dict[str, list[str]] = {}
    for name, extra in _requirements():
        if extra is not None:
            absent = missing.setdefault(extra, [])
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                absent.append(name)
    return {
        extra: f'missing {", ".join(absent)}: pip install "understudy[{extra}]"' if absent else "installed"
        for extra, absent in missing.items()
    }


def _machine(folder: Path) -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpu_flags(cpuinfo.read_text(encoding="utf-8", errors="replace")) if cpuinfo.exists() else []
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": platform.processor() or platform.machine(),
        "processor flags": ", ".join(flags) or "unknown",
        "cores": allowed,
        **_torch(flags),
        "free disk": {"bytes": shutil.disk_usage(there).free},
    }


def _torch(flags: list[str]) -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:  # a CUDA build without its libraries raises OSError
        return {"devices": f"torch cannot be imported: {error}"}
    cuda = torch.cuda.is_available()
    devices = ["cpu", *(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count() if cuda else 0))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    fast = (cuda and torch.cuda.is_bf16_supported()) or bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))
    return {
        "devices": ", ".join(devices),
        "threads": f"torch {torch.get_num_threads()}, OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'unset')}",
        "precision": "bf16 in hardware; auto probes it before a run" if fast else "fp32 (no bf16 in hardware)",
    }
