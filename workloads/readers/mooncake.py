"""Mooncake's LLM request traces: one JSON object a line, with the ids of the prompt's blocks of 512 tokens.

Lines may say more than Mooncake's own do: `tenant` and `session_id` (whole numbers or text) and `priority` (a whole
number, larger is more important). So this is also the layout to bring calls of one's own in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Clock, Report
from sim.trace_options import Option, Reader
from workloads.readers._common import (
    BYTES_PER_TOKEN,
    CallBuffer,
    CallFields,
    count,
    ids_of,
    is_text,
    json_objects,
    member,
    time_of,
)

_MS = 1e6


def sniff(head: bytes, name: str) -> bool:
    first = head.lstrip().split(b"\n", 1)[0]
    return is_text(head) and first[:1] == b"{" and b'"hash_ids"' in first and b'"timestamp"' in first


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row for each block of each request, in the order its request lists them; requests must be sorted by time."""
    block_tokens = options["block_tokens"]
    buffer = CallBuffer(block_tokens, block_tokens * options["bytes_per_token"])
    fields = CallFields(report)
    clock = Clock(_MS, report)
    for line, request in json_objects(stream, report):
        where = {"line": line}
        time = np.array([time_of(request, "timestamp", line, report)])
        full = buffer.add(
            ids_of(member(request, "hash_ids", list, line, report), "hash_ids", line, report),
            clock(time, lambda _row, where=where: where)[0],
            count(request, "input_length", line, report),
            count(request, "output_length", line, report),
            line=line,
            **fields(request, line),
        )
        if full:
            yield buffer.chunk()
    if buffer.fields:
        yield buffer.chunk()


READER = Reader(
    "mooncake",
    "Mooncake LLM requests (JSONL: timestamp in ms, input_length, output_length, hash_ids; tenant, session_id and"
    " priority if known); a row a prefix block",
    ("jsonl",),
    sniff,
    read,
    {
        "block_tokens": Option(512, "tokens in a block", at_least=1, at_most=1 << 20),
        "bytes_per_token": BYTES_PER_TOKEN,
    },
)
