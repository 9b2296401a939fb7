"""One progress bar on the last line of a terminal, whatever runs above it.

Only one line, also where several workers load: log lines of other processes appear above a bar of one line without
tearing it. A bar of bytes where the total is known; a moving one with the time it took so far where it isn't.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.cli.output import gib

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Bar:
    """Shows what the first of the processes does that has something to do; the others are counted."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._doing: dict[str, tuple[str, int, int]] = {}
        self._shown = ""

    def show(self, process: str, doing: str, done: int = 0, total: int = 0) -> None:
        """`process` does this now, and is so far; an empty text: it is done with it."""
        if doing:
            self._doing[process] = (doing, done, total)
        else:
            self._doing.pop(process, None)
        self._draw()

    def stop(self) -> None:
        """Remove the bar. The next `show` draws another."""
        self._doing.clear()
        self._draw()

    def _draw(self) -> None:
        if not self._doing:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None
            return
        # one with a total tells more than one that only waits for it
        text, done, total = next((each for each in self._doing.values() if each[2]), next(iter(self._doing.values())))
        others = len(self._doing) - 1
        described = text + (f" (and {others} more)" if others else "")
        figures = f"{gib(done)} of {gib(total)}" if total else ""
        fresh = self._progress is None
        progress = self._progress = self._progress or self._made()
        task = progress.tasks[0]
        changed = text != self._shown
        if changed:
            self._shown = text
            progress.reset(task.id, start=True)
        progress.update(task.id, description=described, completed=done, total=total or None, figures=figures)
        if fresh:
            progress.start()
        elif changed:
            progress.refresh()

    def _made(self) -> Progress:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._shown = ""
        progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        progress.add_task("", total=None, figures="")
        return progress
