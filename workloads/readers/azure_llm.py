"""Azure's LLM inference traces (CSV: TIMESTAMP, ContextTokens, GeneratedTokens).

They say nothing about what prompts have in common, so each request is one object of its own, as large as its
context's KV cache: good for load and lengths, never for hit ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace import Calls
from sim.trace_building import Chunk, Clock, Report
from sim.trace_options import Reader
from workloads.readers._common import BYTES_PER_TOKEN, is_text
from workloads.readers._table import header_line, split_line, text_blocks, whole_numbers

_DATE = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[-+]\d\d:?\d\d)?"
COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def sniff(head: bytes, name: str) -> bool:
    return is_text(head) and head.split(b"\n", 1)[0].strip().decode("utf-8", "replace").split(",") == list(COLUMNS)


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row and a call for each request."""
    clock = Clock(1.0, report)
    first = 0
    names = split_line(header_line(stream, report), ",", 1, report)
    for block in text_blocks(stream, report, dict(zip(COLUMNS, COLUMNS, strict=True)), ",", names):
        times = _nanoseconds(block, report)
        context = whole_numbers(block, "ContextTokens", report, at_least=1, at_most=1 << 40)
        generated = whole_numbers(block, "GeneratedTokens", report, at_least=0, at_most=1 << 40)
        n = context.size
        arrival_ns = clock(times, block.where)
        calls = Calls(arrival_ns, context, generated, np.arange(n + 1), np.zeros(n, np.int32), 0)
        yield {
            "id": np.arange(first, first + n),
            "arrival_ns": arrival_ns,
            "size_bytes": np.minimum(context, (1 << 62) // options["bytes_per_token"]) * options["bytes_per_token"],
            "calls": calls,
            "where": block.where,
        }
        first += n


def _nanoseconds(block, report: Report) -> np.ndarray:
    """int64[n] since 1970, from ISO dates with up to nine decimals, with or without a time zone."""
    import pandas as pd

    texts = block["TIMESTAMP"].to_pandas()
    dates = texts.where(texts.str.fullmatch(_DATE))  # pandas alone would also take "today"
    times = pd.to_datetime(dates, format="ISO8601", utc=True, errors="coerce")
    bad = times.isna().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise report(
            "bad time",
            **block.where(row),
            field="TIMESTAMP",
            value=texts.iloc[row],
            expected="such as 2023-11-16 18:15:46.6805900",
        )
    return times.dt.as_unit("ns").to_numpy(dtype="datetime64[ns]").astype(np.int64)


READER = Reader(
    "azure_llm",
    "Azure LLM inference (CSV: TIMESTAMP, ContextTokens, GeneratedTokens); no prefix hashes, so a request is one object"
    " of its own, as large as its context's KV cache",
    ("csv",),
    sniff,
    read,
    {"bytes_per_token": BYTES_PER_TOKEN},
)
