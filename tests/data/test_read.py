"""Reading: what a file says is what arrives, and every decision is in the notes."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.data import Examples, content_key, digits, leaks, load
from understudy.errors import UsageError
from understudy.tasks import LAYOUTS

HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test", "extra": "extra"}  # name -> file
SHARED = Path(__file__).parents[3] / "shared" / "data"


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count: int, classes: int = 2, *, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": f"class {i % classes}"} for i in range(start, start + count)]


def full(folder: Path, **files: list[dict[str, Any]]) -> Path:
    for name, content in files.items():
        lines(folder / f"{name}.jsonl", content)
    return folder


def names_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    (tmp_path / "a.csv").write_text(text)
    return load(tmp_path / "a.csv")[1].label_names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a"], ("a", "b")),
        ([10, 9, 2], ("2", "9", "10")),
        ([True, False], ("False", "True")),
        ([1.0, 0.0], ("0", "1")),
        ([-1, 0, 1], ("-1", "0", "1")),
        (["10", "9"], ("9", "10")),
        (["10", "9", "b"], ("10", "9", "b")),
    ],
)
def test_label_names(labels: list[Any], names: tuple[str, ...], tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", [{"text": f"{i}", "label": labels[i % len(labels)]} for i in range(30)])
    splits = load(file)[1]
    assert splits.label_names == names
    every = Examples.join([splits.train, splits.validation, splits.test])
    said = {text: names[label] for text, label in zip(every.inputs["text"], every.labels, strict=True)}
    wanted = {f"{i}": str(labels[i % len(labels)]).removesuffix(".0") for i in range(30)}
    assert said == wanted


def test_a_csv_says_what_is_written(tmp_path: Path) -> None:
    """Words that tools take for "nothing", numbers and quotes are texts; labels with an empty cell stay whole."""
    (tmp_path / "train.csv").write_text('text,label\nnull,1.0\nNaN,0.0\n007,1.0\n"a, ""b""",\n1e-4,0.0\n')
    (tmp_path / "test.csv").write_text("text,label\nx,1\ny,0\n")
    (tmp_path / "validation.csv").write_text("text,label\nz,1\n")
    splits = load(tmp_path)[1]
    assert splits.train.inputs == {"text": ["null", "NaN", "007", "1e-4"]}
    assert splits.unlabelled is not None
    assert splits.unlabelled.inputs == {"text": ['a, "b"']}
    assert (splits.label_names, splits.train.labels.tolist()) == (("0", "1"), [1, 0, 1, 0])
    assert splits.test.labels.tolist() == [1, 0]


def test_csv_yes_and_no_are_words(tmp_path: Path) -> None:
    body = "".join(f"t{i},{'yes' if i % 2 else 'no'}\n" for i in range(20))
    assert names_of(tmp_path, "text,label\n" + body) == ("no", "yes")


def test_class_labels_keep_their_order_and_hidden_ones_are_unlabelled(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a", "m"])}
    )
    data = {"text": [f"t{i}" for i in range(40)], "label": [0, 1, -1, None] * 10}
    datasets.Dataset.from_dict(data, features=features).to_parquet(str(tmp_path / "a.parquet"))
    splits = load(tmp_path / "a.parquet")[1]
    assert splits.label_names == ("z", "a", "m")
    assert splits.train.counts(3).tolist() == [8, 8, 0]
    assert splits.unlabelled is not None
    assert len(splits.unlabelled) == 20
    assert any("1 of the 3 classes" in note for note in splits.notes)


def test_unlabelled_rows_come_from_both_places(tmp_path: Path) -> None:
    train = [*rows(10), {"text": "bare", "label": None}]
    full(tmp_path, train=train, validation=[*rows(4, start=50), {"text": "v", "label": None}], test=rows(6, start=90))
    lines(tmp_path / "unlabelled.jsonl", [{"text": "u1"}, {"text": "u2"}])
    task, splits = load(tmp_path)
    assert task == "text-classification"
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [10, 4, 6]
    assert splits.unlabelled is not None
    assert splits.unlabelled.inputs["text"] == ["u1", "u2", "bare"]
    assert set(splits.unlabelled.labels) == {-1}
    assert "1 of 11 rows of train.jsonl have no label: used as unlabelled rows" in splits.notes
    assert "1 of 5 rows of validation.jsonl have no label: dropped" in splits.notes


def test_missing_splits_come_off_train_and_it_is_said(tmp_path: Path) -> None:
    full(tmp_path, train=rows(100), test=rows(10, start=200))
    splits = load(tmp_path, validation_share=0.2)[1]
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (80, 20, 10)
    assert any("validation is split off train.jsonl: 20 rows (20%" in note for note in splits.notes)
    assert not any("test is split off" in note for note in splits.notes)


def test_files_that_are_no_split_are_named(tmp_path: Path) -> None:
    full(tmp_path, train=rows(40), slots=rows(3))
    assert any("slots.jsonl" in note for note in load(tmp_path)[1].notes)


def test_leaks_are_counted_and_said(tmp_path: Path) -> None:
    test = [*rows(4, start=500), {"text": "text 0", "label": "class 0"}, {"text": "text 1", "label": "class 0"}]
    full(tmp_path, train=[*rows(20), rows(1)[0]], validation=rows(5, start=19), test=test, unlabelled=[test[0]])
    splits = load(tmp_path)[1]
    assert leaks(splits) == {
        "validation_in_train": 1,
        "test_in_train": 2,
        "test_in_validation": 0,
        "validation_in_unlabelled": 0,
        "test_in_unlabelled": 1,
        "duplicates_in_train": 1,
        "duplicates_in_validation": 0,
        "duplicates_in_test": 0,
        "duplicates_in_unlabelled": 0,
        "conflicting": 1,
    }
    assert "2 of 6 test rows are also in train" in splits.notes
    assert "1 of 5 validation rows is also in train" in splits.notes
    assert "1 content is there with more than one label" in splits.notes


def test_reading_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache in the data folder, the temporary folder or the working folder; bars and log level as before."""
    import datasets

    data, scratch, here = (tmp_path / name for name in ("data", "scratch", "here"))
    for path in (data, scratch, here):
        path.mkdir()
    full(data, train=rows(40))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(here)
    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity(), dict(os.environ)
    load(data)
    assert [entry.name for entry in data.iterdir()] == ["train.jsonl"]
    assert list(scratch.iterdir()) == []
    assert list(here.iterdir()) == []
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity(), dict(os.environ)) == before


def test_a_folder_with_glob_characters_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs[1] *?"
    folder.mkdir()
    assert len(load(full(folder, train=rows(40)))[1].train) == 32


def test_images_as_bytes_dicts_and_paths_are_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    files = []
    for i in range(12):
        Image.fromarray(np.full((2, 2), i * 20, np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
        files.append((tmp_path / "pictures" / f"{i}.png").read_bytes())
    labels = [i % 2 for i in range(12)]
    dicts = [{"bytes": data, "path": None} for data in files]
    half = [{"bytes": None, "path": f"pictures/{i}.png"} for i in range(12)]
    pq.write_table(pa.table({"image": files, "label": labels}), tmp_path / "raw.parquet")
    pq.write_table(pa.table({"image": dicts, "label": labels}), tmp_path / "dicts.parquet")
    pq.write_table(pa.table({"image": half, "label": labels}), tmp_path / "half.parquet")
    (tmp_path / "paths.csv").write_text("image,label\n" + "".join(f"pictures/{i}.png,{i % 2}\n" for i in range(12)))
    found = [load(tmp_path / name) for name in ("raw.parquet", "dicts.parquet", "half.parquet", "paths.csv")]
    assert {task for task, _ in found} == {"image-classification"}
    assert len({splits.train.fingerprint for _, splits in found}) == 1
    assert found[0][1].train.inputs["image"][0] in files


def test_the_columns_may_be_called_anything_and_the_keys_do_not_change(tmp_path: Path) -> None:
    plain = load(lines(tmp_path / "a.jsonl", rows(30)))[1]
    renamed = [{"utterance": row["text"], "intent": row["label"], "extra": 1} for row in rows(30)]
    other = load(lines(tmp_path / "b.jsonl", renamed), text="utterance", label="intent")[1]
    assert plain.train.fingerprint == other.train.fingerprint
    assert plain.train.inputs.keys() == other.train.inputs.keys()


def test_digits() -> None:
    from PIL import Image

    splits = digits()
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [1078, 360, 359]
    assert splits.label_names == tuple("0123456789")
    for part, share in ((splits.train, 0.6), (splits.validation, 0.2), (splits.test, 0.2)):
        assert np.abs(part.counts(10) / (splits_counts(splits)) - share).max() < 0.01
    image = Image.open(io.BytesIO(splits.train.inputs["image"][0]))
    assert (image.size, image.mode, image.format) == ((8, 8), "L", "PNG")
    every = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in splits.train.inputs["image"]])
    assert (every.min(), every.max()) == (0, 255)
    assert digits().test.fingerprint == splits.test.fingerprint
    assert not any(leaks(splits).values())


def splits_counts(splits: Any) -> Any:
    return sum(part.counts(10) for part in (splits.train, splits.validation, splits.test))


@given(st.dictionaries(st.text(max_size=4), st.one_of(st.text(), st.binary(), st.integers(), st.none()), max_size=4))
def test_a_key_depends_on_content_and_nothing_else(row: dict[str, Any]) -> None:
    key = content_key(row)
    assert key == content_key(dict(reversed(row.items())))
    assert len(bytes.fromhex(key)) == 16
    assert content_key({**row, "another": 1}) != key


def test_values_of_different_types_are_different_contents() -> None:
    values = ["1", b"1", 1, 1.0, True, None, "", "None", ["1"], ["1", "2"], ['1", "2'], ["12"]]
    assert len({content_key({"text": value}) for value in values}) == len(values)
    assert content_key({"a": "bc"}) != content_key({"ab": "c"})
    assert content_key({"a": "\ud800"})
    with pytest.raises(UsageError, match="a list"):
        content_key({"text": [1]})


def test_examples_refuse_columns_of_other_lengths() -> None:
    with pytest.raises(UsageError, match="lengths"):
        Examples({"text": ["a", "b"]}, np.array([0]), ("0" * 32,))


def test_take_join_and_counts() -> None:
    some = Examples.of({"text": ["a", "b", "c"]}, [0, 2, -1])
    assert Examples.join([some.take([2]), some.take([1, 0])]).inputs == {"text": ["c", "b", "a"]}
    assert some.counts(3).tolist() == [1, 0, 1]
    assert len(some.take([])) == 0
    assert some.take([0, 1, 2]).fingerprint == some.fingerprint != some.take([1, 0, 2]).fingerprint
    with pytest.raises(ValueError):
        some.labels[0] = 1


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=30, max_size=120),
    repeats=st.lists(st.integers(0, 29), max_size=20),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 5),
)
def test_split_laws(labels: list[int], repeats: list[int], order: Any, seed: int) -> None:
    """Nothing lost, no content in two splits, every class trained, the shares met, the row order irrelevant."""
    from understudy.data.split import split_off

    texts = [f"t{i}" for i in range(len(labels))] + [f"t{i}" for i in repeats]
    both = list(zip(texts, labels + [labels[i] for i in repeats], strict=True))
    shuffled = order.sample(both, len(both))
    kept = []
    for pairs in (both, shuffled):
        examples = Examples.of({"text": [t for t, _ in pairs]}, [label for _, label in pairs])
        train, taken = split_off(examples, {"test": 0.2, "validation": 0.1}, seed=seed, source="x")
        parts = [train, taken["test"], taken["validation"]]
        assert sum(map(len, parts)) == len(both)
        sets = [set(part.keys) for part in parts]
        assert not (sets[0] & sets[1])
        assert not (sets[0] & sets[2])
        assert not (sets[1] & sets[2])
        assert set(train.labels) == set(labels)
        assert [len(s) for s in sets[1:]] == [round(0.2 * len(labels)), round(0.1 * len(labels))]
        kept.append(sets)
    assert kept[0] == kept[1]


def test_a_split_is_proportional_and_another_seed_is_another_split(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "a.jsonl", [{"text": f"t{i}", "label": "rare" if i % 10 == 0 else "often"} for i in range(500)]
    )
    one, again, other = (load(file, seed=seed)[1] for seed in (0, 0, 1))
    assert one.test.fingerprint == again.test.fingerprint != other.test.fingerprint
    for part in (one.validation, one.test):
        assert part.counts(2).tolist() == [45, 5]


@pytest.mark.skipif(not (SHARED / "clinc150").is_dir(), reason="the measuring data (clinc150) is not on this machine")
def test_clinc150() -> None:
    task, splits = load(SHARED / "clinc150")
    assert task == "text-classification"
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [15_100, 3_100, 5_500]
    assert len(splits.label_names) == 151
    assert splits.label_names[0] == "accept_reservations"
    assert splits.label_names[-1] == "oos"
    assert splits.train.counts(151).tolist() == [100] * 151
    assert "2 of 5,500 test rows are also in train" in splits.notes


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="the measuring data (mnist) is not on this machine")
def test_one_file_of_mnist() -> None:
    task, splits = load(SHARED / "mnist" / "validation.parquet")
    assert task == "image-classification"
    assert splits.label_names == tuple("0123456789")
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [4_001, 500, 500]
    assert splits.test.inputs["image"][0].startswith(b"\x89PNG")


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's way of loading, given a local repository: other split names, hidden test labels."""
    import datasets

    from understudy.data import sources

    repository = tmp_path / "repository"
    repository.mkdir()
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    for split, start in (("train", 0), ("validation", 100), ("test", 200), ("extra", 300)):
        labels = [-1] * 40 if split == "test" else [0, 1] * 20
        data = {"text": [f"t{i}" for i in range(start, start + 40)], "label": labels}
        datasets.Dataset.from_dict(data, features=features).to_parquet(str(repository / f"{split}.parquet"))
    (repository / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n"
        + "".join(f"  - split: {name}\n    path: {file}.parquet\n" for name, file in HUB_SPLITS.items())
        + "---\n"
    )
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    read_hub = sources.read_hub
    monkeypatch.setattr(sources, "read_hub", lambda name: read_hub(name.replace("owner/data", str(repository))))
    task, splits = load("owner/data:small")
    assert task == "text-classification"
    assert splits.validation.inputs["text"][0] == "t100"
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (36, 40, 4)
    assert any("has no labels, as benchmarks hide them" in note for note in splits.notes)
    assert any("not read: extra" in note for note in splits.notes)


def test_vectors_of_labels_are_their_places(tmp_path: Path) -> None:
    """A vector of 0 and 1 says the same as the list of the places that hold."""
    vectors = [[i % 2, 1 - i % 2, int(i % 3 == 0)] for i in range(40)]
    said = [None if i == 7 else vector for i, vector in enumerate(vectors)]
    path = lines(tmp_path / "a.jsonl", [{"text": f"text {i}", "labels": one} for i, one in enumerate(said)])
    task, splits = load(str(path), layouts=LAYOUTS)
    assert task == "multi-label"
    assert splits.label_names == ("0", "1", "2")
    read = {
        text: row.tolist()
        for part in (splits.train, splits.validation, splits.test)
        for text, row in zip(part.inputs["text"], part.labels, strict=True)
    }
    assert read == {f"text {i}": vector for i, vector in enumerate(vectors) if i != 7}


def test_the_row_of_an_image_is_that_of_its_file(tmp_path: Path) -> None:
    """After a split nobody knows it; of a broken image it is looked for."""
    from understudy.data.read import image_row

    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "train.csv").write_text("image,label\na.png,x\nb.png,y\n")
    (tmp_path / "test.csv").write_text("image,label\nc.png,x\n")
    assert image_row(tmp_path, "image", b"b") == "train.csv, row 2, b.png"
    assert image_row(tmp_path, "image", b"c") == "test.csv, row 1, c.png"
    assert image_row(tmp_path, "image", b"d") == image_row(tmp_path / "none", "image", b"a") == ""
