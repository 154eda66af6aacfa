"""Delimited text in blocks of whole lines, parsed by pyarrow; an error's line is looked for once there is an error."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from sim.arrow_numbers import numbers_of
from sim.trace import text_ids
from sim.trace_building import Report

_BLOCK_BYTES = 8 << 20
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Block:
    """Some lines of a table. columns: field of ours -> pyarrow string array; first_line: the number of the first."""

    columns: Mapping[str, Any]
    headers: Mapping[str, str]  # field of ours -> the file's name of the column
    data: bytes
    first_line: int

    def __getitem__(self, name: str):
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def where(self, row: int) -> dict[str, int]:
        """The line of a row, as keywords of InputError; blank lines are no rows."""
        lines = enumerate(self.data.split(b"\n"), self.first_line)
        filled = (number for number, line in lines if line.strip(b"\r"))
        return {"line": next((number for i, number in enumerate(filled) if i == row), self.first_line)}


def header_line(stream: BinaryIO, report: Report) -> str:
    """The first line of the file, which is read."""
    line = stream.readline(_LONGEST_LINE)
    if not line:
        raise report("the trace is empty", expected="a line of column names, then rows")
    if len(line) == _LONGEST_LINE:
        raise report("line too long, so not CSV", line=1)
    return _text(line, 1, report)


def split_line(text: str, delimiter: str, line: int, report: Report) -> list[str]:
    """The cells of one line."""
    try:
        cells = next(csv.reader([text.strip("\r\n").removeprefix("\ufeff")], delimiter=delimiter), [])
    except csv.Error as error:
        raise report(f"not a line of CSV: {error}", line=line) from error
    return [cell.strip() for cell in cells]


def _text(line: bytes, number: int, report: Report) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise report("not text, so not CSV", line=number) from error
    if "\0" in text:
        raise report("not text, so not CSV", line=number)
    return text


def text_blocks(
    stream: BinaryIO,
    report: Report,
    wanted: Mapping[str, str],
    delimiter: str,
    names: list[str],
    line: int = 2,
) -> Iterator[Block]:
    """Blocks of rows with the wanted columns as text.

    wanted: field of ours -> the file's name of the column; names: all its columns; line: number of the first row's.
    """
    for header in wanted.values():
        if header not in names:
            raise report("missing column", line=1, value=header, candidates=names)
    if len(set(names)) < len(names):
        raise report("two columns of one name", line=1, value=delimiter.join(names))
    for data in whole_lines(stream, line, report):
        columns = _parsed(data, line, names, wanted, delimiter, report)
        if columns is not None:
            yield Block(columns, wanted, data, line)
        line += data.count(b"\n")


def whole_lines(stream: BinaryIO, line: int, report: Report) -> Iterator[bytes]:
    """The rest of the file in pieces of some megabytes that end with a line; `line` is the number of the first."""
    rest = b""
    while data := stream.read(_BLOCK_BYTES):
        data = rest + data
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) > _BLOCK_BYTES:
            raise report("line too long, so not a text of rows", line=line)
        rest = data[end:]
        if end:
            line += data.count(b"\n", 0, end)
            yield data[:end]
    if rest:
        yield rest


def _parsed(data: bytes, line: int, names, wanted: Mapping[str, str], delimiter: str, report: Report):
    """The wanted columns of a block of lines, or None where all are blank."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if not data.strip():
        return None
    headers = list(dict.fromkeys(wanted.values()))
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=2 * _BLOCK_BYTES),
            arrow_csv.ParseOptions(delimiter=delimiter),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(headers, pa.string()), include_columns=headers),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _bad_line(data, line, names, delimiter, report) or report(
            f"not CSV: {' '.join(str(error).split())[:200]}", line=line
        ) from error
    return {field: table.column(header).combine_chunks() for field, header in wanted.items()}


def _bad_line(data: bytes, first_line: int, names: list[str], delimiter: str, report: Report):
    """The error of the first line that does not have its columns, or None."""
    for number, line in enumerate(io.BytesIO(data), first_line):
        cells = split_line(_text(line, number, report), delimiter, number, report)
        if cells and len(cells) != len(names):
            return report(f"expected {len(names)} columns, found {len(cells)}:", line=number, value=_shown(line))
    return None


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()


def whole_numbers(
    block: Block,
    field: str,
    report: Report,
    at_least: int | None = None,
    at_most: int | None = None,
    expected: str = "a whole number",
) -> np.ndarray:
    """int64[n] of a column, decimal or 0x; uint64[n] where it does not fit otherwise."""
    import pyarrow as pa

    texts = trimmed(block[field])
    for kind in (pa.int64(), pa.uint64()):
        try:
            numbers = numbers_of(texts.cast(kind))
            break
        except pa.ArrowInvalid:
            continue
    else:
        raise bad_cell(block, field, report, _is_whole, expected)
    if numbers.size and at_least is not None and (numbers.min() < at_least or numbers.max() > at_most):
        row = int(np.argmax((numbers < at_least) | (numbers > at_most)))
        expected = f"a whole number from {at_least} to {at_most}"
        raise report(
            "bad number", **block.where(row), field=block.headers[field], value=numbers[row].item(), expected=expected
        )
    return numbers


def hashed(block: Block, field: str) -> np.ndarray:
    """int64[n] ids of a column of text; each distinct text is hashed once a block."""
    encoded = block[field].dictionary_encode()
    return text_ids(encoded.dictionary.to_pylist())[numbers_of(encoded.indices)]


def one_of(block: Block, field: str, codes: Mapping[str, int], report: Report, expected: str) -> np.ndarray:
    """int64[n] the code of each text of a column, whatever its case."""
    from pyarrow import compute

    encoded = compute.utf8_lower(trimmed(block[field])).dictionary_encode()
    words = encoded.dictionary.to_pylist()
    if not codes.keys() >= set(words):
        raise bad_cell(block, field, report, lambda cell: cell.lower() in codes, expected)
    return np.array([codes[word] for word in words], np.int64)[numbers_of(encoded.indices)]


def trimmed(texts):
    """Without the spaces around; untouched where there are none, which is the rule."""
    from pyarrow import compute

    return compute.utf8_trim_whitespace(texts)


def bad_cell(block: Block, field: str, report: Report, good, expected: str):
    """The error of the first cell of a column that is not `good`."""
    cells = trimmed(block[field]).to_pylist()
    row = next((i for i, cell in enumerate(cells) if not good(cell)), 0)
    return report("bad value", **block.where(row), field=block.headers[field], value=cells[row], expected=expected)


def _is_whole(cell: str) -> bool:
    try:
        return -(1 << 63) <= int(cell, 16 if cell.lower().startswith("0x") else 10) < 1 << 64 and "_" not in cell
    except ValueError:
        return False
