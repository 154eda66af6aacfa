"""memhier's own dense folders, which are mapped rather than read (`sim/dense.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sim.dense import open_dense
from sim.trace import Trace
from sim.trace_options import Option, Reader


def sniff(head: bytes, name: str) -> bool:
    return False  # no file is a folder


def open_(path: Path, options: dict[str, Any]) -> Trace:
    return open_dense(path, options["check"])


READER = Reader(
    "dense",
    "a folder made by `convert`: arrays that are mapped, so that a replay starts at once",
    ("dense",),
    sniff,
    options={"check": Option(False, "read everything first and compare its digest with the manifest's")},
    open=open_,
)
