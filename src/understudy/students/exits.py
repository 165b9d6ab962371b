"""Exits: heads on shallower layers of a student, taught beside its last one, through which easy rows may leave.

The heads are those of self-distillation (Zhang et al. 2019, "Be Your Own Teacher", arXiv 1905.08094) and of early
exits in encoders (Xin et al. 2020, DeeBERT, arXiv 2004.12993). What teaches them is an objective like any other:
``hard_labels(of="exit.0")``, ``soft_labels(temperature, of="exit.0", against="self")`` and a hint from
``exit.0.features`` to the student's own ``features``. Departures from Zhang: the head of an image student averages over
each quarter of the image, in the place of bottleneck convolutions, and the hint is between pooled features.

Why quarters: with one average over all positions, which is what the student's own head takes, the first exit of a
student of width 8 was right on 43 % of the validation digits and no row could leave; with quarters 79 % left, 98.9 % of
them rightly (20 epochs, one seed; with a bottleneck convolution 74 % left).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.features import Tap, capture, layer_stack
from understudy.students.families.vision import Cnn
from understudy.students.student import Student

if TYPE_CHECKING:
    from understudy.students.parts import Part

GRID = 2
ENCODERS = ("bert", "camembert", "distilbert", "mpnet", "roberta", "xlm-roberta")
"""Encoders (``config.model_type``) whose layers follow each other with nothing between or behind them."""


def with_exits(module: nn.Module, at: Sequence[int] | Literal["all"]) -> Exits:
    """A student with a head after each of some of its layers; it learns as one module and ships in parts.

    ``module`` itself is inside, not a copy of it. The new heads are drawn from torch's global generator.

    >>> exits = with_exits(Cnn((8, 8), 1, 3, width=4), at=[1])
    >>> sorted(exits(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))
    ['exit.0.features', 'exit.0.logits', 'features', 'logits']

    Args:
        module: a `Cnn`, or a transformers encoder with a head for classification: BERT, CamemBERT, DistilBERT, MPNet,
            RoBERTa or XLM-RoBERTa, as a whole or cut. A `Student` around one of them is taken off.
        at: after which resolution stages (Cnn) or layers (encoder) a row may leave, increasing, counted from 1, never
            after the last, which has the model's own head; ``"all"``: after each but the last.

    Raises:
        UsageError: a module of another kind, or layers that are not there.
    """
    module = module.module if isinstance(module, Student) else module
    return Exits(module, at)


class Exits(nn.Module):
    """A model and the heads on its shallower layers. Made by `with_exits`.

    A forward gives a mapping; ``provides`` announces what is in it beside ``logits``:

    ``logits`` [N, K], ``features`` [N, D]
        of the model's own head: the deepest; features are what its last linear layer is given.
    ``exit.I.logits`` [N, K], ``exit.I.features`` [N, D_I]
        of exit I, counted from 0, the shallowest first: the pooled state of its layer, as its linear layer is given it.

    Attributes:
        model: what was given.
        at: layers or stages after which the exits are, counted from 1.
        heads: a head for each.
    """

    def __init__(self, model: nn.Module, at: Sequence[int] | Literal["all"]) -> None:
        super().__init__()
        layers = exit_paths(model)
        self.at = _chosen(at, len(layers), "stages" if isinstance(model, Cnn) else "layers")
        self.arguments: dict[str, Any] = {"at": list(self.at)}
        self.model = model
        self.heads = nn.ModuleList(_head(model, layers[i - 1]) for i in self.at)
        self._taps = {f"exit.{i}": Tap(layers[layer - 1], copy=False) for i, layer in enumerate(self.at)}
        self._taps["features"] = Tap(_last_linear(model), given=True, copy=False)
        self._takes = tuple(inspect.signature(model.forward).parameters)
        each = (f"exit.{i}.{signal}" for i in range(len(self.at)) for signal in ("logits", "features"))
        self.provides = frozenset({"features", *each})
        if hasattr(model, "config"):
            self.config: Any = model.config
        reference = next(model.parameters())
        self.heads.to(device=reference.device, dtype=reference.dtype)
        self.train(model.training)

    def forward(
        self,
        pixels: Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Logits and features of every exit and of the model's own head.

        Args:
            pixels: uint8 [N, C, H, W], for a Cnn.
            input_ids, attention_mask, token_type_ids: int64 [N, L], for an encoder.

        Raises:
            UsageError: an input that the model does not take.
        """
        given = {
            "pixels": pixels,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        inputs = {name: value for name, value in given.items() if value is not None}
        unknown = [name for name in inputs if name not in self._takes]
        if unknown:  # a transformers forward swallows what it does not know
            kind = type(self.model).__name__
            raise UsageError(f"exits of a {kind} do not take {unknown[0]}: {choices(unknown[0], self._takes)}")
        with capture(self.model, self._taps) as inside:
            output = self.model(**inputs)
        said = {"logits": output if isinstance(output, Tensor) else output.logits, "features": inside["features"]}
        for i, head in enumerate(self.heads):
            said[f"exit.{i}.features"], said[f"exit.{i}.logits"] = head(inside[f"exit.{i}"])
        return said

    def parts(self) -> list[Part]:
        """The same model as consecutive modules, one more than there are exits, that share its weights; in eval mode.

        Part 0 takes the inputs and gives ``{"logits", "next_state"}``: the logits of exit 0 and what the next part goes
        on from. Every further part takes that as ``state`` (and ``attention_mask`` where there is one). The last gives
        the logits of the model's own head and no state.
        """
        from understudy.students.parts import parts

        return parts(self)


class Head(nn.Module):
    """What an exit adds: the state of its layer, pooled, and logits from that.

    Args:
        dense: pooler of the first token of a state [N, L, D], under tanh; None: a state [N, C, H, W] is averaged.
        dropout: of the pooled features.
        output: features -> logits.
        grid: averages over so many by so many equal fields of the image, [N, grid * grid * C].
    """

    def __init__(self, dense: nn.Linear | None, dropout: nn.Module, output: nn.Module, *, grid: int = 1) -> None:
        super().__init__()
        self.dense, self.dropout, self.output, self.grid = dense, dropout, output, grid

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, D] and logits [N, K]."""
        features = self.dropout(self._pooled(state))
        return features, self.output(features)

    def _pooled(self, state: Tensor) -> Tensor:
        if self.dense is not None:
            return torch.tanh(self.dense(state[:, 0]))
        rows = state.tensor_split(self.grid, dim=2)
        return torch.cat([field.mean(dim=(2, 3)) for row in rows for field in row.tensor_split(self.grid, dim=3)], 1)


def exit_paths(model: nn.Module) -> list[str]:
    """Paths of the modules after which an exit may be, in order; the last of them is the model's end.

    Raises:
        UsageError: neither a Cnn nor an encoder with a head for classification.
    """
    if isinstance(model, Cnn):
        return [f"stages.{i - 1}" for i in [*pools(model), len(model.stages)]]
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in ENCODERS or not type(model).__name__.endswith("ForSequenceClassification"):
        raise UsageError(
            f"exits are for a Cnn or a transformers text classifier ({', '.join(ENCODERS)}), got {type(model).__name__}"
        )
    path, stack = layer_stack(model)
    return [f"{path}.{i}" for i in range(len(stack))]


def pools(model: Cnn) -> list[int]:
    """Where in ``model.stages`` each stage but the first begins: at the pooling that halves the resolution."""
    return [i for i, part in enumerate(model.stages) if isinstance(part, nn.MaxPool2d)]


def _last_linear(model: nn.Module) -> str:
    """Path of the layer that gives the model's own logits."""
    return [path for path, part in model.named_modules() if isinstance(part, nn.Linear)][-1]


def _head(model: nn.Module, path: str) -> Head:
    """A fresh head as the model's own is: as many labels, and its dropout."""
    output = model.get_submodule(_last_linear(model))
    assert isinstance(output, nn.Linear)
    rates = [part.p for part in model.modules() if isinstance(part, nn.Dropout)]
    dropout = nn.Dropout(rates[-1] if rates else 0.0)
    if isinstance(model, Cnn):
        layer = model.get_submodule(path)
        width = [part.out_channels for part in layer.modules() if isinstance(part, nn.Conv2d)][-1]
        return Head(None, dropout, nn.Linear(GRID * GRID * width, output.out_features), grid=GRID)
    config: Any = model.config
    width = config.hidden_size
    return Head(nn.Linear(width, width), dropout, nn.Linear(width, output.out_features))


def _chosen(at: Sequence[int] | Literal["all"], total: int, what: str) -> tuple[int, ...]:
    chosen = list(range(1, total)) if at == "all" else [int(i) for i in at]
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 1 or chosen[-1] >= total:
        there = f"from 1 to {total - 1}" if total > 1 else "which it has none of"
        raise UsageError(
            f"exits are after some of the {total} {what} but the last, increasing numbers {there}, got {chosen}"
        )
    return tuple(chosen)
