"""Recipes: what wins, what is refused and with which sentence, and that nothing in YAML runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.errors import RecipeError
from understudy.pipeline.recipe import NAMED, difference, load_recipe, recipe_keys, schema, to_yaml, with_values

NEEDED = {"data.path": "tickets.csv", "student.family": "static"}


def written(folder: Path, text: str) -> str:
    path = folder / "tickets.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_each_layer_wins_over_the_one_before(tmp_path: Path) -> None:
    file = written(tmp_path, "seed: 1\ntrain: {epochs: 1, batch_size: 1, clip: 2}\n")
    recipe = load_recipe(
        file, options={**NEEDED, "train.epochs": 2, "train.batch_size": 2, "seed": None}, sets=["train.epochs=3"]
    )
    assert (recipe.seed, recipe.train.epochs, recipe.train.batch_size, recipe.train.clip) == (1, 3, 2, 2.0)
    assert recipe.train.schedule == "linear"


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "train: {learning_rate: 1e-4}"), options=NEEDED)
    assert recipe.train.learning_rate == 1e-4
    assert load_recipe(options=NEEDED, sets=["teacher.learning_rate=5e-5"]).teacher.learning_rate == 5e-5
    assert load_recipe(options={**NEEDED, "objective.temperature": "4"}).objective.temperature == 4.0
    assert load_recipe(options={**NEEDED, "objective.temperature": "auto"}).objective.temperature == "auto"
    assert load_recipe(options=NEEDED, sets=["student.layers=[0, 2, 4]"]).student.layers == (0, 2, 4)
    assert load_recipe(options=NEEDED, sets=["student.layers=3"]).student.layers == 3


def test_paths_and_empty_sections_are_taken_as_said(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "train:\nstore:\n"), options={**NEEDED, "data.path": Path("a/b")})
    assert recipe.data.path == "a/b"
    assert recipe.store is None


BAD = [
    ("objective:\n  temperatur: 4\n", ["objective.temperatur", 'did you mean "objective.temperature"', "tickets.yaml"]),
    ("temperature: 4\n", ["temperature", 'did you mean "objective.temperature"']),
    ("labels: [yes, no]\n", ["labels", "data.label", "in quotes"]),
    ("data: {label: no}\n", ["data.label", "false", 'write it in quotes, as in "yes"']),
    ("export: {floors: {yes: 0.9}}\n", ["export.floors", "in quotes"]),
    ("train: {epochs: yes}\n", ["train.epochs", "boolean"]),
    ("train: {learning_rate: fast}\n", ["train.learning_rate", "wanted a number", '"fast"']),
    ("train: {learning_rate: .nan}\n", ["train.learning_rate", "finite"]),
    ("objective: {temperature: 0}\n", ["objective.temperature", "greater than 0", "got 0"]),
    ("objective: {temperature: .inf}\n", ["objective.temperature", "finite number or auto"]),
    ("objective: {alpha: 1.5}\n", ["objective.alpha", "less than or equal to 1", "1.5"]),
    ("train: {epochs: 2.5}\n", ["train.epochs", "2.5"]),
    ("train: 5\n", ["train", "mapping"]),
    ("data: {label: 2026-11-22}\n", ["data.label", "string", "in quotes"]),
    (
        "student: {family: statik}\n",
        ["student.family", 'did you mean "static"', "known: auto, cnn, conv, cut, gru, mlp, ngram"],
    ),
    ("data: {validation_share: .5, test_share: .5}\n", ["below 0.9"]),
    ("seed: 1\nseed: 2\n", ["line 2", '"seed" is there twice']),
    ("train: &x {epochs: 1}\nteacher: *x\n", ["anchors"]),
    ("- a\n- b\n", ["mapping", "list"]),
    ("just words\n", ["mapping", "str"]),
    ("a: [1,\n", ["line", "tickets.yaml"]),
    ("seed: " + "9" * 5000 + "\n", ["tickets.yaml"]),
    ("[" * 3000, ["tickets.yaml"]),
]


@pytest.mark.parametrize(("text", "words"), BAD, ids=[text[:30] for text, _ in BAD])
def test_bad_recipes_are_explained(tmp_path: Path, text: str, words: list[str]) -> None:
    options = {key: value for key, value in NEEDED.items() if key != "student.family" or "family" not in text}
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, text), options=options)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) <= 3
    assert "pydantic" not in message


@pytest.mark.parametrize(
    "text",
    [
        '!!python/object/apply:os.system ["touch {pwned}"]',
        'seed: !!python/object/apply:os.system ["touch {pwned}"]',
        "!!python/object/new:subprocess.Popen [[touch, {pwned}]]",
        "store: !!python/name:os.system",
        "store: !anything x",
    ],
)
def test_a_recipe_is_data_not_code(tmp_path: Path, text: str) -> None:
    text = text.replace("{pwned}", str(tmp_path / "pwned"))
    with pytest.raises(RecipeError, match="a recipe is data, not code"):
        load_recipe(written(tmp_path, text), options=NEEDED)
    with pytest.raises(RecipeError, match="a recipe is data, not code"):
        load_recipe(options=NEEDED, sets=[f"store={text.removeprefix('seed: ').removeprefix('store: ')}"])
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.epochs", ["key=value"]),
        ("=3", ["key=value"]),
        ("trian.epochs=3", ['did you mean "train.epochs"']),
        ("train.epochs.more=3", ["train.epochs"]),
        ("data.label=yes", ["data.label", "in quotes"]),
    ],
)
def test_bad_settings_are_explained(setting: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(options=NEEDED, sets=[setting])
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_what_is_missing_names_the_option() -> None:
    with pytest.raises(RecipeError, match=r"data\.path is missing: --data says it"):
        load_recipe(options={"student.family": "static"})
    with pytest.raises(RecipeError, match=r"student\.family is missing: --student says it"):
        load_recipe(options={"data.path": "x"})


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    written(tmp_path, "seed: 1")
    with pytest.raises(RecipeError, match=r"no such recipe; did you mean tickets.yaml\?"):
        load_recipe(str(tmp_path / "ticket.yaml"), options=NEEDED)
    (tmp_path / "tickets.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(str(tmp_path / "tickets.yaml"), options=NEEDED)


def test_many_problems_take_three_lines(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"\(and 2 more\)") as caught:
        load_recipe(written(tmp_path, "a1: 1\nb1: 1\nc1: 1\nd1: 1\ne1: 1\n"), options=NEEDED)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("name", [None, *NAMED])
def test_yaml_reads_back_to_an_equal_recipe(tmp_path: Path, name: str | None) -> None:
    odd = {"data.label": "yes", "data.text": "1e-4", "data.path": "ordner/größe: 3", "student.layers": [1, 3]}
    recipe = load_recipe(name, options={**NEEDED, **odd, "export.floors": {"no": 0.9}, "train.learning_rate": 1e-5})
    again = load_recipe(written(tmp_path, to_yaml(recipe)))
    assert again == recipe
    assert difference(recipe, again) == []
    assert (again.data.label, again.export.floors) == ("yes", {"no": 0.9})


def test_settings_reach_floors_and_labels_with_dots() -> None:
    recipe = load_recipe(options=NEEDED, sets=["export.floors.card.lost=0.8", "export.floors.other=1"])
    assert recipe.export.floors == {"card.lost": 0.8, "other": 1.0}


def test_difference_names_every_key() -> None:
    recipe = load_recipe(options=NEEDED)
    changed = with_values(recipe, {"train.epochs": 5, "student.layers": [1], "export.floors": {"a": 0.5}})
    assert difference(recipe, changed) == [
        "student.layers: was unset, now [1]",
        "train.epochs: was unset, now 5",
        "export.floors: was {}, now unset",
        "export.floors.a: was unset, now 0.5",
    ]


def test_recipes_are_frozen_and_decisions_are_checked() -> None:
    recipe = load_recipe(options=NEEDED)
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.epochs = 3  # type: ignore[misc]
    with pytest.raises(RecipeError, match=r"objective\.alpha"):
        with_values(recipe, {"objective.alpha": -1})


def test_every_key_is_described_and_in_the_schema() -> None:
    keys = dict(recipe_keys())
    assert len(keys) > 60
    assert [key for key, field in keys.items() if not (field.description or "").endswith(".")] == []
    definitions = schema()["$defs"]
    assert "description" in definitions["Train"]["properties"]["epochs"]
    assert schema()["additionalProperties"] is False
