"""Understudy distils a large model into a small one and proves what was kept."""

__version__ = "0.1.0"
