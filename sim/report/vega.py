"""Charts as Vega-Lite specifications, without their data, colours and fonts, which the page adds.

A specification refers to the chart's n-th column as `c<n>`, so that no name out of results is ever part of an
expression. It draws by scalable vectors, is as wide as its place, shows the values under the pointer, and lets axes of
numbers be moved and zoomed.
"""

from __future__ import annotations

import json
from typing import Any

from sim.report import charts
from sim.report.charts import Axis, Chart

_HEIGHT = 260
_BAR_STEP, _BAR_STEP_OF_FEW = 15, 26  # pixels a bar, of groups of several and of single ones
_LABEL_PIXELS = 220  # of a name beside a point; the whole of a longer one is in the tooltip
_DASHES = [[1, 0], [6, 3], [8, 3, 2, 3], [2, 2], [10, 3], [5, 2, 1, 2, 1, 2]]  # one fewer than colours: 42 looks
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
_FEW_POINTS = 40  # of a curve, each of which gets a mark that is seen
_ROOM_ABOVE = 1.04  # the most of an axis that begins where it is told to
_OVERLAP = 1.03  # of cells, between which the ground would shine through
_NEUTRAL = "currentColor"
_SCALES = {  # what one of each unit is, largest first
    charts.TIME: ((1e9, " s"), (1e6, " ms"), (1e3, " us"), (1.0, " ns")),
    charts.BYTES: ((2.0**40, " TiB"), (2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B")),
    charts.BANDWIDTH: ((1e12, " TB/s"), (1e9, " GB/s"), (1e6, " MB/s"), (1e3, " KB/s"), (1.0, " B/s")),
}


def specification(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification of a chart without small multiples; its data is called 'rows'."""
    return {
        "description": f"{chart.title}. {chart.summary}",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": _height(chart),
        "data": {"name": "rows"},
        "transform": _transforms(chart),
        "layer": _LAYERS[chart.mark](chart),
    }


def field(chart: Chart, column: str) -> str:
    """What the column is called in a row."""
    return f"c{list(chart.data).index(column)}"


def _height(chart: Chart) -> int:
    if chart.y.kind != charts.NAMES:
        return _HEIGHT
    bars = len(chart.names(chart.y.column))
    groups = 1 if chart.series is None or chart.mark == charts.STACKED_BARS else len(chart.names(chart.series))
    return max(2, bars) * (_BAR_STEP_OF_FEW if groups == 1 else _BAR_STEP * groups)


def _transforms(chart: Chart) -> list[dict[str, Any]]:
    """x and y in the units of their axes, and a text for every column in a tooltip."""
    made = []
    for axis, name in ((chart.x, "x"), (chart.y, "y")):
        if axis.kind != charts.NAMES:
            made.append(_in_unit(chart, axis, axis.column, name))
    if chart.low is not None:
        valued = charts.valued_axis(chart)
        made += [_in_unit(chart, valued, chart.low, "low"), _in_unit(chart, valued, chart.high, "high")]
    if chart.mark == charts.HEAT:
        steps = ((chart.x, "x", chart.x_step), (chart.y, "y", chart.y_step))
        for axis, name, step in steps:
            scale, _ = charts.unit_of(chart, axis)
            made.append({"calculate": f"datum.{name} + {_OVERLAP * step / scale!r}", "as": f"{name}2"})
    for axis in chart.axes:
        if axis.kind != charts.NAMES:
            at = field(chart, axis.column)
            made.append({"calculate": _told(f"datum.{at}", axis), "as": f"{at}_text"})
    if chart.series is not None:
        made.append({"calculate": f"datum.{field(chart, chart.series)}_nth", "as": "nth"})
    return made


def _in_unit(chart: Chart, axis: Axis, column: str, name: str) -> dict[str, Any]:
    scale, _ = charts.unit_of(chart, axis)
    return {"calculate": f"datum.{field(chart, column)} / {scale!r}", "as": name}


def _told(value: str, axis: Axis) -> str:
    """An expression for a number on this axis."""
    if axis.unit is None:
        return _text(value, axis.kind)
    scale, unit = axis.unit
    return f"format({value} / {scale!r}, '.4~r') + {json.dumps(f' {unit}' if unit else '')}"


def _text(value: str, kind: str) -> str:
    """An expression for a number with its unit, of about four digits."""
    if kind == charts.SHARE:
        return f"format({value}, '.4~p')"
    if kind not in _SCALES:
        return f"format({value}, abs({value}) >= 1e4 ? ',.0f' : '.4~r')"
    *larger, (_, smallest) = _SCALES[kind]
    tried = [f"abs({value}) >= {one!r} ? format({value} / {one!r}, '.4~r') + '{unit}' : " for one, unit in larger]
    return f"{''.join(tried)}format({value}, '.4~r') + '{smallest}'"


# --- axes and channels -----------------------------------------------------------------------------------------------


def _axis(chart: Chart, axis: Axis, name: str) -> dict[str, Any]:
    """The channel of an axis."""
    if axis.kind == charts.NAMES:
        label: dict[str, Any] = {"title": axis.title or None}
        label |= {"labelAngle": 0, "labelOverlap": "greedy"} if name == "x" else {}
        return {"field": field(chart, axis.column), "type": "nominal", "sort": None, "axis": label}
    scale, unit = charts.unit_of(chart, axis)
    ends = {"domainMin": axis.low, "domainMax": axis.high}
    options: dict[str, Any] = {key: end / scale for key, end in ends.items() if end is not None}
    if axis.log:
        options |= {"type": "log", "nice": False}
    elif chart.mark in (charts.LINES, charts.POINTS) and axis.low is None:
        options["zero"] = False
    if chart.mark == charts.POINTS:
        options["padding"] = 14
    if axis.low is not None and axis.high is None and not axis.log:
        options["domainMax"] = _ROOM_ABOVE * charts.total_end(chart, axis) / scale or 1.0
    drawn = {"title": charts.titled(axis, unit), **_ticks(axis)}
    if chart.mark == charts.HEAT or (chart.mark == charts.AREAS and name == "x"):
        options["nice"] = False
    return {"field": name, "type": "quantitative", "scale": options, "axis": drawn}


def _ticks(axis: Axis) -> dict[str, Any]:
    if axis.log:
        mantissa = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"
        text = _text("datum.value", axis.kind)  # of an axis without a unit of its own
        return {
            "labelExpr": f"indexof([1, 2, 5], {mantissa}) >= 0 ? {text} : ''",
            "labelOverlap": "greedy",
            "tickCount": 6,
            "gridOpacity": {"condition": {"test": f"{mantissa} == 1", "value": 1}, "value": 0.35},
        }
    if axis.kind == charts.SHARE:
        return {"format": "~%", "tickCount": 6}
    if axis.kind == charts.NUMBER:
        return {"tickCount": 6, "labelExpr": "format(datum.value, abs(datum.value) >= 1e4 ? '~s' : '.6~r')"}
    return {"tickCount": 6, "format": ".6~r"}


def _colour(chart: Chart) -> dict[str, Any]:
    """Channels that tell series apart, by colour and by what else the mark has."""
    if chart.series is None:
        return {}
    at, names = field(chart, chart.series), chart.names(chart.series)
    shared = {"field": at, "type": "nominal", "title": chart.legend_title or None, "sort": None}
    legend = {"legend": None} if len(names) < 2 else {}
    channels = {"color": {**shared, "scale": {"domain": names}, **legend}}
    if chart.mark in (charts.LINES, charts.STEPS):
        channels["strokeDash"] = {**shared, "scale": {"domain": names, "range": _cycled(_DASHES, names)}, **legend}
    if chart.mark == charts.POINTS or _has_marks(chart):
        channels["shape"] = {**shared, "scale": {"domain": names, "range": _cycled(_SHAPES, names)}, **legend}
    return channels


def _cycled(kinds: list[Any], names: list[str]) -> list[Any]:
    return [kinds[nth % len(kinds)] for nth in range(len(names))]


def _has_marks(chart: Chart) -> bool:
    return chart.mark == charts.LINES and all(
        len(columns[chart.x.column]) <= _FEW_POINTS for _, columns in chart.curves()
    )


def _tooltip(chart: Chart) -> list[dict[str, str]]:
    shown = []
    if chart.series is not None:
        shown.append({"field": field(chart, chart.series), "title": chart.legend_title or chart.series})
    shown += [{"field": field(chart, name), "title": name} for name in chart.also]
    for axis in chart.axes:
        at = field(chart, axis.column)
        shown.append({"field": at if axis.kind == charts.NAMES else f"{at}_text", "title": axis.title or axis.column})
    return [{**one, "type": "nominal"} for one in shown]


def _zoom(chart: Chart) -> list[dict[str, Any]]:
    """Dragging moves, the wheel with Ctrl zooms, so that the page scrolls over a chart as anywhere else."""
    free = [name for name, axis in (("x", chart.x), ("y", chart.y)) if axis.kind != charts.NAMES]
    select = {
        "type": "interval",
        "encodings": free,
        "translate": "[mousedown, window:mouseup] > window:mousemove!",
        "zoom": "wheel![event.ctrlKey]",
    }
    return [{"name": "zoom", "select": select, "bind": "scales"}] if free else []


def _hover() -> list[dict[str, Any]]:
    return [{"name": "under", "select": {"type": "point", "on": "pointerover", "clear": "pointerout"}}]


def _mark(kind: str, **options: Any) -> dict[str, Any]:
    """A mark that a screen reader passes by: the figure has a name, a summary and a table."""
    return {"type": kind, "aria": False, "clip": True, **options}


# --- marks -----------------------------------------------------------------------------------------------------------


def _lines(chart: Chart) -> list[dict[str, Any]]:
    place = {"x": _axis(chart, chart.x, "x"), "y": _axis(chart, chart.y, "y")}
    colour = _colour(chart)
    marked = _has_marks(chart)
    drawn = {name: channel for name, channel in colour.items() if name != "shape"}
    steps = {"interpolate": "step-after"} if chart.mark == charts.STEPS else {}
    layers = [{"params": _zoom(chart), "mark": _mark("line", strokeWidth=2, **steps), "encoding": place | drawn}]
    if chart.low is not None:
        ends = {"y": {**place["y"], "field": "low"}, "y2": {"field": "high"}}
        told = {"x": place["x"], **ends, **_only(colour)}
        layers.append({"transform": _known(chart), "mark": _mark("rule", strokeWidth=1.5), "encoding": told})
    layers.append(_touched(chart, place, colour if marked else {}))
    return layers


def _known(chart: Chart) -> list[dict[str, Any]]:
    """Rows that have an interval."""
    return [{"filter": {"field": field(chart, chart.low), "valid": True}}]


def _only(colour: dict[str, Any]) -> dict[str, Any]:
    return {"color": colour["color"]} if "color" in colour else {}


def _touched(chart: Chart, place: dict[str, Any], colour: dict[str, Any]) -> dict[str, Any]:
    """Points that answer to the pointer; those of long curves are not seen before."""
    told = {**place, "tooltip": _tooltip(chart)}
    if colour:
        shapes = {name: channel for name, channel in colour.items() if name != "strokeDash"}
        return {"mark": _mark("point", filled=True, size=60), "encoding": {**told, **shapes}}
    seen = {"condition": {"param": "under", "empty": False, "value": 1}, "value": 0}
    dot = _mark("point", filled=True, size=70, color=_NEUTRAL)
    return {"params": _hover(), "mark": dot, "encoding": {**told, "opacity": seen}}


def _points(chart: Chart) -> list[dict[str, Any]]:
    place = {"x": _axis(chart, chart.x, "x"), "y": _axis(chart, chart.y, "y")}
    told = {**place, **_colour(chart), "tooltip": _tooltip(chart)}
    layers = [{"params": _zoom(chart), "mark": _mark("point", filled=True, size=80, opacity=0.9), "encoding": told}]
    if chart.text is not None:
        text = {"field": field(chart, chart.text), "type": "nominal"}
        beside = _mark("text", align="left", dx=8, dy=-8, limit=_LABEL_PIXELS)
        layers.append({"mark": beside, "encoding": {**place, "text": text}})
    return layers


def _areas(chart: Chart) -> list[dict[str, Any]]:
    y = {**_axis(chart, chart.y, "y"), "stack": "zero"}
    place = {"x": _axis(chart, chart.x, "x"), "y": y, "order": {"field": "nth", "type": "quantitative"}}
    area = _mark("area", stroke="none", opacity=0.8)
    return [
        {"params": _zoom(chart), "mark": area, "encoding": {**place, **_colour(chart)}},
        _touched(chart, {**place, "detail": {"field": field(chart, chart.series), "type": "nominal"}}, {}),
    ]


def _bars(chart: Chart) -> list[dict[str, Any]]:
    lying = chart.y.kind == charts.NAMES
    place = {"x": _axis(chart, chart.x, "x"), "y": _axis(chart, chart.y, "y")}
    value, offset = ("x", "yOffset") if lying else ("y", "xOffset")
    told: dict[str, Any] = {**place, **_colour(chart)}
    stacked = chart.mark == charts.STACKED_BARS
    if stacked:
        told[value] = {**place[value], "stack": "zero"}
        told["order"] = {"field": "nth", "type": "quantitative"}
    else:
        told[value] = {**place[value], "stack": None}
    beside = {}
    if chart.series is not None and not stacked:
        beside = {offset: {"field": field(chart, chart.series), "type": "nominal", "sort": None}}
    edge = {"style": "segment"} if stacked else {"cornerRadiusEnd": 2}
    layers = [{"mark": _mark("bar", **edge), "encoding": {**told, **beside, "tooltip": _tooltip(chart)}}]
    if chart.low is not None:
        ends = {value: {**place[value], "field": "low"}, f"{value}2": {"field": "high"}}
        rule = _mark("rule", strokeWidth=1.5, color=_NEUTRAL)
        layers.append({"transform": _known(chart), "mark": rule, "encoding": {**place, **ends, **beside}})
    if chart.text is not None and (lying or chart.rows <= charts.FEW_TEXTS):
        at = {"align": "left", "dx": 5} if lying else {"baseline": "bottom", "dy": -3}
        text = {"field": field(chart, chart.text), "type": "nominal"}
        from_ = {value: {**place[value], "field": "high"}} if chart.low is not None else {}
        told = {**place, **from_, **beside, "text": text}
        layers.append({"mark": _mark("text", **at) | {"clip": False}, "encoding": told})
    return layers


def _heat(chart: Chart) -> list[dict[str, Any]]:
    at = field(chart, chart.value.column)
    ends = [end for end in (chart.value.low, chart.value.high) if end is not None]
    legend = {"title": chart.value.title, "format": "~%" if chart.value.kind == charts.SHARE else "~s"}
    scale = {"domain": ends} if len(ends) == 2 else {}
    colour = {"field": at, "type": "quantitative", "scale": scale, "legend": legend}
    place = {"x": _axis(chart, chart.x, "x"), "y": _axis(chart, chart.y, "y")}
    place |= {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    told = {**place, "color": colour, "tooltip": _tooltip(chart)}
    return [{"params": _zoom(chart), "mark": _mark("rect"), "encoding": told}]


_LAYERS = {
    charts.LINES: _lines,
    charts.STEPS: _lines,
    charts.AREAS: _areas,
    charts.POINTS: _points,
    charts.BARS: _bars,
    charts.STACKED_BARS: _bars,
    charts.HEAT: _heat,
}
