"""Tool calls: what may be called (`plan`), and how a model's text becomes calls (`split`, `forced`). Pure."""
