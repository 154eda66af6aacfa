"""Sessions of coding agents: one JSON object a line, holding a session's requests and their prefix blocks.

What the data says, and how it is read:

- `t` is seconds since the session began; the file does not say when sessions began. They all start at time 0, in the
  file's order, unless `session_interval_s` spaces them evenly.
- Block ids are local to a session (`hash_id_scope`: "local"), so that ids of two sessions are never the same block. A
  session whose scope is "global" shares its ids with the other global ones.
- An entry of type "subagent" is not a request but holds some, whose `t` counts from the subagent's start. Its own `t`
  is when it returned: `t` less `duration_ms` falls on the end of the parent's request before it, throughout the data.
- Requests of all sessions are merged by time; those of equal time keep the file's order.
- A session is a tenant and a program, numbered in the file's order; its subagents are of the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Report
from sim.trace_options import Option, Reader
from workloads.readers._common import BYTES_PER_TOKEN, CallBuffer, count, ids_of, is_text, json_objects, member, time_of

_S = 1e9
_ID_BITS = 32  # a local id keeps the low bits, its session the high ones


def sniff(head: bytes, name: str) -> bool:
    first = head.lstrip().split(b"\n", 1)[0]
    return is_text(head) and first[:1] == b"{" and b'"requests"' in first and b'"block_size"' in first


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row for each block of each request. All sessions are held at once (4 bytes a row), to be merged by time."""
    calls: list[tuple] = []
    block_tokens = None
    for session, (line, entry) in enumerate(json_objects(stream, report)):
        size = count(entry, "block_size", line, report)
        if size == 0 or (block_tokens is not None and size != block_tokens):
            expected = "the same number of tokens in every session, at least 1"
            raise report("bad value", line=line, field="block_size", value=size, expected=expected)
        block_tokens = size
        shared = member(entry, "hash_id_scope", str, line, report) == "global" if "hash_id_scope" in entry else False
        start_s = session * options["session_interval_s"]
        for time_s, request in _requests(entry, options["subagents"], line, report):
            ids = ids_of(member(request, "hash_ids", list, line, report), "hash_ids", line, report)
            if ids.size and (ids.min() < 0 or ids.max() >= 1 << _ID_BITS):
                raise report("bad block id", line=line, value=int(ids.max()), expected="from 0 to 2^32 - 1")
            tokens = count(request, "in", line, report), count(request, "out", line, report)
            calls.append(
                (start_s + time_s, ids.astype(np.uint32), 0 if shared else session + 1, *tokens, session, line)
            )
    yield from _merged(calls, block_tokens or 1, options["bytes_per_token"])


def _requests(session: dict, subagents: bool, line: int, report: Report) -> Iterator[tuple[float, dict]]:
    """(seconds since the session began, request) of a session and, if wanted, of its subagents."""
    previous = 0.0
    for entry in member(session, "requests", list, line, report):
        time_s = time_of(entry, "t", line, report)
        if time_s < previous:
            raise report("not sorted by time: t", line=line, value=time_s, expected=f"at least {previous}")
        previous = time_s
        if entry.get("type") != "subagent":
            yield time_s, entry
        elif subagents:
            inner = list(_requests(entry, True, line, report))
            start_s = time_s - _duration_s(entry, inner, line, report)
            for offset_s, request in inner:
                yield max(start_s, 0.0) + offset_s, request


def _duration_s(subagent: dict, inner: list, line: int, report: Report) -> float:
    """How long a subagent ran; where the file does not say, until its last request."""
    if subagent.get("duration_ms") is not None:
        return time_of(subagent, "duration_ms", line, report) / 1e3
    return inner[-1][0] if inner else 0.0


def _merged(calls: list[tuple], block_tokens: int, bytes_per_token: int) -> Iterator[Chunk]:
    buffer = CallBuffer(block_tokens, block_tokens * bytes_per_token)
    order = sorted(range(len(calls)), key=lambda i: calls[i][0])  # stable
    for i in order:
        time_s, ids, scope, input_tokens, output_tokens, tenant, line = calls[i]
        raw = (np.int64(scope) << _ID_BITS) | ids.astype(np.int64)
        if buffer.add(raw, time_s * _S, input_tokens, output_tokens, tenant, line, program=tenant):
            yield buffer.chunk()
    if buffer.fields:
        yield buffer.chunk()


READER = Reader(
    "agentic",
    "coding-agent sessions (JSONL: a session a line, requests with t in s, in, out, hash_ids); a row a prefix block",
    ("jsonl",),
    sniff,
    read,
    {
        "bytes_per_token": BYTES_PER_TOKEN,
        "session_interval_s": Option(
            0.0, "seconds from one session's start to the next's; the file gives none", at_least=0.0, at_most=1e9
        ),
        "subagents": Option(True, "include the requests of subagents"),
    },
)
