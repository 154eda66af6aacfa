"""What each option of a serving engine may be: the fields of `ServingOptions`, as a file or a command line says them.

Sizes and times may be written with their unit whatever their name ends with: `swap_bytes: 4 GiB`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from sim import registry, units
from sim.errors import InputError
from sim.scenario_schema import choice_of, is_number, whole_number
from sim.serving import options as names

_MOST_TOKENS = 1 << 30
_MOST_BLOCKS = 1 << 40
_MOST_DEVICES = 1024


def check_option(name: str, value: object) -> Any:
    """The value of one option in its type. Raises InputError, without a place, where it cannot be one."""
    return OPTIONS[name](value)


def size(value: object) -> int:
    """Bytes, as a whole number or with a unit."""
    found = units.parse_bytes(value) if isinstance(value, str) else value
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 63:
        raise InputError("not a size:", value=value, expected=units.BYTES.expected)
    return found


def duration(value: object) -> float:
    """Nanoseconds, as a number or with a unit."""
    found = units.parse_time(value) if isinstance(value, str) else value
    if not is_number(found) or found < 0:
        raise InputError("not a time:", value=value, expected=units.TIME.expected)
    return float(found)


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InputError("not a choice:", value=value, expected="true or false")
    return value


def one_of(listed: Iterable[str]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in listed:
            raise InputError("unknown value", value=value, candidates=listed)
        return value

    return check


def within(low: float, high: float, open_low: bool = False, open_high: bool = False) -> Callable[[object], float]:
    """A number from low to high; an open end is not in it."""
    ends = f"a number {'above' if open_low else 'from'} {low:g}, {'below' if open_high else 'at most'} {high:g}"

    def check(value: object) -> float:
        good = is_number(value) and low <= value <= high
        if not good or (open_low and value == low) or (open_high and value == high):
            raise InputError("out of range:", value=value, expected=ends)
        return float(value)

    return check


def _optional(check: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else check(value)


_TOKENS, _SOME_TOKENS = whole_number(0, _MOST_TOKENS), whole_number(1, _MOST_TOKENS)

OPTIONS: dict[str, Callable[[object], Any]] = {
    "block_tokens": _optional(whole_number(1, 1 << 20)),
    "max_num_seqs": whole_number(1, 1 << 20),
    "max_num_batched_tokens": _SOME_TOKENS,
    "chunked_prefill": flag,
    "long_prefill_token_threshold": _TOKENS,
    "max_model_len": _optional(_SOME_TOKENS),
    "reserve_full_prompt": flag,
    "watermark": within(0, 1, open_high=True),
    "prefix_caching": flag,
    "partial_blocks": flag,
    "commit": one_of(names.COMMITS),
    "order": one_of(names.ORDERS),
    "touch_on_release": flag,
    "preemption": one_of(names.PREEMPTIONS),
    "swap_bytes": size,
    "reservation": one_of(names.RESERVATIONS),
    "allocator": partial(choice_of, kind=registry.ALLOCATOR),
    "scheduling": partial(choice_of, kind=registry.SCHEDULING),
    "prediction_error": within(0, 10),
    "async_scheduling": flag,
    "tensor_parallel": whole_number(1, _MOST_DEVICES),
    "memory_utilization": within(0, 1, open_low=True),
    "activation_bytes": _optional(size),
    "kv_blocks": _optional(whole_number(1, _MOST_BLOCKS)),
    "load": one_of(names.LOADS),
    "overlap": one_of(names.OVERLAPS),
    "min_load_tokens": _TOKENS,
    "max_load_tokens": _TOKENS,
    "load_failure_rate": within(0, 1),
    "load_failure": one_of(names.LOAD_FAILURES),
    "prefetch": one_of(names.PREFETCHES),
    "prefetch_timeout_ns": duration,
    "prefetch_min_tokens": _TOKENS,
    "store_outputs": flag,
    "copy_blocks": whole_number(0, _MOST_BLOCKS),
    "copy_overhead_ns": duration,
}
POLICY_OPTIONS = {"allocator": "first_fit", "scheduling": "fcfs"}  # which take parameters, and what they are else
