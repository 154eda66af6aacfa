"""How often Python looks for garbage that refers to itself."""

from __future__ import annotations

import gc

_ALLOCATIONS_BETWEEN_COLLECTIONS = 400_000  # imports make as many objects that stay; looking through them takes time


def collect_rarely() -> None:
    """For a process of our own, which begins with imports."""
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS)
