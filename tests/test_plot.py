"""Plots for notebooks: axes in, axes out, of what the results hold."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

import sim
from sim.errors import InputError
from tests import report_folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("plots")
    compared = report_folders.compared(place / "compared")
    return {
        "hierarchy": compared,
        "serving": report_folders.served(place / "served"),
        "sweep": report_folders.swept(compared / "lru", place / "swept"),
    }


@pytest.mark.parametrize("name", ["hierarchy", "serving"])
def test_axes_in_axes_out(folders, name):
    results = sim.load_results(folders[name])
    for plot in (sim.plot.latency_cdf, sim.plot.where_time_goes, sim.plot.hit_ratio):
        ax = Figure().add_subplot()
        assert plot(results, ax) is ax and (ax.lines or ax.patches)
    assert sim.plot.occupancy(results.runs[0].result).lines
    with pytest.raises(InputError, match="so many runs: 2"):
        sim.plot.occupancy(results)


def test_plots_of_a_sweep(folders):
    results = sim.load_results(folders["sweep"])
    ax = sim.plot.metric_by_field(results, "hit_ratio", ["tiers.hbm.capacity", "tiers.hbm.eviction"])
    labels = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert labels == ["lru", "fifo"]
    assert sim.plot.pareto(results, "latency_mean_ns", "cost_usd_per_million_requests").lines
    assert len(sim.plot.miss_ratio_by_capacity(results, "hbm").lines) == 2
    with pytest.raises(InputError, match="did you mean 'hbm'"):
        sim.plot.miss_ratio_by_capacity(results, "hmb")
    with pytest.raises(InputError, match=r"did you mean 'tiers.hbm.capacity'"):
        sim.plot.metric_by_field(results, "hit_ratio", ["tiers.hbm.capacit"])


def test_kinds_are_not_mixed(folders):
    both = sim.load_results(folders["hierarchy"], folders["serving"])
    with pytest.raises(InputError, match="not results of one kind"):
        sim.plot.latency_cdf(both)
