"""Layer 0: the encoders that training and the runtime share."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from understudy import encoding
from understudy.encoding import (
    PixelEncoder,
    Ragged,
    RowError,
    SequenceEncoder,
    SubwordEncoder,
    WordEncoder,
    load_encoder,
)
from understudy.encoding.splitting import split, split_all, uncut
from understudy.errors import ArtefactError, DataError, StoreError, UsageError

WORDS = ["my", "card", "where", "is", "?", "straße", "中"]
ANYTHING = st.text(alphabet=st.characters(), max_size=40)  # lone surrogates and control characters too


def tokenizer() -> Tokenizer:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "where", "is", "my", "car", "##d", "?", "中"]
    made = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special)
    return made


def encoders() -> dict[str, Any]:
    return {
        "words": WordEncoder(WORDS, buckets=50),
        "no buckets": WordEncoder(WORDS),
        "pairs": WordEncoder(WORDS, buckets=1000, pairs=True),
        "characters": WordEncoder(WORDS, buckets=1000, characters=3),
        "everything": WordEncoder(WORDS, buckets=997, pairs=True, characters=4, lowercase=False),
        "no dictionary": WordEncoder([], buckets=300, pairs=True, characters=4),
        "no dictionary, words only": WordEncoder([], buckets=7),
        "nothing": WordEncoder([]),
        "subwords": SubwordEncoder(tokenizer(), limit=12),
        "sequence": SequenceEncoder(WordEncoder(WORDS, buckets=50), limit=7),
        "sequence without buckets": SequenceEncoder(WordEncoder(WORDS, lowercase=False), limit=40),
    }


@pytest.mark.parametrize("name", list(encoders()))
def test_same_ids_after_saving_and_loading(name: str, tmp_path: Path) -> None:
    encoder = encoders()[name]
    again = load_encoder(tmp_path, encoder.save(tmp_path))
    assert again.fingerprint == encoder.fingerprint
    assert again.size == encoder.size

    @settings(max_examples=150, deadline=None)
    @given(st.lists(ANYTHING, max_size=5))
    def same(texts: list[str]) -> None:
        one, two = encoder.encode({"text": texts}), again.encode({"text": texts})
        np.testing.assert_array_equal(one.values, two.values, strict=True)
        np.testing.assert_array_equal(one.offsets, two.offsets, strict=True)
        assert len(one) == len(texts)
        assert (one.lengths >= 1).all()
        assert one.values.min(initial=0) >= 0
        assert one.values.max(initial=0) < encoder.size
        for row, text in enumerate(texts):  # a row does not depend on its neighbours, nor on what was seen before
            np.testing.assert_array_equal(encoder.encode({"text": [text]}).values, one[row])

    same()


def test_fingerprints_differ_with_every_setting() -> None:
    made = [
        *encoders().values(),
        WordEncoder(WORDS[::-1], buckets=50),
        WordEncoder(WORDS, buckets=51),
        WordEncoder(WORDS, buckets=50, lowercase=False),
        WordEncoder(WORDS, buckets=50, fields=("title",)),
        SequenceEncoder(WordEncoder(WORDS, buckets=50), limit=8),
        SequenceEncoder(WordEncoder(WORDS, buckets=51), limit=7),
        SubwordEncoder(tokenizer(), limit=13),
        SubwordEncoder(tokenizer(), limit=12, token_types=False),
        PixelEncoder((8, 8), 1),
        PixelEncoder((8, 8), 3),
        PixelEncoder((8, 9), 1),
    ]
    assert len({encoder.fingerprint for encoder in made}) == len(made)


def test_word_ids_are_the_stated_ones() -> None:
    encoder = WordEncoder(["my", "card"], buckets=100, pairs=True)
    first = 3

    def crc(word: str) -> int:
        return zlib.crc32(word.encode())

    unknown = first + crc("w:zebra") % 100
    pair = [first + ((crc(a) * 0x9E3779B1 + crc(b)) % 2**32) % 100 for a, b in [("my", "card"), ("card", "zebra")]]
    assert encoder.encode({"text": ["My CARD zebra", "", " \n"]})[0].tolist() == [1, 2, unknown, *pair]
    assert [encoder.encode({"text": ["", " \n"]})[row].tolist() for row in (0, 1)] == [[0], [0]]
    grams = WordEncoder(["card"], buckets=100, characters=3)
    wanted = [1] + [2 + crc("c:" + gram) % 100 for gram in ("<ca", "car", "ard", "rd>")]
    assert grams.encode({"text": ["card"]})[0].tolist() == wanted


def test_a_sequence_is_the_words_in_order_up_to_the_limit() -> None:
    words = WordEncoder(["my", "card"], buckets=100)
    encoder = SequenceEncoder(words, limit=4)
    zebra = 4 + zlib.crc32(b"w:zebra") % 100
    features = encoder.encode({"text": ["My CARD zebra", "", "card my card my card my", " \n"]})
    assert [features[row].tolist() for row in range(4)] == [[2, 3, zebra], [1], [3, 2, 3, 2], [1]]
    assert encoder.lengths(features).tolist() == [3, 1, 4, 1]
    assert features.cut is not None
    assert features.cut.tolist() == [False, False, True, False]
    short = encoder.encode({"text": ["my card"]})
    assert short.cut is not None
    assert short.cut.tolist() == [False]
    inputs = encoder.collate(features, [1, 0])
    assert inputs["input_ids"].tolist() == [[1, 0, 0], [2, 3, zebra]]
    assert inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int64)}
    assert encoder.size == 2 + 2 + 100
    assert encoder.words == ("my", "card")


@given(st.lists(ANYTHING, min_size=1, max_size=4), st.integers(1, 9), st.booleans())
def test_a_sequence_is_what_a_bag_holds(texts: list[str], limit: int, buckets: bool) -> None:
    words = WordEncoder(WORDS, buckets=30 if buckets else 0)
    encoder = SequenceEncoder(words, limit=limit)
    got, bags = encoder.encode({"text": texts}), words.encode({"text": texts})
    for row in range(len(texts)):
        np.testing.assert_array_equal(got[row], bags[row][:limit] + 1)
    inputs = encoder.collate(got, range(len(texts)))
    assert inputs["input_ids"].shape == (len(texts), got.lengths.max())
    np.testing.assert_array_equal(inputs["attention_mask"], inputs["input_ids"] > 0)


def test_a_sequence_of_anything_is_an_answer() -> None:
    encoder = SequenceEncoder(WordEncoder(WORDS, buckets=30), limit=16)
    texts = ["card " * 200_000, "x" * 1_000_000, "\ud800", "\U0001f600\u200d\U0001f525", "\x00", "\u0301" * 999]
    features = encoder.encode({"text": texts})
    assert features.lengths.min() >= 1
    assert features.lengths.tolist()[:2] == [16, 16]
    assert features.values.max() < encoder.size


def test_ids_do_not_depend_on_the_process() -> None:
    program = (
        "from understudy.encoding import WordEncoder\n"
        "e = WordEncoder(['a'], buckets=99991, pairs=True, characters=3)\n"
        "print(e.encode({'text': ['a strange zebra ünïcode']}).values.tolist())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    assert len(runs.pop()) > 20


TRICKY = st.lists(
    st.sampled_from([*"aB_9 '’.,!\0\x1c\x1f\n\x85\u00a0\u2028ßİΣςé中😀\ud800ﬁ", "''", "x" * 64, "x" * 65, "y" * 200])
).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(TRICKY | ANYTHING, max_size=6), st.booleans())
def test_many_texts_are_split_like_one_by_one(texts: list[str], lowercase: bool) -> None:
    wanted = [word for text in texts for word in [*split(text, lowercase=lowercase), "''"]]
    got = split_all(texts, lowercase=lowercase)
    if any(uncut(word) for word in got):
        got = split_all(texts, lowercase=lowercase, careful=True)
    assert got == wanted
    assert not any(uncut(word) for word in wanted)


@pytest.mark.parametrize("name", [name for name, encoder in encoders().items() if encoder.kind == "words"])
def test_one_text_alone_has_the_same_ids(name: str) -> None:
    encoder = encoders()[name]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(TRICKY | ANYTHING, min_size=1, max_size=4))
    def same(texts: list[str]) -> None:
        rows = encoder.encode({"text": texts})
        for row, text in enumerate(texts):
            memo, numbers = encoder.speak(text)
            ids, ends, _ = memo.arrays()
            places = [number - memo.first for number in numbers]
            alone = [
                i for n, p in zip(numbers, places, strict=True) for i in (ids[ends[p] : ends[p + 1]] if p >= 0 else [n])
            ]
            assert (alone or [0]) == rows[row].tolist()

    same()


@settings(max_examples=20, deadline=None)
@given(st.lists(ANYTHING.filter(lambda word: "\n" not in word), unique=True, max_size=30))
def test_a_vocabulary_comes_back(words: list[str]) -> None:
    with TemporaryDirectory() as folder:
        for some in (words, sorted(words)):
            encoder = WordEncoder(some)
            assert load_encoder(folder, encoder.save(Path(folder))).words == tuple(some)  # type: ignore[union-attr]


def test_vocabularies_that_are_none(tmp_path: Path) -> None:
    entry = encoders()["words"].save(tmp_path)
    whole = (tmp_path / "words.z").read_bytes()
    for data in (
        b"",
        b"words",
        whole[:-4],
        zlib.compress(b"!ab\n(c"),
        zlib.compress(b"\x10ab"),
        zlib.compress(b"\xff"),
    ):
        (tmp_path / "words.z").write_bytes(data)
        with pytest.raises(StoreError, match=r"words\.z"):
            load_encoder(tmp_path, entry)
    (tmp_path / "words.txt").write_text("my\ncard")  # as artefacts were before
    assert load_encoder(tmp_path, {**entry, "file": "words.txt"}).words == ("my", "card")  # type: ignore[union-attr]


def test_several_threads_may_meet_new_words() -> None:
    encoder, texts = encoders()["everything"], [f"w{i} x{i % 7} card" for i in range(400)]
    wanted = encoders()["everything"].encode({"text": texts})
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: encoder.encode({"text": texts}), range(8)):
            np.testing.assert_array_equal(got.values, wanted.values)


def test_split_folds_what_looks_the_same() -> None:
    assert split("Don’t") == split("don't") == ["don't"]
    assert split("ﬁne") == ["fine"]
    assert split("cafe\u0301") == split("caf\u00e9") == ["café"]
    assert split("ABC", lowercase=False) == ["ABC"]
    assert max(map(len, split("x" * 100_000))) <= 81, "an endless word is cut"


def test_fit_keeps_the_most_frequent_words_in_one_order() -> None:
    texts = ["b b b a a c", "c a d"]
    assert WordEncoder.fit(texts, most=3).words == ("a", "b", "c")
    assert WordEncoder.fit(texts[::-1], most=3).words == ("a", "b", "c")
    assert WordEncoder.fit([], most=3).size == 1


def test_the_memory_of_words_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from understudy.encoding import words

    texts = [f"w{i} w{i * 7} card" for i in range(300)]
    wanted = encoders()["everything"].encode({"text": texts}).values
    monkeypatch.setattr(words, "_MEMO", 10)
    encoder = encoders()["everything"]
    np.testing.assert_array_equal(encoder.encode({"text": texts}).values, wanted)
    for text in texts:
        encoder.encode({"text": [text]})
    assert len(encoder._memo) <= 10 + 3


def test_chunks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    from understudy.encoding import words

    texts = ["my card", "", "where is my card", "x y z"] * 3
    wanted = WordEncoder(WORDS, buckets=9).encode({"text": texts})
    monkeypatch.setattr(words, "_CHUNK", 2)
    got = WordEncoder(WORDS, buckets=9).encode({"text": texts})
    np.testing.assert_array_equal(got.values, wanted.values)
    np.testing.assert_array_equal(got.offsets, wanted.offsets)


@pytest.mark.parametrize("value", [None, float("nan"), 7, ["text"], b"bytes"])
@pytest.mark.parametrize("name", ["words", "sequence", "subwords"])
def test_a_row_without_text_is_named(name: str, value: object) -> None:
    with pytest.raises(RowError, match='row 2, column "text"') as caught:
        encoders()[name].encode({"text": ["fine", value]})
    assert caught.value.row == 1
    assert isinstance(caught.value, DataError)
    with pytest.raises(DataError, match='no column "text"; there are: sentence'):
        encoders()[name].encode({"sentence": ["fine"]})


def test_two_columns() -> None:
    words = WordEncoder(WORDS, buckets=9, fields=("a", "b"))
    joined = WordEncoder(WORDS, buckets=9).encode({"text": ["my card"]})
    np.testing.assert_array_equal(words.encode({"a": ["my"], "b": ["card"]}).values, joined.values)
    with pytest.raises(RowError, match='row 1, column "b"'):
        words.encode({"a": ["my"], "b": [None]})
    with pytest.raises(DataError, match="different lengths"):
        words.encode({"a": ["my"], "b": []})
    pairs = SubwordEncoder(tokenizer(), limit=8, fields=("a", "b"))
    features = pairs.encode({"a": ["my", "where"], "b": ["card is", "?"]})
    got = pairs.collate(features, [1, 0])
    assert got["input_ids"].tolist() == [[2, 4, 3, 9, 3, 0, 0], [2, 6, 3, 7, 8, 5, 3]]
    assert got["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1]]


def test_subwords_are_those_of_transformers() -> None:
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]")
    texts = ["Where is my card?", "my", "", "中 is my my my my my my my my card"]
    wanted = fast(texts, truncation=True, max_length=8, padding=True, return_tensors="np")
    encoder = SubwordEncoder(tokenizer(), limit=8)
    for parallel in (False, True):
        got = encoder.collate(encoder.encode({"text": texts}, parallel=parallel), range(4))
        assert set(got) == {"input_ids", "attention_mask", "token_type_ids"}
        np.testing.assert_array_equal(got["input_ids"], wanted["input_ids"])
        np.testing.assert_array_equal(got["attention_mask"], wanted["attention_mask"])
        assert {array.dtype for array in got.values()} == {np.dtype(np.int64)}
    assert "token_type_ids" not in SubwordEncoder(tokenizer(), limit=8, token_types=False).collate(
        encoder.encode({"text": texts}), [0]
    )


def test_rows_beyond_the_limit_are_cut_and_marked() -> None:
    encoder = SubwordEncoder(tokenizer(), limit=5)
    features = encoder.encode({"text": ["my is where", "my is where ?", "", "my " * 1000]})
    assert features.cut is not None
    assert features.cut.tolist() == [False, True, False, True]
    assert features.lengths.tolist() == [5, 5, 2, 5]
    assert features.take([3, 0]).cut.tolist() == [True, False]  # type: ignore[union-attr]
    pairs = SubwordEncoder(tokenizer(), limit=7, fields=("a", "b"))
    assert pairs.encode({"a": ["my", "my is"], "b": ["is where ?", "is where ?"]}).cut.tolist() == [False, True]  # type: ignore[union-attr]


def test_the_callers_tokenizer_is_left_alone() -> None:
    mine = tokenizer()
    mine.enable_padding(pad_id=5)
    assert SubwordEncoder(mine, limit=4).padding_id == 5
    assert mine.truncation is None
    assert mine.padding is not None


def picture(mode: str = "RGB", size: tuple[int, int] = (6, 4), kind: str = "PNG") -> tuple[Image.Image, bytes]:
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return image, buffer.getvalue()


def test_every_form_of_an_image_gives_the_same_pixels(tmp_path: Path) -> None:
    image, data = picture()
    (tmp_path / "x.png").write_bytes(data)
    forms = [image, data, str(tmp_path / "x.png"), tmp_path / "x.png", np.asarray(image), {"bytes": data, "path": None}]
    pixels = PixelEncoder((4, 6), 3).encode({"image": forms})
    assert pixels.shape == (len(forms), 3, 4, 6)
    assert pixels.dtype == np.uint8
    for row in pixels:
        np.testing.assert_array_equal(row, np.asarray(image).transpose(2, 0, 1))
    np.testing.assert_array_equal(
        PixelEncoder((4, 6), 1).encode({"image": [data]})[0, 0], np.asarray(image.convert("L"))
    )
    small = PixelEncoder((2, 3), 3).encode({"image": [image]})
    np.testing.assert_array_equal(
        small[0].transpose(1, 2, 0), np.asarray(image.resize((3, 2), Image.Resampling.BILINEAR))
    )


def test_grey_arrays_and_odd_modes() -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    encoder = PixelEncoder((4, 6), 1)
    np.testing.assert_array_equal(
        encoder.encode({"image": [grey, grey[..., None], Image.fromarray(grey)]})[:, 0], [grey] * 3
    )
    deep = Image.fromarray((np.arange(24).reshape(4, 6) * 2570).astype(np.uint16))
    np.testing.assert_array_equal(encoder.encode({"image": [deep]})[0, 0], np.arange(24).reshape(4, 6) * 2570 // 256)
    for mode in ("P", "LA", "RGBA", "1", "CMYK"):
        image = picture(mode if mode != "CMYK" else "RGB")[0].convert(mode)
        assert PixelEncoder((4, 6), 3).encode({"image": [image]}).shape == (1, 3, 4, 6)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "nothing"),
        (float("nan"), "nothing"),
        (b"", "not an image"),
        (b"GIF89a", "not an image"),
        (picture()[1][:60], "cut short"),
        ("no/such.png", "No such file"),
        (np.zeros((4, 6), np.float32), "uint8"),
        (np.zeros((2, 4, 6, 3), np.uint8), r"\[H, W\]"),
        (7, "a int|an int"),
    ],
)
def test_an_unreadable_image_is_named(value: object, says: str) -> None:
    with pytest.raises(RowError, match=f'row 2, column "image".*({says})'):
        PixelEncoder((4, 6), 3).encode({"image": [picture()[0], value]})


def test_pixels_round_trip(tmp_path: Path) -> None:
    encoder = PixelEncoder((4, 6), 3, fields=("photo",))
    again = load_encoder(tmp_path, encoder.save(tmp_path))
    assert again.fingerprint == encoder.fingerprint
    pixels = again.encode({"photo": [picture()[1]] * 3})
    assert again.lengths(pixels).tolist() == [1, 1, 1]
    assert again.collate(pixels, np.array([2, 0]))["pixels"].shape == (2, 3, 4, 6)


@given(st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=6), st.data())
def test_take_is_indexing(rows: list[list[int]], data: st.DataObject) -> None:
    offsets = np.cumsum([0, *map(len, rows)])
    ragged = Ragged(np.array([value for row in rows for value in row], np.int32), offsets)
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    taken = ragged.take(indices)
    assert [taken[i].tolist() for i in range(len(taken))] == [rows[i] for i in indices]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: WordEncoder(["a"], pairs=True),
        lambda: WordEncoder(["a"], characters=3),
        lambda: WordEncoder(["a", "a"]),
        lambda: WordEncoder(["a\nb"]),
        lambda: WordEncoder(["a"], buckets=-1),
        lambda: SequenceEncoder(WordEncoder(["a"]), limit=0),
        lambda: SequenceEncoder(WordEncoder(["a"], buckets=5, pairs=True), limit=9),
        lambda: SequenceEncoder(WordEncoder(["a"], buckets=5, characters=3), limit=9),
        lambda: SubwordEncoder(tokenizer(), limit=2),
        lambda: SubwordEncoder(tokenizer(), limit=9, fields=("a", "b", "c")),
        lambda: PixelEncoder((8, 8), 2),
        lambda: PixelEncoder((0, 8), 1),
        lambda: PixelEncoder((8, 8), 1, fields=("a", "b")),
    ],
)
def test_settings_that_cannot_be(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_entries_that_cannot_be_loaded(tmp_path: Path) -> None:
    entry = encoders()["words"].save(tmp_path)
    with pytest.raises(ArtefactError, match='did you mean "words"'):
        load_encoder(tmp_path, {**entry, "kind": "word"})
    with pytest.raises(ArtefactError, match="buckets"):
        load_encoder(tmp_path, {key: value for key, value in entry.items() if key != "buckets"})
    with pytest.raises(ArtefactError, match=r"the sequence encoder .* has no 'limit'"):
        load_encoder(tmp_path, {**entry, "kind": "sequence"})
    (tmp_path / "words.z").unlink()
    with pytest.raises(StoreError, match=r"words\.z"):
        load_encoder(tmp_path, entry)
    entry = encoders()["subwords"].save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(StoreError, match=r"tokenizer\.json"):
        load_encoder(tmp_path, entry)


def test_encoding_imports_nothing_heavy() -> None:
    program = (
        "import sys, understudy.encoding as e\n"
        "e.WordEncoder(['a'], buckets=5).encode({'text': ['a b']})\n"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'PIL', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
    assert set(encoding.__all__) <= set(dir(encoding))
