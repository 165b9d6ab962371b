"""Text from a generative teacher: prompts in; completions, what filters took, and a data card out.

Light to import: the SDK, torch and ``datasets`` are loaded by what needs them.
"""

from understudy.endpoints.asked import Limits, Sampling
from understudy.generation.filters import Rules
from understudy.generation.prompting import Prompting
from understudy.generation.work import generate

__all__ = ["Limits", "Prompting", "Rules", "Sampling", "generate"]
