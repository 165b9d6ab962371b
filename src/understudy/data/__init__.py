"""Reading and splitting data, and content keys."""

from understudy.data.bundled import digits
from understudy.data.examples import Examples, Splits, content_key
from understudy.data.read import load
from understudy.data.split import leaks

__all__ = ["Examples", "Splits", "content_key", "digits", "leaks", "load"]
