"""LLM requests with the ids of their tokens (JSONL: input_toks, output_toks, arrival_time_ns, input_tok_ids).

A prompt is cut into blocks of `block_tokens` tokens. A block is the same as another where all tokens up to its end are
the same, as in a prefix cache: its id is a hash of the block before it and of its own tokens. A last, partial block
counts as a block of its own. Lines may also have `tenant`, `session_id` and `priority`, as mooncake's may.
"""

from __future__ import annotations

import hashlib
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


def sniff(head: bytes, name: str) -> bool:
    first = head.lstrip().split(b"\n", 1)[0]
    return is_text(head) and first[:1] == b"{" and b'"input_tok_ids"' in first


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row for each block of each prompt, in order; requests must be sorted by time."""
    block_tokens = options["block_tokens"]
    buffer = CallBuffer(block_tokens, block_tokens * options["bytes_per_token"])
    fields = CallFields(report)
    clock = Clock(1.0, report)
    for line, request in json_objects(stream, report):
        where = {"line": line}
        time = np.array([time_of(request, "arrival_time_ns", line, report)])
        tokens = ids_of(member(request, "input_tok_ids", list, line, report), "input_tok_ids", line, report)
        full = buffer.add(
            _prefix_ids(tokens, block_tokens),
            clock(time, lambda _row, where=where: where)[0],
            count(request, "input_toks", line, report),
            count(request, "output_toks", line, report),
            line=line,
            **fields(request, line),
        )
        if full:
            yield buffer.chunk()
    if buffer.fields:
        yield buffer.chunk()


def _prefix_ids(tokens: np.ndarray, block_tokens: int) -> np.ndarray:
    """int64[blocks] an id of each prefix of whole blocks (and of the whole prompt)."""
    prefix = hashlib.blake2b(digest_size=8)
    ids = []
    for start in range(0, tokens.size, block_tokens):
        prefix.update(tokens[start : start + block_tokens])
        ids.append(int.from_bytes(prefix.digest(), "little", signed=True))
    return np.array(ids, np.int64)


READER = Reader(
    "token_ids",
    "LLM requests with their tokens (JSONL: arrival_time_ns, input_toks, output_toks, input_tok_ids); a row a block",
    ("jsonl",),
    sniff,
    read,
    {
        "block_tokens": Option(16, "tokens in a block", at_least=1, at_most=1 << 20),
        "bytes_per_token": BYTES_PER_TOKEN,
    },
)
