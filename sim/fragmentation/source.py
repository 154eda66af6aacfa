"""Where a stream of allocations comes from: files of one format, or a model of a program; one a file, pluggable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.fragmentation.operations import Operations
from sim.trace_options import Option


@dataclass(frozen=True)
class AllocationSource:
    """A format of recorded allocations, or a generator of such.

    read(path, options) -> Operations: of a file in this format; or generate(options) -> Operations: of none. Exactly
    one of them is given. options: what can be set, checked before either is called. extensions: of files that are
    taken for this format where nobody says otherwise, such as ".heap.csv"; `recognises(first_bytes) -> bool`,
    optional, looks at the first 4 KiB of a decompressed file of a shared extension.
    """

    name: str
    description: str
    options: Mapping[str, Option] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()
    read: Callable[[Path, dict[str, Any]], Operations] | None = None
    generate: Callable[[dict[str, Any]], Operations] | None = None
    recognises: Callable[[bytes], bool] | None = None

    def __post_init__(self):
        if (self.read is None) == (self.generate is None):
            raise ValueError(f"source of allocations {self.name!r} needs either read or generate")
