"""A report as one HTML file that needs no network: style, scripts, data and charts are in it.

Whatever comes out of results is escaped here and nowhere else: as text of HTML by `html.escape`, as JSON in a script
element with every '<' written as an escape. A content security policy lets only the page's own scripts run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.report import charts, vega
from sim.report.charts import Chart
from sim.report.sections import Cell, Fold, Group, Section, Table, Words, charts_of

if TYPE_CHECKING:
    from sim.report.whole import Report

_TALL = 20  # rows, of a table that scrolls by itself
_DIGITS = 6  # of numbers in charts; CSV of `--figures` has all


def page(report: Report, version: str) -> str:
    """The whole file. Raises InputError where the library that draws its charts is not installed."""
    scripts = [_library(), _asset("page.js")]
    drawn = {chart.name: _embedded(chart) for chart in charts_of(report.sections)}
    return _PAGE.format(
        policy=_policy(scripts),
        title=_escaped(report.title),
        subtitle=_escaped(report.subtitle),
        style=_asset("page.css"),
        contents="".join(f'<li><a href="#{one.name}">{_escaped(one.title)}</a></li>' for one in report.sections),
        main="".join(_section(one) for one in report.sections),
        version=_escaped(version),
        data=_json(drawn),
        library=scripts[0],
        script=scripts[1],
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} - memhier report</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header>
<div><p class="kicker">memhier report</p>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p></div>
<button type="button" id="theme" aria-pressed="false">Dark</button>
</header>
<div class="columns">
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main id="main" tabindex="-1">
<noscript><p class="note">Charts are drawn by a script in this file, which this browser does not run.</p></noscript>
{main}</main>
</div>
<footer><p>Made by memhier {version}. Charts: drag to move, Ctrl and the wheel to zoom, double-click for the whole; the
menu at their corner saves them as PNG or SVG.</p></footer>
<script type="application/json" id="charts">{data}</script>
<script type="module">{library}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    try:
        import vl_convert
    except ImportError as error:
        raise InputError("vl-convert-python, which has the charts of a report, is not installed", **_HOW) from error
    return vl_convert.javascript_bundle().replace("</script", "<\\/script").replace("<!--", "<\\!--")


_HOW = {"expected": "pip install 'memhier[report]'"}


def _asset(name: str) -> str:
    return (resources.files("sim.report") / name).read_text(encoding="utf-8")


def _policy(scripts: list[str]) -> str:
    """Only these scripts, by their digests; no network. Charts set styles and save themselves by way of data."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _escaped(text: object) -> str:
    return html.escape(str(text), quote=True)


def _json(content: Any) -> str:
    """JSON that can stand in a script element, whatever its strings are."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})


# --- charts ----------------------------------------------------------------------------------------------------------


def _embedded(chart: Chart) -> dict[str, Any]:
    """Columns of the data, and a specification for each of the small multiples with which rows are its own."""
    columns = [_column(name, values) for name, values in chart.data.items()]
    if chart.panels is None:
        return {"columns": columns, "panels": [{"spec": vega.specification(chart), "rows": None}]}
    of = np.asarray(chart.data[chart.panels]).astype(str)
    panels = [
        {"spec": vega.specification(one), "rows": np.flatnonzero(of == name).tolist()}
        for one, name in zip(chart.one_each(), chart.names(chart.panels), strict=True)
    ]
    return {"columns": columns, "panels": panels}


def _column(name: str, values: Any) -> dict[str, Any]:
    """Numbers, or names as places in a list of them."""
    plain = charts.plain(values, _DIGITS)
    if any(isinstance(value, str) for value in plain):
        names = {text: at for at, text in enumerate(dict.fromkeys(map(str, plain)))}
        return {"name": name, "names": list(names), "codes": [names[str(value)] for value in plain]}
    return {"name": name, "values": plain}


def _chart(chart: Chart) -> str:
    name = _escaped(chart.name)
    several = chart.panels is not None
    panels = "".join(
        _panel(name, title, nth) for nth, title in enumerate(chart.names(chart.panels) if several else [""])
    )
    notes = "".join(f'<p class="note">{_escaped(note)}</p>' for note in chart.notes)
    return (
        f'<figure id="figure-{name}" class="{"wide" if several else ""}" role="figure" aria-labelledby="title-{name}" '
        f'aria-describedby="summary-{name}">'
        f'<figcaption><span class="title" id="title-{name}">{_escaped(chart.title)}</span> '
        f'<span class="summary" id="summary-{name}">{_escaped(chart.summary)}</span></figcaption>'
        f'<div class="panels">{panels}</div>{notes}'
        f'<details class="data" data-table="{name}"><summary>Data of this figure</summary>'
        f'<p><button type="button" data-csv="{name}">Save as CSV</button></p>'
        f'<div class="scroll" role="region" aria-label="Data: {_escaped(chart.title)}" tabindex="0"></div></details>'
        f"</figure>"
    )


def _panel(name: str, title: str, nth: int) -> str:
    heading = f'<p class="panel-title">{_escaped(title)}</p>' if title else ""
    return f'<div class="panel">{heading}<div class="chart" data-chart="{name}" data-panel="{nth}"></div></div>'


# --- the rest --------------------------------------------------------------------------------------------------------


def _section(section: Section) -> str:
    parts = _parts(section.parts)
    return (
        f'<section id="{section.name}" aria-labelledby="heading-{section.name}">'
        f'<h2 id="heading-{section.name}">{_escaped(section.title)}</h2>{parts}</section>\n'
    )


def _parts(parts: tuple[Any, ...]) -> str:
    """Parts one after the other; charts that follow each other stand side by side where there is room."""
    made, row = [], []
    for part in (*parts, None):
        if isinstance(part, Chart):
            row.append(_chart(part))
            continue
        if row:
            made.append(f'<div class="figures">{"".join(row)}</div>')
            row = []
        if part is not None:
            made.append(_PARTS[type(part)](part))
    return "".join(made)


def _words(words: Words) -> str:
    style = ' class="verdict"' if words.strong else ""
    return "".join(f"<p{style}>{_escaped(line)}</p>" for line in words.lines)


def _fold(fold: Fold) -> str:
    text = f'<pre tabindex="0">{_escaped(fold.text)}</pre>'
    return f"<details><summary>{_escaped(fold.title)}</summary>{text}</details>"


def _group(group: Group) -> str:
    return f"<h3>{_escaped(group.title)}</h3>{_parts(group.parts)}"


def _table(table: Table) -> str:
    sortable = table.sortable and len(table.rows) > 1
    heads = "".join(_head(title, sortable, nth) for nth, title in enumerate(table.columns))
    rows = "".join(f"<tr>{''.join(_cell(cell, nth) for nth, cell in enumerate(row))}</tr>" for row in table.rows)
    notes = "".join(f'<p class="note">{_escaped(note)}</p>' for note in table.notes)
    return (
        f'<div class="scroll{" tall" if len(table.rows) > _TALL else ""}" role="region" '
        f'aria-label="{_escaped(table.caption)}" tabindex="0">'
        f"<table{' class=facts' if table.facts else ''}><caption>{_escaped(table.caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{notes}"
    )


def _head(title: str, sortable: bool, nth: int) -> str:
    inner = f'<button type="button" data-sort="{nth}">{_escaped(title)}</button>' if sortable else _escaped(title)
    return f'<th scope="col"{" aria-sort=none" if sortable else ""}>{inner}</th>'


def _cell(cell: Cell, nth: int) -> str:
    number = isinstance(cell.value, int | float) and not isinstance(cell.value, bool)
    value = f' data-value="{cell.value!r}"' if number and math.isfinite(cell.value) else ""
    names = " ".join(name for name, is_so in (("number", number), ("best", cell.best)) if is_so)
    style = f' class="{names}"' if names else ""
    text = f"{_escaped(cell.text)}{' *' if cell.best else ''}"
    return f'<th scope="row"{style}>{text}</th>' if nth == 0 else f"<td{style}{value}>{text}</td>"


_PARTS = {Words: _words, Fold: _fold, Group: _group, Table: _table}
