"""Statistics that more than one room needs. Pure and small; each formula names its source."""

from __future__ import annotations
