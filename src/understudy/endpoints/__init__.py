"""OpenAI-compatible endpoints: asked within limits, and each answer kept. The SDK is loaded when one is opened."""

from understudy.endpoints.asked import Answer, Failure, Job, Limits, Sampling, job
from understudy.endpoints.budget import Budget
from understudy.endpoints.cache import Cache

__all__ = ["Answer", "Budget", "Cache", "Failure", "Job", "Limits", "Sampling", "job"]
