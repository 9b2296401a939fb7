"""The size table: lines of each room, and the files and functions that have grown tall.

Run by `make check`. A file over `MAX_FILE_LINES` or a function over `MAX_FUNCTION_LINES` fails it:
split the idea, not the file.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
ROOT = Path(__file__).resolve().parent.parent
TREES = ("src/freehold", "benchmarks", "starter", "tools")


def functions(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """(name, first line, lines) of every function in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def main() -> int:
    rooms: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    tall: list[str] = []
    for path in sorted(p for tree in TREES for p in (ROOT / tree).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        name = path.relative_to(ROOT)
        room = rooms["/".join(name.parts[:-1])]
        room[0] += 1
        room[1] += lines
        if lines > MAX_FILE_LINES:
            tall.append(f"{name}: {lines} lines, over {MAX_FILE_LINES}")
        for function, line, length in functions(ast.parse(text)):
            if length > MAX_FUNCTION_LINES:
                tall.append(f"{name}:{line} {function}: {length} lines, over {MAX_FUNCTION_LINES}")
    print(f"{'room':<32}{'files':>6}{'lines':>8}")
    for name_, (files, lines) in rooms.items():
        print(f"{name_:<32}{files:>6}{lines:>8}")
    print(f"{'all':<32}{sum(r[0] for r in rooms.values()):>6}{sum(r[1] for r in rooms.values()):>8}")
    for line_ in tall:
        print("too tall:", line_, file=sys.stderr)
    return 1 if tall else 0


if __name__ == "__main__":
    sys.exit(main())
