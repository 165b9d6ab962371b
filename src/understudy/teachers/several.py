"""Several sources side by side, each with its name and the labels that it knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from understudy.errors import UsageError, choices
from understudy.files import content_hash
from understudy.records import Batch, Targets


class Several:
    """Sources that answer the same batch, for terms that name theirs: ``against="teacher.fr"``.

    Each is asked with its own encoding of the rows (``batch.inputs["teacher.fr"]``), and only where a term reads it.
    A need belongs to the source with the longest name that begins it.

    Args:
        sources: name -> source (``Live``, ``Stored``) of that very name.

    Raises:
        UsageError: no sources, or one whose own name is another.
    """

    def __init__(self, sources: Mapping[str, Any]) -> None:
        if not sources:
            raise UsageError("wanted at least one source, got none")
        for name, source in sources.items():
            if source.name != name:
                raise UsageError(f'the source "{name}" calls itself "{source.name}": give it name="{name}"')
        self.sources = dict(sources)
        self._read = tuple(sources)

    @property
    def model(self) -> nn.ModuleList:
        """The modules that are run, so that a student who is one of them can be refused."""
        models = [getattr(source, "model", None) for source in self.sources.values()]
        return nn.ModuleList([model for model in models if isinstance(model, nn.Module)])

    @property
    def fingerprint(self) -> str:
        """Of all sources and their names."""
        return content_hash(*(part for name, one in self.sources.items() for part in (name, one.fingerprint)))

    @property
    def provides(self) -> frozenset[str]:
        """What the sources provide, under their names."""
        return frozenset(f"{name}.{signal}" for name, one in self.sources.items() for signal in one.provides)

    def bind(self, needs: Iterable[str]) -> None:
        """Resolves what will be asked for; ``NAME.signal`` goes to the source NAME.

        Raises:
            UsageError: a need of no source, or one that its source cannot give.
        """
        wanted: dict[str, set[str]] = {}
        for need in needs:
            owner = max((name for name in self.sources if need.startswith(f"{name}.")), key=len, default=None)
            if owner is None:
                raise UsageError(f'no source gives "{need}": {choices(need.partition(".")[0], self.sources)}')
            wanted.setdefault(owner, set()).add(need)
        for name, mine in wanted.items():
            self.sources[name].bind(frozenset(mine))
        self._read = tuple(name for name in self.sources if name in wanted)

    def targets(self, batch: Batch) -> Targets:
        """What the sources say about the rows, with the labels that each knows."""
        said = [self.sources[name].targets(batch) for name in self._read]
        signals = {key: value for one in said for key, value in one.signals.items()}
        return Targets(signals, {name: mask for one in said for name, mask in one.support.items()})
