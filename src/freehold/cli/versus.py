"""stub"""


def versus() -> None: ...
