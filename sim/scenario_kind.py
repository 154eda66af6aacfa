"""The kinds of scenario there are, and what each must say of itself so that it can be run, compared, swept and shown.

A kind is stateless. What loads it imports nothing of its engine: each method imports what it needs.
"""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sim import scenario_files
from sim.errors import InputError
from sim.looks import Progress

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from sim.metrics import Metric
    from sim.report.cells import Shown
    from sim.report.sections import Section
    from sim.saved_result import SavedResult

_PLACES = {  # kind -> where its class is
    "hierarchy": ("sim.hierarchy_kind", "HierarchyKind"),
    "serving": ("sim.serving.kind", "ServingKind"),
    "allocation": ("sim.fragmentation.kind", "AllocationKind"),
}


class Variant(NamedTuple):
    """A scenario with another policy, and what to call it."""

    label: str
    scenario: Any


class ScenarioKind(ABC):
    """One kind of scenario.

    name: of the kind; results: what the `format` of its results begins with; compared: what `compare` puts in place of
    each other, as a noun; plural: of that; draws_compared: whether each compared run has figures of its own. headline:
    the metrics that tell most of a run, the first one first; inputs_are_traces: whether `inputs` are a `Trace`, which
    can be kept as a folder that several processes map. trade: two metrics of which more of one is often paid with more
    of the other, by the first of which runs are ranked; fewest: a metric, if any, of which a run must have no more than
    any other to be called the best.
    """

    name: ClassVar[str]
    results: ClassVar[str]
    compared: ClassVar[str] = "policy"
    plural: ClassVar[str] = "policies"
    draws_compared: ClassVar[bool] = False
    headline: ClassVar[tuple[str, ...]]
    inputs_are_traces: ClassVar[bool] = True
    trade: ClassVar[tuple[str, str]]
    fewest: ClassVar[str | None] = None

    # --- running

    @abstractmethod
    def load(
        self, name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
    ) -> Any:
        """The scenario of a name or file with dotted overrides. Raises InputErrors that list everything wrong."""

    @abstractmethod
    def variants(self, scenario: Any, labels: Sequence[str], tier: str | None = None) -> list[Variant]:
        """The scenario once for each label, or for each that it lists itself; in one tier, where one is given.

        Raises InputError for an unknown label, none, or one twice.
        """

    @abstractmethod
    def inputs_key(self, scenario: Any) -> str:
        """What two scenarios have in common whose `inputs` are the same."""

    @abstractmethod
    def inputs(self, scenario: Any, variants: Iterable[Any] = ()) -> Any:
        """What the scenario and its variants are run on: a trace, or a stream of allocations.

        Raises InputError where it cannot be had.
        """

    @abstractmethod
    def code_key(self, scenario: Any) -> str:
        """What two scenarios have in common that run, as far as their names tell, on the same machine code."""

    @abstractmethod
    def digests(self, scenario: Any) -> dict[str, str]:
        """Digests, by what they are of, of all that a run is made of beside what the scenario says: hardware, policies,
        and where the inputs come from. Raises InputError where a file cannot be read.
        """

    @abstractmethod
    def run(self, scenario: Any, inputs: Any, label: str, progress: Progress | None = None) -> SavedResult:
        """Run it to its end. Raises InputError where its parts do not fit together."""

    def references(self, against: str) -> list[str]:
        """Labels of the runs that `compare --against` needs beside those asked for. Raises InputError where it says
        nothing of this kind.
        """
        problem = "--against measures hit ratios against Belady's rule, which needs one order of accesses:"
        raise InputError(problem, value=against, expected=f"a scenario without '{self.name}'")

    def placed(self, result: SavedResult, references: Sequence[SavedResult], tier: str | None) -> SavedResult:
        """The result, whose summary says also where it stands between those of `references`."""
        raise NotImplementedError

    # --- scoring and showing

    def request_means(self, result: SavedResult) -> dict[str, np.ndarray]:
        """The metrics that are means over requests, each with float64[n] what every request adds to it, in the order of
        the trace; NaN of a request that the mean leaves out. Raises InputError where the results cannot be read.
        """
        return {}

    @abstractmethod
    def result_class(self) -> type[SavedResult]:
        """What a run of this kind leaves."""

    @abstractmethod
    def declaration(self, metric: str) -> Metric:
        """What a name of a summary means. Raises InputError for an unknown one, with the nearest."""

    @abstractmethod
    def run_report(self, result: Any) -> RenderableType:
        """Tables of one run, for a terminal."""

    @abstractmethod
    def comparison_report(self, results: Sequence[Any]) -> RenderableType:
        """Runs side by side, for a terminal."""

    @abstractmethod
    def columns(self) -> tuple[Shown, ...]:
        """The metrics by which runs are put side by side, as a report shows them."""

    @abstractmethod
    def verdict(self, results: Sequence[Any]) -> list[str]:
        """Sentences that say which run is best on what, or of one where its time or memory goes."""

    @abstractmethod
    def facts(self, result: Any) -> list[tuple[str, Any]]:
        """What a run was of, as names and texts."""

    @abstractmethod
    def report_sections(self, compared: Sequence[Any], detailed: Sequence[Any], most_points: int) -> list[Section]:
        """What a report says of some runs. compared: side by side in common figures, with curves of at most so many
        points; detailed: those of them that have figures of their own, too.
        """

    @abstractmethod
    def needed(self, result: Any) -> Any:
        """The same result with no more of its tables than its figures show."""

    @abstractmethod
    def save_run_figures(self, result: Any, folder: Path) -> list[Path]:
        """PNG files of one run. Raises InputError where they cannot be written."""

    @abstractmethod
    def save_comparison_figure(self, results: Sequence[Any], path: Path) -> Path:
        """One PNG file of several runs. Raises InputError where it cannot be written."""


def named(name: str) -> ScenarioKind:
    """The kind of this name."""
    module, cls = _PLACES[name]
    return getattr(importlib.import_module(module), cls)()


def kinds() -> tuple[ScenarioKind, ...]:
    """All there are."""
    return tuple(named(name) for name in _PLACES)


def kind_of(name_or_path: str | Path) -> ScenarioKind:
    """What a scenario is one of. Raises InputError where it cannot be read."""
    return named(scenario_files.kind_of(name_or_path))


def kind_of_format(format_: str) -> ScenarioKind | None:
    """Of what kind of scenario results of this format are; None where they are of no run."""
    return next((kind for kind in kinds() if format_.startswith(kind.results)), None)


def with_seed(scenario: Any, seed: int) -> Any:
    """The same scenario with another seed."""
    return dataclasses.replace(scenario, seed=seed)
