"""The report: a folder of measurements as one page, as Markdown and as JSON. Pure: files come in as data."""
