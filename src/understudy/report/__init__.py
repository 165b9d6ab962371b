"""run.json and evidence.json, as a page, a card, a comparison and a few lines for the terminal.

Everything here is a function of two plain dictionaries: no model, no file and no clock is looked at, so that a report
can be drawn again anywhere, years later, from the two JSON files alone.
"""

from understudy.report.across import compare, other_rows
from understudy.report.page import html
from understudy.report.plain import summary
from understudy.report.readme import card

__all__ = ["card", "compare", "html", "other_rows", "summary"]
