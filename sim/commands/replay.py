"""`replay`: hit ratios alone."""

from __future__ import annotations

from dataclasses import asdict

from sim.commands import output
from sim.commands.options import reader_options
from sim.commands.output import Answer


def replay(
    trace: str,
    policy: str,
    capacity: str,
    ignore_object_size: bool,
    admission: str,
    reader: str | None,
    options: list[str] | None,
    seed: int,
) -> Answer:
    """Raises InputError for what cannot be replayed so."""
    from sim.engines.replay import replay as replay_trace

    with output.progress(f"replay {policy}") as progress:
        result = replay_trace(
            trace,
            policy=policy,
            capacity=capacity,
            ignore_object_size=ignore_object_size,
            admission=admission,
            seed=seed,
            progress=progress,
            reader=reader,
            options=reader_options(options),
        )
    unit = "objects" if ignore_object_size else "bytes"
    document = asdict(result)
    return Answer(
        document, [{**document, "capacity_unit": unit}], lambda: output.table(["", trace], _rows(result, unit))
    )


def _rows(result, unit: str) -> list[list[str]]:
    parameters = ", ".join(f"{name}={value}" for name, value in result.parameters.items())
    speed = result.requests / result.kernel_seconds / 1e6 if result.kernel_seconds else 0.0
    return [
        ["policy", f"{result.policy} ({parameters})" if parameters else result.policy],
        ["capacity", f"{result.capacity:,} {unit}"],
        ["requests", f"{result.requests:,}"],
        ["objects", f"{result.objects:,}"],
        ["hits", f"{result.hits:,}"],
        ["misses", f"{result.misses:,}"],
        ["hit ratio", f"{result.hit_ratio:.4f}"],
        ["byte hit ratio", f"{result.byte_hit_ratio:.4f}"],
        ["bypassed", f"{result.bypassed:,}"],
        *([name.replace("_", " "), f"{count:,}"] for name, count in result.counts.items() if count),
        ["time in the kernel", f"{result.kernel_seconds:.3f} s ({speed:,.1f} M requests/s)"],
    ]
