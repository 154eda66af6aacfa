"""Plots for notebooks: of any results, axes in, axes out; the report draws the same charts.

    results = sim.load_results("results/postgres_pgbench-compare")
    sim.plot.latency_cdf(results, ax)

`results` is what `sim.load_results` gives, or one result, or several in a list. Without axes a plot is drawn on new
ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.errors import InputError
from sim.result_set import ResultSet, Run
from sim.saved_result import SavedResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.report.cells import Shown
    from sim.report.charts import Chart

Results = ResultSet | SavedResult | Sequence[SavedResult]


def latency_cdf(results: Results, ax: Axes | None = None) -> Axes:
    """Share of the requests answered within a time, a curve a run; of serving runs, times to first and last tokens.

    Raises InputError for replays of allocations, which have no latencies.
    """
    from sim.report import hierarchy_charts
    from sim.serving import charts as serving_charts

    made = {"hierarchy": hierarchy_charts.latency_cdf, "serving": serving_charts.ttft_and_latency}
    return _drawn(_of_kind(results, made)(_listed(results)), ax)


def where_time_goes(results: Results, ax: Axes | None = None) -> Axes:
    """The mean latency of each run, cut into its parts; of replays of allocations, what of the held bytes is lost."""
    from sim.fragmentation import charts as allocation_charts
    from sim.report import hierarchy_charts
    from sim.serving import charts as serving_charts

    made = {
        "hierarchy": hierarchy_charts.latency_parts,
        "serving": serving_charts.mean_parts,
        "allocation": allocation_charts.losses,
    }
    return _drawn(_of_kind(results, made)(_listed(results)), ax)


def occupancy(result: Results, ax: Axes | None = None) -> Axes:
    """What one run's tiers hold over time; of a replay of allocations, the bytes held over its operations."""
    from sim.fragmentation import charts as allocation_charts
    from sim.report import hierarchy_charts
    from sim.serving import charts as serving_charts

    made = {
        "hierarchy": hierarchy_charts.occupancy,
        "serving": serving_charts.tiers_over_time,
        "allocation": allocation_charts.bytes_over_operations,
    }
    return _drawn(_of_kind(result, made)(_only(result)), ax)


def hit_ratio(results: Results, ax: Axes | None = None) -> Axes:
    """Hits over lookups of each caching tier; of serving runs, the prompt tokens that each tier had."""
    from sim.report import hierarchy_charts
    from sim.serving import charts as serving_charts

    made = {"hierarchy": hierarchy_charts.tier_hit_ratio, "serving": serving_charts.tier_hit_tokens}
    return _drawn(_of_kind(results, made)(_listed(results)), ax)


def miss_ratio_by_capacity(results: ResultSet, tier: str, ax: Axes | None = None) -> Axes:
    """The miss ratio over a tier's capacity, a curve a policy. Raises InputError where no runs differ in it."""
    from sim.report.sweep_charts import hit_ratio_by_capacity

    charts = hit_ratio_by_capacity(results.of_kind("hierarchy"))
    by_tier = {chart.x.title.removeprefix("capacity of "): chart for chart in charts}
    if tier not in by_tier:
        raise InputError("no runs that differ in the capacity of tier", value=tier, candidates=by_tier)
    return _drawn(by_tier[tier], ax)


def metric_by_field(results: ResultSet, metric: str, fields: Sequence[str], ax: Axes | None = None) -> Axes:
    """A metric, mean and confidence interval over seeds, over the first field, a curve for each value of the second.

    Raises InputError for an unknown metric or field, with the nearest.
    """
    from sim.report.sweep_charts import metric_by_field as chart_of

    if not 1 <= len(fields) <= 2:
        raise InputError("so many fields:", value=len(fields), expected="one or two")
    for field in fields:
        if field not in results.fields:
            raise InputError("not a field that was varied:", value=field, candidates=results.fields)
    return _drawn(chart_of(results.over_seeds([metric]), fields, _shown(results, metric)), ax)


def pareto(results: ResultSet, first: str, second: str, ax: Axes | None = None) -> Axes:
    """Runs by two metrics, means over seeds, and those that no other one is better than in both."""
    from sim.report.sweep_charts import pareto as chart_of

    means = results.over_seeds([first, second])
    return _drawn(chart_of(means, _shown(results, first), _shown(results, second)), ax)


def _shown(results: ResultSet, metric: str) -> Shown:
    from sim.report.tables import shown

    return shown(results.declaration(metric), metric)


def _listed(results: Results) -> list[SavedResult]:
    if isinstance(results, ResultSet):
        return [run.result for run in results]
    return [results] if isinstance(results, SavedResult) else list(results)


def _only(results: Results) -> SavedResult:
    listed = _listed(results)
    if len(listed) != 1:
        raise InputError("so many runs:", value=len(listed), expected="one")
    return listed[0]


def _of_kind(results: Results, made: dict):
    """What makes the chart of the kind of all these results. Raises InputError where there is none, or several."""
    kinds = {Run("", result, {}, 0).kind.name for result in _listed(results)}
    if len(kinds) != 1 or not kinds <= set(made):
        raise InputError(
            "not results of one kind that this plot is of:", value=sorted(kinds), expected=" or ".join(made)
        )
    return made[kinds.pop()]


def _drawn(chart: Chart, ax: Axes | None) -> Axes:
    from sim.report.draw_chart import draw
    from sim.report.figures import new_figure

    return draw(chart, new_figure(6.4, 4.2, "constrained").add_subplot() if ax is None else ax)
