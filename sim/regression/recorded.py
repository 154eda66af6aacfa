"""What was recorded of a baseline: the values of its metrics by run and seed, and of what inputs they came.

It stands beside the baseline, NAME.recorded.json of NAME.yaml, so that the baseline stays as a person wrote it. Its
lines are in a fixed order, and change only where a value does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim import result_files
from sim.errors import InputError

FORMAT = "memhier baseline 1"
_KEYS = {"inputs", "traces", "metrics"}


@dataclass(frozen=True)
class Record:
    """Runs of one label. inputs: by dotted name, what they were of (`sim.comparing.configuration`); traces: the digest
    of the requests by seed; metrics: values by name and seed.
    """

    inputs: Mapping[str, Any]
    traces: Mapping[int, str | None]
    metrics: Mapping[str, Mapping[int, float]]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.traces)


Records = Mapping[str, Mapping[str, Record]]  # by scenario and label


def place_of(baseline: Path) -> Path:
    """Where a baseline's values are recorded."""
    return baseline.with_name(f"{baseline.stem}.recorded.json")


def read(baseline: Path) -> Records:
    """What was recorded of a baseline; nothing where nothing was. Raises InputError for another file in its place."""
    place = place_of(baseline)
    if not place.exists():
        return {}
    content = result_files.read_json(place)
    if content.get("format") != FORMAT:
        raise InputError("not recorded values of this version", file=place, expected=f"format {FORMAT!r}")
    try:
        return {
            name: {label: _record(one) for label, one in records.items()}
            for name, records in content["scenarios"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"damaged: {error!r}", file=place, expected="what regress --update writes") from None


def _record(data: Mapping[str, Any]) -> Record:
    return Record(
        dict(data["inputs"]),
        {int(seed): trace for seed, trace in data["traces"].items()},
        {name: {int(s): _number(v) for s, v in values.items()} for name, values in data["metrics"].items()},
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no value of a metric")
    return value


def written(records: Records) -> str:
    """The text of the file, the same for the same values."""
    scenarios = {
        name: {label: {key: getattr(record, key) for key in sorted(_KEYS)} for label, record in labels.items()}
        for name, labels in records.items()
    }
    return json.dumps({"format": FORMAT, "scenarios": scenarios}, indent=1, allow_nan=False) + "\n"
