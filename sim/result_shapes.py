"""What the documents of saved results hold at the least, so that a folder that was tampered with is told when read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sim.errors import InputError

_Count = Annotated[int, Field(strict=True, ge=0)]
_Number = Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Scenario(TypedDict):
    name: str


class _Named(TypedDict):
    name: str
    digest: str


class _Run(TypedDict):
    label: str
    scenario: _Scenario
    versions: dict[str, str]


class HierarchyManifest(_Run):
    """Of `sim.results.Result`."""

    profile: _Named
    trace: _Named
    tiers: Annotated[list[str], Field(min_length=1)]
    capacity_bytes: dict[str, _Count]
    links: list[str]
    timing_models: dict[str, str]
    policies: dict[str, str]


class ServingManifest(_Run):
    """Of `sim.serving.results.ServingResult`."""

    facts: dict[str, Any]
    tiers: Annotated[list[str], Field(min_length=1)]
    capacity_blocks: dict[str, _Count]
    block_bytes: _Count
    block_tokens: _Count
    replicas: Annotated[int, Field(strict=True, ge=1)]
    duration_ns: float
    left_out: dict[str, str]


class _Link(TypedDict):
    name: str


class _Map(TypedDict):
    rows: _Count
    row_bytes: _Count


class AllocationManifest(_Run):
    """Of `sim.fragmentation.results.AllocationResult`."""

    trace: _Named
    capacity_bytes: _Count
    link: _Link
    map: _Map
    policies: dict[str, str]


def check_manifest(manifest: Any, shape: type, file: Path) -> None:
    """Raises InputError, with the first field that is missing or is something else."""
    try:
        TypeAdapter(shape).validate_python(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"not the manifest of such results: {first['msg'][0].lower()}{first['msg'][1:]}"
        raise InputError(problem, file=file, field=".".join(map(str, first["loc"]))) from error


def check_summary(summary: Any, required: Iterable[str], file: Path) -> None:
    """Raises InputError where a value is no finite number, or one of the required metrics is missing."""
    try:
        TypeAdapter(dict[str, _Number]).validate_python(summary)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise InputError("not a number:", file=file, field=field, value=summary[field]) from error
    missing = next((name for name in required if name not in summary), None)
    if missing is not None:
        raise InputError("a metric is missing from the summary", file=file, value=missing)
