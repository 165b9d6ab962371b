"""The docs say what the code does: the page of dials is the recipe's schema, and every command that is shown parses.

After a change of the recipe, `python tests/test_docs.py` writes docs/recipe.md anew.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.objectives import describe
from understudy.pipeline.defaults import FAMILIES, TEACHERS
from understudy.pipeline.recipe import NAMED, recipe_keys, schema
from understudy.pipeline.sections import Step
from understudy.pipeline.teacher_section import Member

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipe.md"
OBJECTIVES = ROOT / "docs" / "objectives.md"
MARK = "<!-- from here on: python tests/test_docs.py -->\n\n"
HEAD = """\
# The recipe

Generated from the schema by `python tests/test_docs.py`, and a test compares the two. `understudy schema` prints it as
JSON schema, for editors. Every key can be set in a YAML file (`--recipe FILE`) and on the command line
(`--set train.epochs=3`); a file gives way to options, and those to `--set`. Unknown keys are errors. A run writes
`recipe.yaml` with every decision filled in.
"""


def page() -> str:
    """docs/recipe.md as it should be."""
    whole = schema()
    parts = [HEAD]
    for section in ("", *(name for name, entry in whole["properties"].items() if "$ref" in entry)):
        entry = whole["$defs"][section.title()] if section else whole
        fields = {key.rpartition(".")[2]: field for key, field in recipe_keys() if key.rpartition(".")[0] == section}
        parts.append(table(section, entry, fields))
        if section == "teacher":
            parts.append(table("teacher.members.NAME", whole["$defs"]["Member"], Member.model_fields))
        if not section:
            parts.append(table("steps", whole["$defs"]["Step"], Step.model_fields))
    return "\n".join([*parts, decided(), named()])


def table(section: str, entry: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """One section: its description, and a row for every key."""
    lines = [
        f"## {section or 'the run'}\n",
        f"{entry['description']}\n",
        *head("key", "takes", "default", "what it does"),
    ]
    for key, field in fields.items():
        default = "required" if field.is_required() else "unset" if field.default is None else show(field.default)
        name = f"`{section}.{key}`" if section else f"`{key}`"
        lines.append(cells(name, takes(entry["properties"][key]), default, field.description or ""))
    return "\n".join(lines) + "\n"


def terms() -> str:
    """Every term, and every plain function of tensors."""
    parts = []
    for kind, called in (("term", "Terms"), ("divergence", "Plain functions")):
        rows = [row for row in describe() if row["kind"] == kind]
        lines = [
            f"## {called}\n",
            *head("name", "what must match", "formula", "reads (student; teacher)", "counts", "source"),
        ]
        for row in rows:
            reads = "; ".join(", ".join(map(show, row["needs"][side])) or "nothing" for side in ("learner", "source"))
            counts = show(row["per"]) + (", rows act on each other" if row["coupled"] else "")
            lines.append(cells(show(row["name"]), row["says"], row["formula"], reads, counts, row["source"]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def head(*names: str) -> list[str]:
    return [cells(*names), "|---" * len(names) + "|"]


def cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def show(value: Any) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def takes(entry: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in entry:
        return " or ".join(takes(one) for one in entry["anyOf"] if one.get("type") != "null")
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    if "$ref" in entry:
        return f"{entry['$ref'].rpartition('/')[2].lower()}s, as below"
    kind = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}.get(entry["type"])
    if entry["type"] == "array":
        return f"list of {takes(entry['items'])}"
    if entry["type"] == "object":
        if "patternProperties" in entry:
            return "name: a member, as below"
        inside = entry["additionalProperties"]
        if inside is True:
            return "mapping"
        return (
            f"term: {takes(inside)}" if "title" not in entry and "propertyNames" in entry else f"label: {takes(inside)}"
        )
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    ends = [f"{sign} {entry[name]:g}" for name, sign in limits.items() if name in entry]
    return f"{kind} {', '.join(ends)}".strip()


def decided() -> str:
    """What stands in the place of an unset key, by family."""
    lines = ["## What is decided where a key is unset\n"]
    tables = {f"student, {task}": families for task, families in FAMILIES.items()} | {"teacher": TEACHERS}
    for name, families in tables.items():
        keys = list(dict.fromkeys(key for dials in families.values() for key in dials))
        lines += head(name, *keys)
        lines += [cells(show(name), *(str(dials.get(key, "")) for key in keys)) for name, dials in families.items()]
        lines.append("")
    return "\n".join(lines)


def named() -> str:
    """Recipes that need no file."""
    lines = ["## Recipes known by name\n", *head("--recipe", "what it does", "source")]
    for name, path in NAMED.items():
        said = [line.removeprefix("# ") for line in path.read_text("utf-8").splitlines() if line.startswith("# ")]
        lines.append(cells(show(name), said[0], said[1].removeprefix("Source: ") if len(said) > 1 else ""))
    return "\n".join(lines) + "\n"


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return [body for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if name == language]


def shown_commands(text: str) -> Iterator[list[str]]:
    """Every ``understudy ...`` line of the code blocks, as words."""
    for line in "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line.partition(" #")[0].rpartition("| ")[2].partition(" > ")[0])
        if words[:1] == ["understudy"]:
            yield words[1:]


def test_the_page_of_dials_is_the_schema() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/test_docs.py"
    assert page().count("\n| `train.") == sum(key.startswith("train.") for key, _ in recipe_keys())


def test_the_page_of_objectives_lists_every_term() -> None:
    said, made = OBJECTIVES.read_text(encoding="utf-8").split(MARK)
    assert made == terms(), "run: python tests/test_docs.py"
    assert len(said.splitlines()) > 20
    assert made.count("\n| `") == len(describe())


def test_commands_that_are_shown_parse() -> None:
    import typer

    from understudy.cli.app import build

    program: Any = typer.main.get_command(build())
    found = list(shown_commands((ROOT / "README.md").read_text("utf-8")))
    assert len(found) > 8
    for command, *arguments in found:
        if "--help" not in arguments:
            program.commands[command].make_context(command, arguments)  # raises on an option that is not there


def test_the_second_level_of_the_readme_runs(tiny_bert: Any, tiny_texts: Any, tiny_labels: tuple[str, ...]) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from understudy.data import Examples, Splits
    from understudy.teachers import open_teacher

    texts, labels = tiny_texts(64)
    rows = Examples.of({"text": texts}, labels)
    teacher = open_teacher(tiny_bert(), task="text-classification", label_names=tiny_labels)
    config = BertConfig(**{**teacher.model.config.to_dict(), "num_hidden_layers": 6})
    names = {
        "model": BertForSequenceClassification(config), "encoder": teacher.encoder,
        "splits": Splits(rows, rows, rows, None, tiny_labels),
    }  # fmt: skip
    (code,) = [block for block in blocks((ROOT / "README.md").read_text("utf-8"), "python") if "train(" in block]
    exec(compile(code.replace("training.train(", "done = training.train("), "README.md", "exec"), names)
    history = names["done"].history  # type: ignore[attr-defined]
    assert set(history[-1]["terms"]) == {"soft_labels", "hard_labels", "hidden_states"}
    assert all(0 < value < 10 for value in history[-1]["terms"].values())


def test_links_lead_to_files() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))]
    assert len(links) > 4
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short_and_nothing_names_a_machine() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 200
    assert [p.name for p in pages if re.search(r"(?<![\w./-])/(work|root|home|tmp|opt)/", p.read_text("utf-8"))] == []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    OBJECTIVES.write_text(OBJECTIVES.read_text(encoding="utf-8").split(MARK)[0] + MARK + terms(), encoding="utf-8")
