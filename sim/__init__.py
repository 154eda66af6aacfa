"""memhier: a discrete-event simulator of memory hierarchies.

What a user of the library or the author of a policy needs is here; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "sim.errors": ("InputError",),
    "sim.profile": ("load_profile", "load_device"),
    "sim.trace": ("Trace",),
    "sim.trace_loading": ("load_trace", "generate"),
    "sim.trace_options": ("Reader", "Generator", "Option"),
    "sim.engines.replay": ("replay", "ReplayResult"),
    "sim.running": ("run", "compare"),
    "sim.probing": ("probe", "probe_together"),
    "sim.traffic": ("Load",),
    "sim.sweep.sweeping": ("run_sweep",),
    "sim.comparing": ("diff",),
    "sim.pareto": ("pareto_front",),
    "sim.result_set": ("load_result", "load_results", "ResultSet"),
    "sim.results": ("Result",),
    "sim.serving.results": ("ServingResult",),
    "sim.fragmentation.results": ("AllocationResult",),
    "sim.fragmentation.source": ("AllocationSource",),
    "sim.fragmentation.operations": ("Operations", "build_operations"),
    "sim.policy": (
        "NEVER",
        "NO_BLOCK",
        "AdmissionPolicy",
        "Allocator",
        "Call",
        "Context",
        "DeviceModel",
        "EventModel",
        "EvictionPolicy",
        "OffloadPolicy",
        "PrefetchPolicy",
        "Request",
        "SchedulingPolicy",
    ),
    "sim.kernels.compile": ("kernel", "subroutine", "inlined"),
    "sim.kernels.linked_list": (
        "NEWER",
        "OLDER",
        "make_lists",
        "newest",
        "oldest",
        "push_newest",
        "push_oldest",
        "unlink",
    ),
    "sim.kernels.heap": ("make_heap", "heap_push", "heap_pop", "heap_remove", "sift_down"),
    "sim.kernels.random": ("make_rng", "uniform", "below"),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}
_MODULES = ("testing", "registry", "catalog", "units", "metrics", "plot", "report")

__all__ = ["__version__", *sorted(_HOME), *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        found = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        found = importlib.import_module(f"sim.{name}")
    else:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
