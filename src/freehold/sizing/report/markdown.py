"""A document as Markdown: the same words and figures, for a pull request or a terminal."""

from __future__ import annotations

from freehold.sizing.figure import shown
from freehold.sizing.report.document import Document
from freehold.sizing.report.sections import Section, Table, same_source


def markdown(document: Document, made: str) -> str:
    parts = [f"# {document.title}", f"**{document.verdict}**"]
    for section in document.sections:
        parts += _section(section)
    if document.missing:
        parts += ["## Not in this folder", "\n".join(f"- `{one}`" for one in document.missing)]
    return "\n\n".join([*parts, made]) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {section.title}"]
    parts += section.text
    if section.points:
        parts.append("\n".join(f"- {text}" for text in section.points))
    if section.figures:
        shared = same_source(section.figures)
        rows = tuple(
            (one.name, shown(one), one.basis, "" if one.source == shared else one.source) for one in section.figures
        )
        if shared:
            parts.append(f"Where nothing else is said, figures come from: `{shared}`.")
        parts.append(_table(Table(head=("figure", "value", "tag", "how"), rows=rows)))
    if section.table and section.table.rows:
        parts.append(_table(section.table))
    return parts


def _table(table: Table) -> str:
    lines = [_row(table.head), "|---" * len(table.head) + "|", *(_row(row) for row in table.rows)]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
