"""Imports what every run needs: a process that has imported this is forked into those that do the work."""

from __future__ import annotations

import pyarrow.parquet

import sim.fragmentation.running
import sim.results
import sim.serving.simulation
import sim.simulation
import sim.sweep.work

__all__ = ["pyarrow", "sim"]
