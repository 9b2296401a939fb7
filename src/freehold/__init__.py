"""Freehold: own your LLM inference. Serve an open model, measure it honestly, know what it costs."""

__version__ = "0.1.0"
