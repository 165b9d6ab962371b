"""A teacher's folder, before any of its weights are believed: found, free of code, complete, and hashed."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.errors import StoreError, TeacherError
from understudy.files import content_hash, file_hash

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HUB_SECONDS = 5.0
_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]


def resolve(path_or_name: Path | str) -> Path:
    """The folder behind a path or a hub name; a name is looked for in the local cache first, then on the hub.

    Raises:
        TeacherError: no such folder, or a name that is neither cached nor reachable within a few seconds.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        _refuse_pickle(path)
        raise TeacherError(f"teacher {path} is a file; wanted the folder that holds config.json and *.safetensors")
    name = str(path_or_name)
    if not _HUB_NAME.fullmatch(name):
        raise TeacherError(f"no teacher at {name}: there is no such folder")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    """A snapshot without pickles. One question with a short timeout comes first: the hub's own retries take minutes."""
    import huggingface_hub as hub

    with quiet():
        try:
            return Path(hub.snapshot_download(name, local_files_only=True, allow_patterns=_PATTERNS))
        except Exception:  # not cached, in whatever way this version of the hub says so
            pass
        try:
            held = [file.rfilename for file in hub.HfApi().model_info(name, timeout=_HUB_SECONDS).siblings or []]
        except Exception as error:
            raise TeacherError(
                f'no teacher "{name}": there is no such folder, it is not in the local hub cache, '
                f"and the hub did not give it ({line(error)}); pass a folder, or download it first"
            ) from error
        if not any(file.endswith(".safetensors") for file in held):
            raise TeacherError(f'teacher "{name}" holds no *.safetensors on the hub; {_CONVERT}')
        try:
            return Path(hub.snapshot_download(name, allow_patterns=_PATTERNS, etag_timeout=_HUB_SECONDS))
        except Exception as error:
            raise TeacherError(f'teacher "{name}" could not be downloaded: {line(error)}') from error


_CONVERT = (
    "convert it to safetensors where you trust it: AutoModelForSequenceClassification.from_pretrained(OLD)"
    ".save_pretrained(NEW), or the class that fits"
)


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in _PICKLES:
        raise TeacherError(f"teacher {path} is a pickle, which can run code when it is read; {_CONVERT}")


def inspect(folder: Path) -> dict[str, Any]:
    """The content of ``config.json``, after checking that the folder holds whole safetensors and asks for no code.

    Raises:
        TeacherError: only pickles, no weights, a corrupt file, an adapter, or a config that wants remote code.
    """
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    if "adapter_config.json" in names:
        raise TeacherError(f"teacher {folder} is an adapter; merge it first: merge_and_unload().save_pretrained(NEW)")
    config = read_json(folder / "config.json", "wanted the folder of a saved transformers model")
    weights = weight_files(folder)
    if not weights:
        for name in names:
            _refuse_pickle(folder / name)
        raise TeacherError(f"teacher {folder} holds no weights: wanted model.safetensors, got {', '.join(names[:8])}")
    asking = [config]
    if (folder / "tokenizer_config.json").exists():
        asking.append(read_json(folder / "tokenizer_config.json", "wanted a tokenizer's settings"))
    if any(part.get("auto_map") for part in asking):
        raise TeacherError(
            f"teacher {folder} wants to run code of its own (auto_map in its config), which is refused; "
            "if transformers has this architecture, remove auto_map; otherwise load the model in Python and "
            "pass it to distill_models"
        )
    for file in weights:
        _check_tensors(file)
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


def fingerprint(folder: Path) -> str:
    """Hash of the weights and of ``config.json`` (activations, label order): what decides a teacher's answers."""
    files = [*weight_files(folder), folder / "config.json"]
    try:
        return content_hash(*(part for file in files for part in (file.name, file_hash(file))))
    except StoreError as error:
        raise TeacherError(str(error)) from error


def read_json(path: Path, wanted: str) -> dict[str, Any]:
    """An object from a JSON file; ``wanted`` begins the TeacherError when there is none."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise TeacherError(f"{wanted}: no readable {path.name} in {path.parent}") from error
    except ValueError as error:
        raise TeacherError(f"{path} is not JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise TeacherError(f"{path} holds a {type(content).__name__}, wanted an object")
    return content


def read_list(path: Path) -> list[Any]:
    """A list from a JSON file. Raises TeacherError."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TeacherError(f"{path} is no readable JSON ({line(error)}); copy it again") from error
    if not isinstance(content, list):
        raise TeacherError(f"{path} holds a {type(content).__name__}, wanted a list")
    return content


def _check_tensors(file: Path) -> None:
    """Reads the header and compares it with the file's size, so that a half-copied file is named, not just refused."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise TeacherError(f"{file} is a corrupt safetensors file ({line(error)}); copy or save it again") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars and load reports off the terminal; what matters in them becomes our errors."""
    from transformers.utils import logging as talk

    hub = logging.getLogger("huggingface_hub")
    level, verbosity, bars = hub.level, talk.get_verbosity(), talk.is_progress_bar_enabled()
    hub.setLevel(logging.CRITICAL)
    talk.set_verbosity(logging.CRITICAL)
    talk.disable_progress_bar()
    try:
        yield
    finally:
        hub.setLevel(level)
        talk.set_verbosity(verbosity)
        if bars:
            talk.enable_progress_bar()


def line(error: BaseException) -> str:
    """The first line of a foreign error, shortened."""
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return first if len(first) <= 200 else first[:197] + "..."


def architecture(path_or_name: str | Path | None, endings: tuple[str, ...]) -> str | None:
    """The architecture of a folder whose config names one that ends so; None of any other, or where there is none."""
    path = Path(path_or_name or "")
    if path_or_name is None or not (path / "config.json").is_file():
        return None
    names = read_json(path / "config.json", "wanted a model's config").get("architectures") or []
    return next((str(name) for name in names if str(name).endswith(endings)), None)
