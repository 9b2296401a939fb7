"""Commands: wiring and words only. One file a command; `app` gathers them and turns errors into text."""
