"""Engines: one protocol (`base`), one room an engine. Only this package imports inference libraries."""
