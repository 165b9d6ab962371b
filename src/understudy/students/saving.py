"""Students on disk: a folder with config.json and model.safetensors, whichever the family. Pickles are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy import files
from understudy.errors import StoreError, TeacherError, UsageError, choices
from understudy.students.cutting.factors import factorise_empty, factors_of
from understudy.students.exits import Exits
from understudy.students.families.bag import Bag
from understudy.students.families.conv import Conv
from understudy.students.families.embedder import Embedder
from understudy.students.families.gru import Gru
from understudy.students.families.masked import MaskedLM
from understudy.students.families.ngram import Ngram
from understudy.students.families.reader import Reader
from understudy.students.families.static import Static
from understudy.students.families.table import Table
from understudy.students.families.tagging import TagConv, TagGru
from understudy.students.families.transformer import Transformer
from understudy.students.families.vision import Cnn, Mlp, Normalised
from understudy.students.student import Student

FAMILY = "understudy_family"
FACTORISED = "factorised"
FAMILIES: dict[str, type[nn.Module]] = {
    "bag": Bag,
    "cnn": Cnn,
    "conv": Conv,
    "gru": Gru,
    "mlp": Mlp,
    "ngram": Ngram,
    "static": Static,
    "tag_conv": TagConv,
    "tag_gru": TagGru,
    "table": Table,
    "transformer": Transformer,
}
WRAPPERS: dict[str, type[nn.Module]] = {
    "embedder": Embedder,
    "exits": Exits,
    "normalised": Normalised,
    "reader": Reader,
}
"""Modules around another model, which lies in ``model/`` inside."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def save(module: nn.Module, folder: Path | str) -> None:
    """Writes a module into ``folder``, atomically, replacing what was there.

    A transformers model gets its own ``save_pretrained`` layout (any program loads it). Own families write their
    arguments and weights; wrappers (`WRAPPERS`) write their model into ``model/`` inside, an ``Exits`` its heads
    beside it. A transformers model with a factorised table, which no other program knows, is written as a family: its
    class, its config and the rank. A ``Student`` is unwrapped, and so is a ``MaskedLM``.

    Raises:
        UsageError: a module of another kind; its author saves it.
    """
    if isinstance(module, Student):
        module = module.module
    if isinstance(module, MaskedLM):
        module = module.model
    with files.new_folder(folder) as draft:
        _write(module, draft)


def load(folder: Path | str) -> nn.Module:
    """The module that `save` wrote, or any transformers model saved as safetensors, in eval mode.

    Raises:
        StoreError: no such folder, an unreadable config, a corrupt or foreign weight file.
        TeacherError: weights as a pickle, a model that needs its own code, or weights missing from the file (a head
            that would be made up).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError(f"a folder with a saved model is wanted, there is none at {folder}")
    if not (folder / "config.json").is_file():
        _refuse_pickles(folder)
        raise StoreError(f"{folder} has no config.json, so it is no saved model")
    config = files.read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise StoreError(f"{folder / 'config.json'} holds {type(config).__name__}, not the config of a model")
    _refuse_pickles(folder)
    module = _own(folder, config) if FAMILY in config else _transformers(folder, config)
    return module.eval()


def parameters(module: nn.Module) -> int:
    """How many parameters a module has; shared ones count once, buffers do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


def bytes_on_disk(folder: Path | str) -> int:
    """Bytes of all files under a folder.

    Raises:
        StoreError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise StoreError(f"no folder at {folder}")
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _write(module: nn.Module, folder: Path) -> None:
    family = next((name for name, kind in FAMILIES.items() if type(module) is kind), None)
    wrapper = next((name for name, kind in WRAPPERS.items() if type(module) is kind), None)
    if wrapper is not None:
        files.write_json(folder / "config.json", {FAMILY: wrapper, **_arguments(module)})
        (folder / "model").mkdir()
        _write(module.get_submodule("model"), folder / "model")
        if isinstance(module, Exits):
            _write_weights(module.heads, folder)
    elif family is not None:
        files.write_json(folder / "config.json", {FAMILY: family, **_arguments(module)})
        _write_weights(module, folder)
    elif (factors := factors_of(module)) is not None:
        whole: Any = module
        config = {name: value for name, value in whole.config.to_dict().items() if name != "_name_or_path"}
        facts = {"architecture": type(module).__name__, "rank": factors[1].table.embedding_dim, "config": config}
        files.write_json(folder / "config.json", {FAMILY: FACTORISED, **facts})
        _write_weights(module, folder)
    elif hasattr(module, "save_pretrained"):
        saving: Any = module
        with _without_bars():
            saving.save_pretrained(folder)
    else:
        raise UsageError(
            f"{type(module).__name__} is no transformers model and of no family here ({', '.join(FAMILIES)}): "
            "save it yourself (safetensors.torch.save_file)"
        )


def _write_weights(module: nn.Module, folder: Path) -> None:
    from safetensors.torch import save_file

    weights = {name: value.detach().contiguous().cpu() for name, value in module.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def _arguments(module: nn.Module) -> dict[str, Any]:
    arguments = module.arguments
    assert isinstance(arguments, dict)
    return arguments


def _own(folder: Path, config: dict[str, Any]) -> nn.Module:
    arguments = {key: value for key, value in config.items() if key != FAMILY}
    if str(config[FAMILY]) in WRAPPERS:
        module = _described(folder, WRAPPERS[str(config[FAMILY])], {"model": load(folder / "model"), **arguments})
        if isinstance(module, Exits):
            _read_weights(module.get_submodule("heads"), folder)
        return module
    if config[FAMILY] == FACTORISED:
        module = _described(folder, _factorised, arguments)
        _read_weights(module, folder)
        return module
    kind = FAMILIES.get(str(config[FAMILY]))
    if kind is None:
        known = [*FAMILIES, FACTORISED, *WRAPPERS]
        raise StoreError(f'{folder} is of family "{config[FAMILY]}": {choices(config[FAMILY], known)}')
    module = _described(folder, kind, arguments)
    _read_weights(module, folder)
    return module


def _read_weights(module: nn.Module, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{folder / 'model.safetensors'} cannot be read as the weights of this config: {reason}"
        ) from None


def _factorised(architecture: str, rank: int, config: dict[str, Any]) -> nn.Module:
    """A transformers model with random weights and a table of that rank."""
    kind: Any = _known(architecture)
    if kind is None:
        raise UsageError(f"there is no {architecture} in this transformers")
    with torch.random.fork_rng(devices=[]):
        module: nn.Module = kind(kind.config_class.from_dict(config))
        factorise_empty(module, rank)
    return module


def _described(folder: Path, kind: Callable[..., nn.Module], arguments: dict[str, Any]) -> nn.Module:
    try:
        return kind(**arguments)
    except (TypeError, ValueError, UsageError) as error:
        name = kind.__name__.strip("_")
        raise StoreError(f"{folder / 'config.json'} does not describe a {name}: {error}") from None


def _transformers(folder: Path, config: dict[str, Any]) -> nn.Module:
    import transformers
    from safetensors import SafetensorError

    names = config.get("architectures") or []
    kind = _known(str(names[0])) if len(names) == 1 else None
    if kind is None:
        raise TeacherError(
            f"{folder} names the architecture {names or '(none)'}, which transformers {transformers.__version__} "
            "does not have; a model's own code is never run"
        )
    try:
        architecture: Any = kind
        with _without_bars():
            module, info = architecture.from_pretrained(
                folder, output_loading_info=True, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise StoreError(f"{folder} cannot be loaded as {names[0]}: {' '.join(str(error).split())}") from None
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:4])
        raise TeacherError(f"{folder} lacks weights of {names[0]} ({missing}); they would be random, so it is not used")
    assert isinstance(module, nn.Module)
    return module


def _known(architecture: str) -> type[nn.Module] | None:
    """The model of transformers that is called so."""
    import transformers

    kind = getattr(transformers, architecture, None)
    return kind if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel) else None


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps the library's bars off the terminal: a run has its own."""
    from transformers.utils import logging as talk

    shown = talk.is_progress_bar_enabled()
    talk.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            talk.enable_progress_bar()


def _refuse_pickles(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise TeacherError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when it is read; "
            "convert it once to model.safetensors (save_pretrained does) and point here again"
        )
