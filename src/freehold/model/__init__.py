"""Models as files: where they come from, what is in them, how they become a GGUF. No inference here."""
