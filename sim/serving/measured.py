"""A run of a real serving engine, as a folder of files, read to be compared with ours.

    requests.jsonl    a call a line: request_id, input_toks, output_toks, queued_ts, first_token_ts, last_token_ts in
                      seconds; scheduled_ts and arrival_time where known
    meta.json         model, engine_kwargs (max_num_seqs, max_num_batched_tokens, ...), dataset_path; kv_cache and
                      resolved_config, what the engine made of it, where known
    timeseries.csv    t in seconds, running, waiting, ... a row a second; may be missing

That is how LLMServingSim's bench writes down what vLLM v1 says of itself.

**Which clock.** `arrival_time` is wall clock of whoever called; `queued_ts` and all later times are the engine's
monotonic clock. The engine takes in new calls between two iterations: `queued_ts` is when it did, so that several calls
share it to within microseconds, and what a call waited for the running iteration to end is not in it. TTFT and latency
from `queued_ts` are what the engine (and that bench's own validation) reports; those from `arrival_time` are what
whoever called sees, longer by that wait. To put `arrival_time` on the engine's clock, the two clocks are taken to be as
far apart as they are in the call that was taken in fastest, so that `client_ttft_ns` is too short by that one call's
way into the engine, and by the way of the token out of it. Clocks that run at different rates are not corrected.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.serving.measured_dataset import Wanted, find_dataset
from sim.serving.measured_engine import Engine, Meta, engine_of, text_of
from sim.trace import Calls, Trace

ARRIVALS = ("queued", "client")
_S = 1e9
_SAME_CLOCK_S = 1e5  # a call takes less than a day; clocks further apart are two clocks
_MISSING = object()


class Requests(NamedTuple):
    """n calls in order of arrival; float64[n] times from when the engine took in the first."""

    line: np.ndarray  # int64[n] of requests.jsonl, from 0: the call's place in the dataset
    input_tokens: np.ndarray  # int64[n]
    output_tokens: np.ndarray  # int64[n]
    arrival_ns: np.ndarray  # when the engine took it in (queued_ts)
    client_arrival_ns: np.ndarray | None  # when it was sent, on the same clock; may be below 0; None where not known
    scheduled_ns: np.ndarray | None  # first
    first_token_ns: np.ndarray
    finish_ns: np.ndarray

    @property
    def ttft_ns(self) -> np.ndarray:
        """float64[n] as the engine reports it."""
        return self.first_token_ns - self.arrival_ns

    @property
    def client_ttft_ns(self) -> np.ndarray | None:
        """float64[n] as whoever called sees it; None where not known."""
        return None if self.client_arrival_ns is None else self.first_token_ns - self.client_arrival_ns

    @property
    def tpot_ns(self) -> np.ndarray:
        """float64[n] mean time between tokens; NaN for a call with one."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        return (self.finish_ns - self.first_token_ns) / gaps

    @property
    def latency_ns(self) -> np.ndarray:
        """float64[n] as the engine reports it."""
        return self.finish_ns - self.arrival_ns

    @property
    def client_latency_ns(self) -> np.ndarray | None:
        """float64[n] as whoever called sees it; None where not known."""
        return None if self.client_arrival_ns is None else self.finish_ns - self.client_arrival_ns

    @property
    def makespan_ns(self) -> float:
        """From the first arrival at the engine to the last token."""
        return float(self.finish_ns.max())


class Series(NamedTuple):
    """float64[s] what the engine said of itself at t_s, on its own count from about the start of the run on.

    running, waiting and kv_cache_pct are as of the last iteration before t_s; rates are of the interval before it.
    """

    t_s: np.ndarray
    running: np.ndarray
    waiting: np.ndarray
    kv_cache_pct: np.ndarray | None
    prompt_throughput: np.ndarray | None  # tokens a second, of prompts that were completed, cached tokens included
    prompt_compute_throughput: np.ndarray | None
    prompt_cached_throughput: np.ndarray | None
    gen_throughput: np.ndarray | None
    preempted: np.ndarray | None


class Replayable(NamedTuple):
    """A measured run as a trace. dataset: the file whose tokens it has; warning: why it has none, or what is odd."""

    trace: Trace
    dataset: Path | None
    warning: str | None


@dataclass(frozen=True)
class Measured:
    """A folder that was read.

    series: None where there is no timeseries.csv; series_start_ns: when it began to count, on the clock of the requests
    (to within a tenth of a second: it is when the run says that it started); None where not known. hardware: as
    meta.json has it.
    """

    folder: Path
    model: str
    engine: Engine
    requests: Requests
    series: Series | None
    series_start_ns: float | None
    dataset_path: str | None
    dataset_sha256: str | None
    hardware: Mapping[str, Any] = field(default_factory=dict)

    def trace(self, arrivals: str = "queued", bytes_per_token: int = 1) -> Replayable:
        """The calls as they arrived, with the prefix hashes of the dataset if it is on this machine.

        arrivals: "queued" (when the engine took a call in, which here was when an iteration of that run ended) or
        "client" (when it was sent, so that our engine takes it in at the end of an iteration of its own). The dataset
        is looked for by its checksum in the catalogue and by its name in the folder, the one above and those of
        MEMHIER_TRACE_PATH; it is taken where the lengths of all calls agree. Raises InputError for unknown arrivals.
        """
        requests = self.requests
        if arrivals not in ARRIVALS:
            raise InputError("unknown arrivals", value=arrivals, candidates=ARRIVALS)
        if arrivals == "client" and requests.client_arrival_ns is None:
            problem = "arrivals of the client are asked for, and no call has an arrival_time"
            raise InputError(problem, file=self.folder / _REQUESTS, expected="arrivals: queued")
        when = requests.arrival_ns if arrivals == "queued" else requests.client_arrival_ns
        order = np.argsort(when, kind="stable")
        arrival_ns = when[order] - when[order[0]]
        lengths = (requests.line, requests.input_tokens, requests.output_tokens)
        wanted = Wanted(self.folder, self.dataset_path, self.dataset_sha256, *lengths)
        dataset, path, warning = find_dataset(wanted, self.engine.block_tokens)
        line = requests.line[order]
        inputs, outputs = requests.input_tokens[order], requests.output_tokens[order]
        if dataset is None:
            calls = Calls(arrival_ns, inputs, outputs, np.arange(line.size + 1), np.zeros(line.size), 0)
            sizes = inputs * bytes_per_token
            bare = Trace.from_columns(
                self.folder.name, ids=np.arange(line.size), arrival_ns=arrival_ns, size_bytes=sizes, calls=calls
            )
            return Replayable(bare, None, warning)
        starts, block_tokens = dataset.calls.first_row, dataset.calls.block_tokens
        counts = np.diff(starts)[line]
        first_row = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(starts[line] - first_row[:-1], counts) + np.arange(first_row[-1])
        trace = Trace.from_columns(
            self.folder.name,
            ids=dataset.address[dataset.column("block")[rows]],
            arrival_ns=np.repeat(arrival_ns, counts),
            size_bytes=np.full(rows.size, block_tokens * bytes_per_token),
            calls=Calls(arrival_ns, inputs, outputs, first_row, np.zeros(line.size), block_tokens),
        )
        return Replayable(trace, path, warning)


def load_measured(folder: str | os.PathLike) -> Measured:
    """The run in a folder. Raises InputError for what is missing, malformed or impossible in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "no such folder of a measured run", value=str(folder), expected=f"one with {_REQUESTS} and {_META}"
        )
    meta = Meta(folder / _META)
    requests, first_sent_s = _requests(folder / _REQUESTS)
    told = meta.optional(int, "num_requests")
    if told is not None and told != requests.line.size:
        problem = "not as many calls as the run had:"
        raise InputError(problem, file=folder / _REQUESTS, value=requests.line.size, expected=f"{told}, as in {_META}")
    return Measured(
        folder=folder,
        model=meta.needed(str, "model", "engine_kwargs.model", "resolved_config.model_config.model"),
        engine=engine_of(meta),
        requests=requests,
        series=_series(folder / _SERIES),
        series_start_ns=_start_ns(meta, first_sent_s),
        dataset_path=meta.optional(str, "dataset_path"),
        dataset_sha256=meta.optional(str, "dataset_hash"),
        hardware=meta.optional(dict, "hardware") or {},
    )


_REQUESTS, _META, _SERIES = "requests.jsonl", "meta.json", "timeseries.csv"


# ----------------------------------------------------------------------------------------------------------- meta.json


def _start_ns(meta: Meta, first_sent_s: float | None) -> float | None:
    """When the run started, counted from the first call, both as the wall clock has it."""
    started = meta.optional(str, "started_at")
    if started is None or first_sent_s is None:
        return None
    try:
        start = datetime.fromisoformat(started)
    except ValueError as error:
        raise InputError("bad time", file=meta.path, field="started_at", value=started, expected="ISO 8601") from error
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    before_s = first_sent_s - start.timestamp()
    return -before_s * _S if 0 <= before_s < _SAME_CLOCK_S else None


# ------------------------------------------------------------------------------------------------------ requests.jsonl


def _requests(path: Path) -> tuple[Requests, float | None]:
    """The calls, and when the first was sent by the wall clock, where known."""
    calls = [_call(path, number, value) for number, value in _json_lines(path)]
    if not calls:
        raise InputError("no calls", file=path, expected="one a line")
    inputs, outputs = (np.array([call[name] for call in calls], np.int64) for name in ("input_toks", "output_toks"))
    times = {name: _seconds(path, calls, name) for name in ("queued_ts", "arrival_time", "scheduled_ts")}
    first, last = (np.array([call[name] for call in calls]) for name in ("first_token_ts", "last_token_ts"))
    sent, queued = times["arrival_time"], times["queued_ts"]
    if queued is None:
        queued = _on_engine_clock(path, sent, first)
    order = np.argsort(queued, kind="stable")
    origin = queued[order[0]]

    def since(seconds: np.ndarray | None) -> np.ndarray | None:
        return None if seconds is None else (seconds[order] - origin) * _S

    stages = {
        "queued_ts": queued,
        "scheduled_ts": times["scheduled_ts"],
        "first_token_ts": first,
        "last_token_ts": last,
    }
    _check_stages(path, calls, stages)
    requests = Requests(
        line=order,
        input_tokens=inputs[order],
        output_tokens=outputs[order],
        arrival_ns=since(queued),
        client_arrival_ns=since(_sent_on(queued, sent)),
        scheduled_ns=since(times["scheduled_ts"]),
        first_token_ns=since(first),
        finish_ns=since(last),
    )
    return requests, None if sent is None else float(sent.min())


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"not a line of JSON: {' '.join(str(error).split())[:120]}", file=path, line=number
            ) from error
        if not isinstance(value, dict):
            raise InputError("not a JSON object", file=path, line=number, value=value)
        yield number, value


def _call(path: Path, number: int, value: dict[str, Any]) -> dict[str, Any]:
    """A line's numbers, checked. A time of null or 0 (which vLLM starts from) is one that never came."""
    call: dict[str, Any] = {"number": number}
    for name in ("input_toks", "output_toks"):
        tokens = value.get(name, _MISSING)
        if tokens is _MISSING:
            raise InputError("missing field", file=path, line=number, value=name, candidates=value)
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens < 1 << 40:
            expected = "a whole number, 1 or more"
            raise InputError("bad number", file=path, line=number, field=name, value=tokens, expected=expected)
        call[name] = tokens
    for name in _TIMES:
        time = value.get(name)
        if time is not None and (
            isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < _LATEST_S
        ):
            raise InputError("bad time", file=path, line=number, field=name, value=time, expected="seconds, 0 or more")
        call[name] = float(time) if time else None
    for name in ("first_token_ts", "last_token_ts"):
        if name not in value:
            raise InputError("missing field", file=path, line=number, value=name, candidates=value)
        if call[name] is None:
            who = value.get("request_id", f"line {number}")
            expected = "only calls that were completed"
            raise InputError(
                f"a call that never finished (no {name}):", file=path, line=number, value=who, expected=expected
            )
    return call


_TIMES = ("arrival_time", "queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
_LATEST_S = 1e11


def _seconds(path: Path, calls: list[dict[str, Any]], name: str) -> np.ndarray | None:
    """float64[n] a time that not every file has; None where not all calls have it."""
    known = [call[name] is not None for call in calls]
    if all(known):
        return np.array([call[name] for call in calls])
    if any(known) and name == "queued_ts":
        number = calls[known.index(False)]["number"]
        raise InputError("some calls have it, others do not:", file=path, line=number, value=name)
    return None


def _on_engine_clock(path: Path, sent: np.ndarray | None, first_token: np.ndarray) -> np.ndarray:
    """Arrivals where there is no `queued_ts`: those of the client, if they are on the clock of the tokens."""
    if sent is None:
        raise InputError("no arrivals:", file=path, value="queued_ts", expected="queued_ts, or arrival_time")
    if np.abs(first_token - sent).max() > _SAME_CLOCK_S:
        problem = "arrival_time is on another clock than first_token_ts, and there is no"
        raise InputError(problem, file=path, value="queued_ts", expected="it, to know when calls arrived")
    return sent


def _sent_on(queued: np.ndarray, sent: np.ndarray | None) -> np.ndarray | None:
    """float64[n] s when calls were sent, on the engine's clock."""
    if sent is None or np.abs(queued - sent).max() <= _SAME_CLOCK_S:
        return sent
    return sent + (queued - sent).min()


def _check_stages(path: Path, calls: list[dict[str, Any]], stages: dict[str, np.ndarray | None]) -> None:
    known = [(name, times) for name, times in stages.items() if times is not None]
    for (before, earlier), (after, later) in pairwise(known):
        if (later < earlier).any():
            at = int(np.argmax(later < earlier))
            raise InputError(
                f"clocks run backwards: {after}",
                file=path,
                line=calls[at]["number"],
                value=float(later[at]),
                expected=f"at least {float(earlier[at])}, its {before}",
            )


# ------------------------------------------------------------------------------------------------------ timeseries.csv


def _series(path: Path) -> Series | None:
    if not path.exists():
        return None
    rows = list(csv.reader(text_of(path).splitlines()))
    if len(rows) < 2:
        raise InputError("no rows", file=path, expected="a header, and a row a second")
    header, columns = [name.strip() for name in rows[0]], {}
    for name in ("t", "running", "waiting"):
        if name not in header:
            raise InputError("missing column", file=path, value=name, candidates=header)
    for name in {"t", *Series._fields} & {*header}:
        columns[name] = np.array(
            [_cell(path, number, row, header.index(name), name) for number, row in _numbered(rows)]
        )
    t_s = columns.pop("t")
    back = np.flatnonzero(np.diff(t_s) <= 0)
    if back.size:
        at = int(back[0]) + 1
        expected = f"more than {t_s[at - 1]}, the time before it"
        raise InputError("clocks run backwards: t", file=path, line=at + 2, value=float(t_s[at]), expected=expected)
    return Series(t_s, **{name: columns.get(name) for name in Series._fields[1:]})


def _numbered(rows: list[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((number, row) for number, row in enumerate(rows[1:], 2) if row)


def _cell(path: Path, number: int, row: list[str], at: int, name: str) -> float:
    text = row[at] if at < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError("bad number", file=path, line=number, field=name, value=text, expected="a number, 0 or more")
    return value
