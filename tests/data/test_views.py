"""Views: the same (seed, epoch, key) gives the same pixels, in any batch, in any order, in any process."""

from __future__ import annotations

import numpy as np

from understudy.data.views import shift


def images(rows: int = 6) -> tuple[np.ndarray, list[str]]:
    return np.random.default_rng(0).integers(0, 256, (rows, 1, 5, 7), np.uint8), [f"key-{i}" for i in range(rows)]


def test_a_view_replays() -> None:
    pixels, keys = images()
    view = shift(pixels, keys, most=2, seed=1, epoch=3)
    assert view.shape == pixels.shape
    assert view.dtype == np.uint8
    order = [4, 0, 5]
    again = shift(pixels[order], [keys[i] for i in order], most=2, seed=1, epoch=3)
    assert np.array_equal(view[order], again)
    assert not np.array_equal(view, shift(pixels, keys, most=2, seed=1, epoch=4))
    assert not np.array_equal(view, shift(pixels, keys, most=2, seed=2, epoch=3))
    assert not np.array_equal(view, shift(pixels, [f"other-{key}" for key in keys], most=2, seed=1, epoch=3))


def test_a_golden_view() -> None:
    """Another process, another platform: the move is a function of a hash, not of a generator's state."""
    pixel = np.zeros((1, 1, 5, 5), np.uint8)
    pixel[0, 0, 2, 2] = 255
    places = []
    for epoch in range(4):
        view = shift(pixel, ["a"], most=1, seed=0, epoch=epoch)
        places.append(tuple(int(i) for i in np.argwhere(view[0, 0])[0]))
    assert places == [(3, 1), (1, 1), (1, 3), (1, 3)]


def test_images_move_by_at_most_so_much_and_keep_their_edge() -> None:
    pixels, _ = images(1)
    pixels = np.repeat(pixels, 400, axis=0)
    views = shift(pixels, [str(i) for i in range(400)], most=1, seed=0, epoch=0)
    padded = np.pad(pixels[0, 0], 1, mode="edge")
    allowed = {padded[top : top + 5, left : left + 7].tobytes() for top in range(3) for left in range(3)}
    assert {view[0].tobytes() for view in views} == allowed  # all nine, and nothing else
    assert np.array_equal(shift(pixels, [""] * 400, most=0, seed=0, epoch=0), pixels)
