"""Engines: one protocol (`base`), one file an engine. Only this package imports inference libraries."""
