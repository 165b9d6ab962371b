"""The handwritten digits that ship with scikit-learn: real data without a download."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from understudy.data.examples import Examples, Splits
from understudy.data.split import leak_notes, stratified
from understudy.extras import require


def digits() -> Splits:
    """1,797 digits of 43 people, 8 x 8 grey pixels as PNG bytes, split 60/20/20 in every class (seed 0).

    Pixel values 0..16 become 0..255. Label names are "0" to "9".
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, the test part.

    >>> len(digits().train), len(digits().validation), len(digits().test)
    (1078, 360, 359)
    """
    loaded = require("sklearn.datasets", package="scikit-learn", why="the bundled handwritten digits").load_digits()
    labels = np.asarray(loaded.target, np.int64)
    pixels = np.round(np.asarray(loaded.images) * (255 / 16)).astype(np.uint8)
    every = Examples.of({"image": [_png(image) for image in pixels]}, labels)
    train, validation, test = (every.take(rows) for rows in stratified(labels, (0.6, 0.2, 0.2), seed=0))
    splits = Splits(train, validation, test, None, tuple("0123456789"))
    notes = ("scikit-learn's handwritten digits, split 60/20/20 in every class (seed 0)", *leak_notes(splits))
    return Splits(train, validation, test, None, splits.label_names, notes)


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()
