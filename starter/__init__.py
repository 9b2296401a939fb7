"""Training of the starter: the small model that Freehold ships so that everything can be tried at once.

Not part of the installed package. Run from the repository root: `python -m starter.train`.
"""
