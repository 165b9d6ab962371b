from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from understudy import students
from understudy.errors import LabelError, TeacherError
from understudy.students import Cnn, Mlp, Normalised, Static
from understudy.teachers import Live, Loaded, open_teacher, save_teacher, score_rows
from understudy.teachers.vision import preprocessing

SETTINGS = {
    "do_resize": True, "size": {"height": 16, "width": 16}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4],
    "image_processor_type": "ViTImageProcessor",
}  # fmt: skip
LABELS = ("cat", "dog", "owl")


def _png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    draw = np.random.default_rng(0)
    return [_png(draw.integers(0, 256, (20, 12, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a tiny real ViT with changed preprocessing settings."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16,
            patch_size=8, id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)},
            initializer_range=0.5,
        )
    )  # fmt: skip

    def build(**changes: object) -> Path:
        folder = tmp_path_factory.mktemp("vit")
        model.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps({**SETTINGS, **changes}))
        return folder

    return build


def _open(folder: Path, labels: tuple[str, ...] = LABELS, head: str = "keep") -> Loaded:
    return open_teacher(folder, task="image-classification", label_names=labels, head=head)


def test_scores_are_those_of_the_librarys_own_preprocessing(vit: Callable[..., Path], images: list[bytes]) -> None:
    """PIL's bilinear resize, rescale, normalise, by hand as its slow image processor does them."""
    loaded = _open(vit())
    pixels = []
    for image in images:
        resized = Image.open(io.BytesIO(image)).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
        values = np.asarray(resized, np.float64) / 255
        values = (values - SETTINGS["image_mean"]) / SETTINGS["image_std"]
        pixels.append(values.transpose(2, 0, 1))
    assert isinstance(loaded.model, Normalised)
    with torch.no_grad():
        wanted = loaded.model.model(pixel_values=torch.tensor(np.stack(pixels), dtype=torch.float32)).logits.numpy()
    found = score_rows(loaded.model, loaded.encoder, {"image": images})
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(found - found[0]).max() > 0.05  # the images matter
    assert not loaded.model.training
    assert "ViTForImageClassification" in loaded.description


def test_labels_are_aligned(vit: Callable[..., Path]) -> None:
    folder = vit()
    assert _open(folder, ("owl", "cat", "dog")).label_order == (2, 0, 1)
    with pytest.raises(LabelError):
        _open(folder, ("owl", "cat"))
    fresh = _open(folder, ("owl", "cat"), head="auto")
    assert fresh.fresh_head
    assert score_rows(fresh.model, fresh.encoder, {"image": [_png(np.zeros((4, 4), np.uint8))]}).shape == (1, 2)


def test_what_the_preprocessing_cannot_keep_is_said(vit: Callable[..., Path]) -> None:
    loaded = _open(vit(resample=3, do_center_crop=True, size={"shortest_edge": 20}, crop_size=16))
    assert loaded.encoder.size == (16, 16)  # type: ignore[attr-defined]
    assert any("crop" in note for note in loaded.notes)
    assert any("filter 3" in note for note in loaded.notes)


def test_other_rescale_factors_give_the_same_numbers() -> None:
    """(x f - mean) / std, at f = 1/127.5 and mean 1 (as some models have it), is x / 127.5 - 1."""
    _, mean, std, _ = preprocessing(
        {"size": 4, "rescale_factor": 1 / 127.5, "image_mean": [1.0], "image_std": [1.0]}, channels=1, where=Path("p")
    )
    x = np.array([0.0, 51.0, 255.0])
    np.testing.assert_allclose((x / 255 - mean[0]) / std[0], x / 127.5 - 1)
    _, mean, std, _ = preprocessing({"size": 4, "do_normalize": False}, channels=3, where=Path("p"))
    assert (mean, std) == ((0.0,) * 3, (1.0,) * 3)
    _, mean, std, _ = preprocessing(
        {"size": 4, "do_rescale": False, "do_normalize": False}, channels=1, where=Path("p")
    )
    np.testing.assert_allclose((x / 255 - mean[0]) / std[0], x)


@pytest.mark.parametrize(
    "changes",
    [{"size": None}, {"size": "big"}, {"size": {"longest_edge": 3}}, {"image_mean": [0.5]}, {"image_std": [0, 1, 1]}],
)
def test_preprocessing_that_is_not_understood_is_refused(vit: Callable[..., Path], changes: dict[str, object]) -> None:
    with pytest.raises(TeacherError, match=r"preprocessor_config\.json"):
        _open(vit(**changes))


def test_no_preprocessing_no_teacher(vit: Callable[..., Path]) -> None:
    folder = vit()
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(TeacherError, match=r"no readable preprocessor_config\.json"):
        _open(folder)


def test_loading_never_imports_torchvision(vit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it fails now, installed or not
    assert not _open(vit()).fresh_head


def test_families_and_wrapped_models_open_again_with_their_labels(
    vit: Callable[..., Path], images: list[bytes], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    models = {
        "cnn": Cnn((20, 12), 3, 3, width=4),
        "mlp": Mlp((20, 12), 3, 3, width=8),
        "wrapped": _open(vit()).model,
    }
    for name, model in models.items():
        save_teacher(model, tmp_path / name, label_names=LABELS)
        loaded = _open(tmp_path / name, ("owl", "dog", "cat"))
        assert loaded.label_order == (2, 1, 0)
        assert not loaded.fresh_head
        wanted = score_rows(model, loaded.encoder, {"image": images})
        found = score_rows(loaded.model, loaded.encoder, {"image": images}, order=loaded.label_order)
        np.testing.assert_allclose(found[:, ::-1], wanted, atol=1e-5)
        assert "module:scale" not in Live(loaded.model).provides
        Live(loaded.model).bind({"logits", "module:scale"})
    assert len({_open(tmp_path / name).fingerprint for name in models}) == 3


def test_a_family_without_label_names_counts_by_position(tmp_path: Path) -> None:
    students.save(Mlp((4, 4), 1, 3, width=4), tmp_path / "mlp")
    assert "by position" in _open(tmp_path / "mlp").notes[0]
    with pytest.raises(LabelError, match="3 nameless columns and the data 2"):
        _open(tmp_path / "mlp", ("a", "b"))


def test_a_text_student_is_no_image_teacher(tmp_path: Path) -> None:
    students.save(Static(20, 8, 3), tmp_path / "static")
    with pytest.raises(TeacherError, match="does not take images"):
        _open(tmp_path / "static")


def test_a_family_with_a_corrupt_file_is_refused(tmp_path: Path) -> None:
    students.save(Mlp((4, 4), 1, 3, width=4), tmp_path / "mlp")
    file = tmp_path / "mlp" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(TeacherError, match=r"model\.safetensors"):
        _open(tmp_path / "mlp")
