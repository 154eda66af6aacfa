"""What the readers share: lines of a text file, JSON objects and their fields, groups of LLM calls."""

from __future__ import annotations

import json
import math
import re
import secrets
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace import Calls, text_ids
from sim.trace_building import Chunk, Report
from sim.trace_options import Option

KV_BYTES_PER_TOKEN = 131072
BYTES_PER_TOKEN = Option(
    KV_BYTES_PER_TOKEN,
    "bytes of KV cache a token; the default is Llama-3.1-8B in bf16: 32 layers x 8 KV heads x 128 x 2 (K and V) x 2 B",
    kind="bytes",
    at_least=1,
    at_most=1 << 40,
)
_LONGEST_LINE = 256 << 20
_ROWS_A_CHUNK = 1 << 20
_LARGEST_COUNT = 1 << 40
_LARGEST_TIME = 1 << 62


def is_text(head: bytes) -> bool:
    """Whether bytes from the start of a file are UTF-8 text (the last character may be cut)."""
    if not head or b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3
    return True


def json_objects(stream: BinaryIO, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line of JSON; blank lines are passed over."""
    number = 0
    while line := stream.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise report("line too long", line=number, expected=f"at most {_LONGEST_LINE >> 20} MiB")
        if line.isspace():
            continue
        try:
            value = _parsed(line)
        except (ValueError, RecursionError) as error:
            raise report(f"not a line of JSON: {error}", line=number) from error
        if not isinstance(value, dict):
            raise report("not a JSON object", line=number, value=value)
        yield number, value


_ID_LIST = re.compile(rb'("(?:hash_ids|input_tok_ids)" ?: ?)\[([\d, ]+)\]')
_LARGEST_ID = 1 << 62
_PLACEHOLDER = f"ids {secrets.token_hex(16)} "  # what no file says of itself


def _parsed(line: bytes) -> Any:
    """json.loads, but lists of ids become arrays without a Python object for each id, which is twice as fast.

    They are cut out of the text, and whatever numpy does not take as plain whole numbers is left in it for json.
    """
    arrays: dict[str, np.ndarray] = {}

    def cut(match: re.Match) -> bytes:
        array = _id_array(match[2])
        if array is None:
            return match[0]
        key = f"{_PLACEHOLDER}{len(arrays)}"
        arrays[key] = array
        return match[1] + json.dumps(key).encode()

    def put_back(pairs: dict[str, Any]) -> dict[str, Any]:
        return {name: arrays.get(value, value) if isinstance(value, str) else value for name, value in pairs.items()}

    return json.loads(_ID_LIST.sub(cut, line), object_hook=put_back)


def _id_array(text: bytes) -> np.ndarray | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            array = np.fromstring(text, np.int64, sep=",")
        except (ValueError, DeprecationWarning):
            return None
    whole = array.size == text.count(b",") + 1 and array.max() < _LARGEST_ID  # numpy cuts what is too large
    return array if whole else None


def member(value: dict[str, Any], key: str, kind: type, line: int, report: Report) -> Any:
    """value[key], which must be a `kind` (list, str or dict)."""
    if not isinstance(value, dict):
        raise report("not a JSON object", line=line, value=value)
    if key not in value:
        raise report("missing field", line=line, value=key, candidates=value)
    if not isinstance(value[key], (list, np.ndarray) if kind is list else kind):
        raise report("bad value", line=line, field=key, value=value[key], expected=_KINDS[kind])
    return value[key]


_KINDS = {list: "a list", str: "text", dict: "a JSON object"}


def count(value: dict[str, Any], key: str, line: int, report: Report) -> int:
    """value[key] as a whole number of tokens, 0 or more."""
    number = _number(value, key, line, report)
    if not 0 <= number <= _LARGEST_COUNT or int(number) != number:
        raise report("bad number", line=line, field=key, value=number, expected="a whole number, 0 or more")
    return int(number)


def time_of(value: dict[str, Any], key: str, line: int, report: Report) -> float | int:
    """value[key] as a finite number in the file's own unit, 0 or more."""
    number = _number(value, key, line, report)
    if not 0 <= number < _LARGEST_TIME:
        raise report("bad time", line=line, field=key, value=number, expected="a finite number, 0 or more")
    return number


def _number(value: dict[str, Any], key: str, line: int, report: Report) -> float | int:
    number = member(value, key, object, line, report)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(_bounded(number)):
        raise report("bad number", line=line, field=key, value=number, expected="a number")
    return number


def _bounded(number: float | int) -> float | int:
    """JSON has whole numbers of any length; those beyond a float's reach are as good as infinite."""
    return number if isinstance(number, float) or abs(number) < 1 << 1000 else math.inf


def ids_of(values: list | np.ndarray, key: str, line: int, report: Report) -> np.ndarray:
    """int64[n] block ids from a JSON list of whole numbers or of strings; may be empty."""
    if isinstance(values, np.ndarray):
        return values
    if not values:
        return np.empty(0, np.int64)
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):  # lists of several lengths
        array = np.empty((0, 0))
    if array.ndim == 1 and array.dtype.kind in "iu":
        return array.astype(np.int64)
    if all(isinstance(value, str) for value in values):
        return text_ids(values)
    odd = next((v for v in values if isinstance(v, bool) or not isinstance(v, int)), values)
    raise report("bad block id", line=line, field=key, value=odd, expected="64-bit whole numbers, or strings")


class CallBuffer:
    """Calls of an LLM trace, gathered into chunks of rows: one row for each block of a call's prompt."""

    def __init__(self, block_tokens: int, block_bytes: int):
        self.block_tokens, self.block_bytes = block_tokens, block_bytes
        self._clear()

    def _clear(self) -> None:
        self.ids: list[np.ndarray] = []
        self.fields: list[tuple] = []
        self.rows = 0

    def add(
        self,
        ids: np.ndarray,
        arrival_ns: float,
        input_tokens: int,
        output_tokens: int,
        tenant: int,
        line: int,
        program: int | None = None,
        priority: int | None = None,
    ) -> bool:
        """One call. Returns whether it is time to take a chunk. Programs and priorities: of all calls, or of none."""
        self.ids.append(ids)
        self.fields.append((arrival_ns, input_tokens, output_tokens, tenant, line, program, priority))
        self.rows += ids.size
        return self.rows >= _ROWS_A_CHUNK or len(self.fields) >= _ROWS_A_CHUNK

    def chunk(self) -> Chunk:
        """What was added since the last chunk."""
        *known, program, priority = zip(*self.fields, strict=True)
        arrival_ns, inputs, outputs, tenant, lines = (np.array(column) for column in known)
        optional = {"program": program, "priority": priority}
        kept = {name: np.array(column) for name, column in optional.items() if column[0] is not None}
        lengths = np.array([ids.size for ids in self.ids])
        first_row = np.concatenate([[0], np.cumsum(lengths)])
        chunk = {
            "id": np.concatenate(self.ids),
            "arrival_ns": np.repeat(arrival_ns.astype(np.float64), lengths),
            "size_bytes": np.full(self.rows, self.block_bytes, np.int64),
            "tenant": np.repeat(tenant.astype(np.int32), lengths),
            "calls": Calls(arrival_ns, inputs, outputs, first_row, tenant, self.block_tokens, **kept),
            "where": lambda row: {"line": int(lines[np.searchsorted(first_row, row, side="right") - 1])},
        }
        if "priority" in kept:
            chunk["priority"] = np.repeat(kept["priority"].astype(np.int32), lengths)
        self._clear()
        return chunk


class CallFields:
    """What a line may say of its call beside prompt and output; the first line decides whether all of them do.

    tenant, session_id: a whole number or text, numbered in order of first appearance; priority: a whole number, larger
    is more important.
    """

    NAMES = ("tenant", "session_id", "priority")

    def __init__(self, report: Report):
        self.report = report
        self.present: set[str] | None = None
        self.numbers: dict[str, dict[int | str, int]] = {"tenant": {}, "session_id": {}}

    def __call__(self, value: dict[str, Any], line: int) -> dict[str, int | None]:
        """tenant (0 where the file has none), program and priority (None where it has none) of a line's call."""
        present = {name for name in self.NAMES if name in value}
        if self.present is None:
            self.present = present
        if present != self.present:
            expected = "in every line, or in none"
            odd = min(present ^ self.present)
            raise self.report("a field of some calls only:", line=line, value=odd, expected=expected)
        return {
            "tenant": self._number("tenant", value, line) or 0,
            "program": self._number("session_id", value, line),
            "priority": self._priority(value, line) if "priority" in value else None,
        }

    def _number(self, name: str, value: dict[str, Any], line: int) -> int | None:
        if name not in value:
            return None
        said, known = value[name], self.numbers[name]
        if isinstance(said, bool) or not isinstance(said, int | str):
            raise self.report("bad value", line=line, field=name, value=said, expected="a whole number, or text")
        return known.setdefault(said, len(known))

    def _priority(self, value: dict[str, Any], line: int) -> int:
        said = value["priority"]
        if isinstance(said, bool) or not isinstance(said, int) or not -(1 << 31) <= said < 1 << 31:
            expected = "a whole number from -2^31 to 2^31 - 1"
            raise self.report("bad value", line=line, field="priority", value=said, expected=expected)
        return said
