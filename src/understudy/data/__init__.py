"""Reading and splitting data, content keys, and more rows out of rows."""

from understudy.data.augmentation import Views, augment
from understudy.data.bundled import digits
from understudy.data.examples import Examples, Splits, content_key
from understudy.data.read import load
from understudy.data.split import leaks
from understudy.data.text_views import nearest_words

__all__ = ["Examples", "Splits", "Views", "augment", "content_key", "digits", "leaks", "load", "nearest_words"]
