"""YAML as data: no tags, no anchors, no key twice."""

from __future__ import annotations

from typing import Any

import yaml

from understudy.errors import RecipeError


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which runs nothing, minus what would let a recipe say one thing and mean another."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(None, None, "anchors are not read; write it out", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f'"{key.value}" is there twice', key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str, *, where: str) -> Any:
    """The value that a YAML text says.

    Args:
        text: one YAML document.
        where: what to call it in an error ("tickets.yaml", "--set train.epochs").

    Returns:
        None, a scalar, a list or a mapping.

    Raises:
        RecipeError: not YAML, a tag (nothing is constructed or run), an anchor, a key twice.

    >>> read_yaml("{epochs: 3}", where="example")
    {'epochs': 3}
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)  # nosec: a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        problem = error.problem or "not YAML"
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}:" if mark else ""
        if "could not determine a constructor" in problem:
            tag = problem.split("'")[1].replace("tag:yaml.org,2002:", "!!")
            problem = f"a recipe is data, not code: the tag {tag} is refused, and nothing was run"
        raise RecipeError(f"{where}:{line} {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise RecipeError(f"{where}: not YAML that a recipe can be read from: {reason}") from None
