"""How allocators say where an object is."""

from __future__ import annotations

from sim.kernels.compile import subroutine


@subroutine
def one_run(out, address, size_bytes):
    """The answer of `extents` of an object in one piece."""
    if out.shape[0] > 0:
        out[0, 0], out[0, 1] = address, size_bytes
    return 1


@subroutine
def add_run(out, runs, address, size_bytes):
    """Add a run to the answer of `extents`, which has `runs` so far; how many it has then.

    A run that goes on where the last one ends lengthens it.
    """
    if 0 < runs <= out.shape[0] and out[runs - 1, 0] + out[runs - 1, 1] == address:
        out[runs - 1, 1] += size_bytes
        return runs
    if runs < out.shape[0]:
        out[runs, 0], out[runs, 1] = address, size_bytes
    return runs + 1
