"""Formats of traces, one file each: `read` gives rows in any order, or says what a file lacks."""
