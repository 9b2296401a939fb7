"""A document as one HTML page: everything inside it, nothing from outside, readable without a script and on paper."""

from __future__ import annotations

import html
from importlib import resources

from freehold.sizing.figure import Figure, shown
from freehold.sizing.report import plot
from freehold.sizing.report.document import Document
from freehold.sizing.report.plot import Plot
from freehold.sizing.report.sections import Section, Table, same_source

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(document: Document, made: str, extra: str = "") -> str:
    """`made` says when and by which version; `extra` is a command line, if one made it."""
    css, js = (_part(name) for name in ("page.css", "page.js"))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(document.title)}</title><style>{css}</style></head><body>",
        f"<header><p>{_text(document.title)}</p><h1>{_code(document.verdict)}</h1></header><main>",
        *(_section(section, number) for number, section in enumerate(document.sections)),
        _missing(document),
        f"</main><footer><p>{_text(made)}</p>" + (f"<p><code>{_text(extra)}</code></p>" if extra else ""),
        "<p><b>measured</b>: by the command named; <b>derived</b>: computed from other figures as named; ",
        f"<b>assumed</b>: nobody measured it here.</p></footer><script>{js}</script></body></html>\n",
    ]
    return "".join(parts)


def _part(name: str) -> str:
    return (resources.files("freehold") / "sizing" / "report" / name).read_text(encoding="utf-8")


def _section(section: Section, number: int) -> str:
    name = f"s{number}"
    parts = [f'<section aria-labelledby="{name}"><h2 id="{name}">{_text(section.title)}</h2>']
    parts += [f"<p>{_code(text)}</p>" for text in section.text]
    if section.points:
        parts.append(f"<ul>{''.join(f'<li>{_code(text)}</li>' for text in section.points)}</ul>")
    if section.plot:
        parts.append(_plot(section.plot, f"p{number}"))
    if section.figures:
        parts.append(_figures(section.figures, section.title))
    if section.table and section.plot:
        parts.append(
            f"<details><summary>The numbers of the plot</summary>{_table(section.table, section.title)}</details>"
        )
    elif section.table:
        parts.append(_table(section.table, section.title))
    return "".join([*parts, "</section>"])


def _plot(drawn: Plot, name: str) -> str:
    legend = [f'<li><i class="key c{one.colour}"></i>{_text(one.name)}</li>' for one in drawn.series]
    legend += [f'<li><i class="key band c{band.colour}"></i>{_text(band.name)}</li>' for band in drawn.bands]
    legend += [f'<li><i class="key rule {rule.axis}"></i>{_text(rule.name)}</li>' for rule in drawn.rules]
    return f'<figure>{plot.svg(drawn, name)}<ul class="legend">{"".join(legend)}</ul><output hidden></output></figure>'


def _figures(figures: tuple[Figure, ...], title: str) -> str:
    shared = same_source(figures)
    said = (
        f'<p class="how">Where nothing else is said, figures come from: <code>{_text(shared)}</code></p>'
        if shared
        else ""
    )
    rows = [
        f'<tr role="row"><th scope="row" role="rowheader">{_text(one.name)}</th>'
        f'<td role="cell">{_text(shown(one))}</td><td role="cell"><span class="tag {one.basis}">{one.basis}</span></td>'
        f'<td role="cell" class="source">{"" if one.source == shared else _code(one.source)}</td></tr>'
        for one in figures
    ]
    columns = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in ("figure", "value", "tag", "how"))
    inner = (
        f'<thead role="rowgroup"><tr role="row">{columns}</tr></thead><tbody role="rowgroup">{"".join(rows)}</tbody>'
    )
    return _scrolled(inner, f"{title}: figures", ' class="figures" role="table"') + said


def _table(table: Table, title: str) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{_code(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return _scrolled(f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>", f"{title}: table")


def _scrolled(inner: str, label: str, attributes: str = "") -> str:
    """Wide tables scroll by themselves, by keyboard too; roles stay where a phone's style turns rows into blocks."""
    table = f"<table{attributes}>{inner}</table>"
    return f'<div class="scroll" role="region" aria-label="{_text(label)}" tabindex="0">{table}</div>'


def _missing(document: Document) -> str:
    if not document.missing:
        return ""
    items = "".join(f"<li><code>{_text(one)}</code></li>" for one in document.missing)
    return f'<section aria-labelledby="missing"><h2 id="missing">Not in this folder</h2><ul>{items}</ul></section>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _code(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = html.escape(text, quote=True).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 and i < len(parts) - 1 else part for i, part in enumerate(parts))
