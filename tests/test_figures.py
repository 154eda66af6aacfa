"""Figures: they draw what they say, without pyplot, and their files depend on the results alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from sim.errors import InputError
from sim.report import figures
from sim.report.drawing import Drawing
from sim.results import Result
from tests.test_metrics import runs  # noqa: F401


@pytest.fixture(scope="module")
def results(runs):  # noqa: F811
    return [Result.from_simulation(run, label) for run, label in zip(runs, ("lru", "roomy"), strict=True)]


@pytest.fixture
def ax():
    return Figure().add_subplot()


def test_latency_cdf(results, ax):
    assert figures.latency_cdf(results, ax) is ax
    assert [line.get_label() for line in ax.lines] == ["lru", "roomy"]
    for line, result in zip(ax.lines, results, strict=True):
        assert line.get_ydata()[-1] == 1.0
        assert line.get_xdata()[-1] == result.summary["latency_max_ns"]
    assert ax.get_xscale() == "log"


def test_tier_hit_ratio(results, ax):
    figures.tier_hit_ratio(results, ax)
    heights = [bar.get_height() for bar in ax.patches]
    expected = [result.summary[f"tier.{tier}.hit_ratio"] for result in results for tier in ("hbm", "lpddr")]
    assert heights == pytest.approx(expected)


def test_curves_over_time(results, ax):
    figures.occupancy_over_time(results[0], ax)
    assert [line.get_label() for line in ax.lines] == ["hbm", "lpddr"]
    assert all(line.get_ydata().max() <= 1 for line in ax.lines)
    assert ax.get_xlabel() == "simulated time (ms)"
    other = Figure().add_subplot()
    figures.fragmentation_over_time(results[0], other)
    assert [text.get_text() for text in other.get_legend().get_texts()] == [
        f"{tier}, {kind}" for tier in ("hbm", "lpddr") for kind in ("internal", "external")
    ]


def test_no_two_curves_look_alike_even_without_colour():
    looks = [figures.line_style(nth) for nth in range(7)]
    for key in ("color", "linestyle", "marker"):
        assert len({str(look[key]) for look in looks}) == 7


def test_files_are_the_same_bytes_each_time(results, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths = figures.save_run_figures(results[0], tmp_path / name)
        figures.save_comparison_figure(results, tmp_path / name / "compare.png")
        assert [path.name for path in paths] == [
            "latency_cdf.png",
            "tier_hit_ratio.png",
            "occupancy.png",
            "fragmentation.png",
        ]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.read_bytes()[:4] == b"\x89PNG"


def test_an_unwritable_place(results, tmp_path):
    with pytest.raises(InputError, match="cannot write the figure"):
        figures.save_comparison_figure(results, tmp_path / "none" / "x.png")


def test_matplotlib_is_not_imported_before_something_is_drawn():
    code = "import sys, sim.report.figures, sim.report.table; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_second_process_draws_the_same(results, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    expected = figures.save_run_figures(results[0], tmp_path / "here")
    with Drawing() as drawing, drawing.drawn(figures.save_run_figures, figures.needed(results[0]), tmp_path / "there"):
        pass
    for path in expected:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


def test_what_is_wrong_in_the_second_process_is_said_here(results, tmp_path):
    with Drawing() as drawing:
        shown, nowhere = [figures.needed(result) for result in results], tmp_path / "none" / "x.png"
        with (
            pytest.raises(InputError, match="cannot write the figure"),
            drawing.drawn(figures.save_comparison_figure, shown, nowhere),
        ):
            pass
        with drawing.drawn(figures.save_comparison_figure, shown, tmp_path / "x.png"):
            pass
    assert (tmp_path / "x.png").exists()


def test_a_second_process_that_dies_is_told():
    dies = pytest.raises(RuntimeError, match="ended with exit code 7")
    with Drawing() as drawing, dies, drawing.drawn(os._exit, 7):
        pass


def test_a_legend_below_gets_the_room_that_its_rows_take(ax):
    for nth in range(6):
        ax.plot([0, 1], [nth, nth], label=f"tier {nth}")
    figures.finished(ax, legend="below")
    ax.get_figure().set_size_inches(figures._SIZE)
    ax.set_xlabel("time")
    figures._place(ax, "a title", legend_below=True)
    renderer = figures._canvas(ax.get_figure()).get_renderer()
    legend, label = (part.get_window_extent(renderer) for part in (ax.get_legend(), ax.xaxis.label))
    assert legend.y0 >= 0 and legend.y1 <= label.y1 and label.y1 <= ax.get_window_extent().y0
