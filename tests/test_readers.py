"""Readers: each format round trips, real traces give their known numbers, and bad input is one InputError."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim import registry
from sim.errors import InputError
from sim.trace import text_ids
from sim.trace_columns import NEVER
from sim.trace_loading import load_trace
from workloads.readers.oracle_general import RECORD

NAMES = ("agentic", "azure_llm", "csv", "mooncake", "oracle_general", "token_ids")


def shared(name):
    """The path of a public trace, or a skipped test."""
    folder = os.environ.get("MEMHIER_TRACE_PATH")
    if not folder:
        pytest.skip("needs the public traces: set MEMHIER_TRACE_PATH to the folder that has them")
    path = Path(folder.split(os.pathsep)[0]) / name
    if not path.is_file():
        pytest.skip(f"needs {name} in the first folder of MEMHIER_TRACE_PATH")
    return path


def records(ids, times=None, sizes=None, upcoming=None):
    """An oracleGeneral file."""
    table = np.zeros(len(ids), RECORD)
    table["id"] = ids
    table["time"] = np.arange(len(ids)) if times is None else times
    table["size"] = 512 if sizes is None else sizes
    if upcoming is None:
        later = {}
        upcoming = [-1] * len(ids)
        for i in range(len(ids) - 1, -1, -1):
            upcoming[i] = later.get(ids[i], -1)
            later[ids[i]] = i + 1  # counted from 1
    table["next"] = upcoming
    return table.tobytes()


def json_lines(*objects):
    return "".join(json.dumps(value) + "\n" for value in objects).encode()


def mooncake_line(time=0, ids=(1, 2), tokens=700, output=5):
    return {"timestamp": time, "input_length": tokens, "output_length": output, "hash_ids": list(ids)}


def agentic_request(t, ids, **more):
    return {"t": t, "type": "n", "in": 64 * len(ids), "out": 3, "hash_ids": list(ids), **more}


def agentic_session(*requests, block_size=64):
    return {"id": "s", "block_size": block_size, "hash_id_scope": "local", "requests": list(requests)}


def token_line(time, tokens):
    return {"input_toks": len(tokens), "output_toks": 2, "arrival_time_ns": time, "input_tok_ids": tokens}


SAMPLES = {
    "oracle_general": ("x.oracleGeneral", records([5, 6, 5, 7, 6])),
    "csv": ("x.csv", b"time,id,size,op\n1,5,10,r\n2,6,20,w\n2,5,10,r\n"),
    "mooncake": ("x.jsonl", json_lines(mooncake_line(), mooncake_line(3, [1, 3]), mooncake_line(9, []))),
    "agentic": (
        "x.jsonl",
        json_lines(agentic_session(agentic_request(0.0, [1]), agentic_request(2.5, [1, 2]))),
    ),
    "azure_llm": ("x.csv", b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n"),
    "token_ids": ("x.jsonl", json_lines(token_line(5, list(range(40))))),
}
COMPRESSED = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def load(data, name="x.csv", **options):
    """The trace of a file with these bytes; `reader` names its reader, all else are the reader's options."""
    reader = options.pop("reader", None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return load_trace(path, reader=reader, options=options)


def refused(message, data, name="x.csv", **options):
    with pytest.raises(InputError, match=message) as caught:
        load(data, name, **options)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_reader_is_registered():
    assert set(NAMES) <= set(registry.names(registry.READER))


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize("reader", SAMPLES)
def test_samples_are_recognised_however_compressed(reader, suffix):
    name, data = SAMPLES[reader]
    plain = load(data, name, reader=reader)
    assert load(COMPRESSED[suffix](data), name + suffix).digest == plain.digest
    assert load(COMPRESSED[suffix](data), "noextension" + suffix).digest == plain.digest


# ------------------------------------------------------------------------------------------------- oracle_general


def test_oracle_general():
    trace = load(records([5, 2**63 + 1, 5], times=[100, 100, 107], sizes=[512, 4096, 512]), "a.b.oracleGeneral.bin")
    assert trace.name == "a"
    assert trace.column("block").tolist() == [0, 1, 0]
    assert trace.address.tolist() == [5, 2**63 + 1 - 2**64]
    assert trace.column("arrival_ns").tolist() == [0.0, 0.0, 7e9]
    assert trace.column("size_bytes").tolist() == [512, 4096, 512]
    assert trace.column("next_access").tolist() == [2, NEVER, NEVER]


def test_oracle_general_next_access_is_checked_and_can_be_ignored():
    wrong = records([1, 2, 1], upcoming=[2, -1, -1])
    refused("record 1: wrong next access", wrong, "x.oracleGeneral")
    refused("beyond the end", records([1, 2], upcoming=[9, -1]), "x.oracleGeneral")
    trace = load(wrong, "x.oracleGeneral", next_access="recompute")
    assert "next_access" not in trace.columns
    assert trace.with_next_access().column("next_access").tolist() == [2, NEVER, NEVER]
    never = records([1, 2], upcoming=[NEVER, NEVER])
    assert load(never, "x.oracleGeneral").column("next_access").tolist() == [NEVER, NEVER]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (records([1, 2, 3])[:-5], "truncated: record 3 has 19 of 24 bytes"),
        (records([1, 2])[:7], "truncated: record 1 has 7 of 24"),
        (records([1, 2], sizes=[0, 1]), "record 1: bad size_bytes 0"),
        (records([1, 2, 3], times=[5, 9, 8]), "record 3: not sorted by time: time 8.*at least 9"),
    ],
)
def test_bad_oracle_general(data, message):
    refused(message, data, "x.oracleGeneral")


def test_cloudphysics():
    trace = load_trace(shared("cloudphysics_io.oracleGeneral"))
    assert (trace.n_requests, trace.n_blocks) == (113_872, 48_974)
    stored = trace.column("next_access")
    again = load_trace(shared("cloudphysics_io.oracleGeneral"), options={"next_access": "recompute"})
    assert np.array_equal(again.with_next_access().column("next_access"), stored)
    assert np.count_nonzero(stored != NEVER) == trace.n_requests - trace.n_blocks


def test_cloudphysics_csv_is_the_same_trace():
    text, binary = (load_trace(shared(f"cloudphysics_io.{kind}")) for kind in ("csv", "oracleGeneral"))
    for name in ("block", "arrival_ns"):
        assert np.array_equal(text.column(name), binary.column(name))
    # the binary form gives an object the size that it first had, every time
    assert np.array_equal(binary.column("size_bytes"), text.block_bytes[text.column("block")])
    assert np.bincount(text.column("op")).tolist() == [46_974, 66_898]


# ------------------------------------------------------------------------------------------------------------- csv


def test_csv_by_known_names():
    trace = load(b"Timestamp_us, Obj_ID ,SIZE,RW,tenant\n10, 0x1F,5,R,3\n12,-7 ,6,Write,0\n\n12.5,31,5,2a,1\n")
    assert trace.address.tolist() == [31, -7]
    assert trace.column("arrival_ns").tolist() == [0.0, 2000.0, 2500.0]
    assert trace.column("size_bytes").tolist() == [5, 6, 5]
    assert trace.column("op").tolist() == [0, 1, 1]
    assert trace.column("tenant").tolist() == [3, 0, 1]


def test_csv_by_mapping():
    data = b"a\tb\tc\td\n1\tx\t3\tfetch\n2\ty\t3\tput\n3\tx\t3\tput\n"
    mapping = {"id": "b", "arrival_ns": "a", "size_bytes": "c", "op": "d"}
    trace = load(data, "x.tsv", columns=mapping, time_unit="ms", op_names={"fetch": "read"})
    assert trace.address.tolist() == text_ids(["x", "y"]).tolist()
    assert trace.column("arrival_ns").tolist() == [0.0, 1e6, 2e6]
    assert trace.column("op").tolist() == [0, 1, 1]


def test_csv_leaves_out_what_is_mapped_to_null_and_fills_sizes():
    trace = load(b"id,time,op\n1,5,r\n2,4,r\n", columns={"arrival_ns": None}, size_bytes="4 KiB")
    assert trace.columns == {"block", "op", "size_bytes"}
    assert trace.block_bytes.tolist() == [4096, 4096]


def test_csv_without_header_and_with_byte_order_mark():
    assert load(b"7;1\n8;2\n", names=["id", "size"], delimiter="semicolon", reader="csv").address.tolist() == [7, 8]
    assert load(b"\xef\xbb\xbfid,size\n7,1\n").address.tolist() == [7]
    refused("x.csv:1: .*size.*'b'", b"7,b\n", names=["id", "size"], reader="csv")


def test_csv_ids_as_text_are_the_same_over_blocks(monkeypatch):
    from workloads.readers import _table

    rows = [f"{i % 50},{i}" for i in range(2000)]
    data = ("id,time\n" + "\n".join(rows)).encode()
    whole = load(data, ids="text")
    monkeypatch.setattr(_table, "_BLOCK_BYTES", 100)
    assert load(data, ids="text").digest == whole.digest
    assert load(data).column("block").tolist() == [i % 50 for i in range(2000)]
    refused(r"x\.csv:2002: id.*'word'.*whole number", data + b"\nword,2000\n")


def test_csv_names_the_line_in_any_block(monkeypatch):
    from workloads.readers import _table

    monkeypatch.setattr(_table, "_BLOCK_BYTES", 64)
    lines = ["time,id,size"] + [f"{i},{i},4" for i in range(300)]
    lines.insert(40, "")
    for line, text, message in [
        (200, "197,1,0", "size.*0"),
        (150, "148,x,4", "id.*'x'"),
        (77, "1,2", "expected 3 columns, found 2"),
        (250, "3,1,4", "not sorted by time: time 3.*at least 246"),
    ]:
        changed = [*lines[: line - 1], text, *lines[line:]]
        refused(rf"x\.csv:{line}: .*{message}", "\n".join(changed).encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"id,size\n", "empty"),
        (b"id,size\n\n\n", "empty"),
        (b"id,size\n1,0\n", "x.csv:2: size: bad number 0"),
        (b"id,size\n1,-3\n", "x.csv:2: size: bad number -3"),
        (b"id,size\n1,4.5\n", "x.csv:2: size: bad value '4.5'"),
        (b"id,size\n1,\n", "x.csv:2: size: bad value ''"),
        (b"id,time\n1,nan\n", "x.csv:2: bad time nan"),
        (b"id,time\n1,5\n1,soon\n", "x.csv:3: time: bad value 'soon'"),
        (b"id,op\n1,r\n1,frobnicate\n", "x.csv:3: op: bad value 'frobnicate'"),
        (b"a,b\n1,2\n", "no column of ids among"),
        (b"id,id\n1,2\n", "two columns of one name"),
        (b"id,size\n1,2,3\n", "x.csv:2: expected 2 columns, found 3"),
        (b"\x00\x01\x02\xff" * 50, "not text"),
        (b"id,size\n1,2\n\xff\xfe,3\n", "not text|not CSV"),
        (records([1, 2, 3]), "not text|no reader"),
    ],
)
def test_bad_csv(data, message):
    refused(message, data)


def test_bad_csv_mapping():
    with pytest.raises(InputError, match=r"missing column 'lbm'.*did you mean 'lbn'"):
        load(b"lbn,time\n1,2\n", columns={"id": "lbm"})
    with pytest.raises(InputError, match="did you mean 'size_bytes'"):
        load(b"lbn,time\n1,2\n", columns={"size_byte": "time"})
    with pytest.raises(InputError, match="read or write"):
        load(b"id,op\n1,x\n", op_names={"x": "scribble"})
    with pytest.raises(InputError, match="did you mean 'columns'"):
        load(b"id,op\n1,x\n", colums={})


# ------------------------------------------------------------------------------------------------------ LLM traces


def test_mooncake():
    data = json_lines(mooncake_line(1000, [4, 9]), mooncake_line(1000, []), mooncake_line(1500, [4, 8, 7], 1300, 9))
    trace = load(data, "x.jsonl", bytes_per_token=10)
    assert trace.address.tolist() == [4, 9, 8, 7]
    assert trace.column("arrival_ns").tolist() == [0.0, 0.0, 5e8, 5e8, 5e8]
    assert trace.column("size_bytes").tolist() == [5120] * 5
    calls = trace.calls
    assert calls.first_row.tolist() == [0, 2, 2, 5]
    assert calls.arrival_ns.tolist() == [0.0, 0.0, 5e8]
    assert (calls.input_tokens.tolist(), calls.output_tokens.tolist()) == ([700, 700, 1300], [5, 5, 9])
    assert calls.block_tokens == 512


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"timestamp": 5', "not a line of JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not a line of JSON"),
        (json.dumps({**mooncake_line(9), "input_length": -1}), "input_length: bad number -1"),
        (json.dumps({**mooncake_line(9), "input_length": 1.5}), "input_length: bad number 1.5"),
        (json.dumps({**mooncake_line(9), "output_length": True}), "output_length: bad number True"),
        (json.dumps({**mooncake_line(9), "timestamp": "9"}), "timestamp: bad number '9'"),
        ('{"timestamp": NaN, "hash_ids": []}', "timestamp: bad number nan"),
        (f'{{"timestamp": 1{"0" * 400}, "hash_ids": []}}', "timestamp: bad number"),
        (json.dumps({**mooncake_line(9), "hash_ids": 5}), "hash_ids: bad value 5; expected a list"),
        (json.dumps({**mooncake_line(9), "hash_ids": [1, None]}), "hash_ids: bad block id None"),
        (json.dumps({**mooncake_line(9), "hash_ids": [1.5]}), "hash_ids: bad block id 1.5"),
        (json.dumps({**mooncake_line(9), "hash_ids": [[1], [2, 3]]}), "hash_ids: bad block id"),
        (json.dumps({**mooncake_line(9), "hash_ids": [1 << 70]}), "hash_ids: bad block id"),
        (json.dumps(mooncake_line(3)), "not sorted by time: time 3.*at least 5"),
        (json.dumps({"timestmp": 7, "hash_ids": []}), "missing field 'timestamp'; did you mean 'timestmp'"),
    ],
)
def test_bad_mooncake(line, message):
    refused(rf"x\.jsonl:2: .*{message}", json_lines(mooncake_line(5)) + line.encode() + b"\n", "x.jsonl")


def test_mooncake_conversation():
    trace = load_trace(shared("mooncake_conversation.jsonl"))
    assert len(trace.calls.arrival_ns) == 12_031
    assert 1 - trace.n_blocks / trace.n_requests == pytest.approx(0.3664, abs=5e-5)
    assert trace.column("arrival_ns")[-1] == pytest.approx(3537e9, rel=1e-3)
    assert trace.block_bytes[0] == 512 * 131072


def test_agentic_sessions_are_interleaved_and_kept_apart():
    subagent = {"t": 9.0, "type": "subagent", "duration_ms": 6000, "requests": [agentic_request(0.5, [50])]}
    data = json_lines(
        agentic_session(agentic_request(0.0, [1, 2]), agentic_request(4.0, [1, 2, 3]), subagent),
        agentic_session(agentic_request(0.0, [1]), agentic_request(3.0, [1, 2])),
    )
    trace = load(data, "x.jsonl")
    # by time: A at 0, B at 0, B at 3, A's subagent at 9 - 6 + 0.5, A at 4
    assert trace.column("block").tolist() == [0, 1, 2, 2, 3, 4, 0, 1, 5]
    assert trace.calls.arrival_ns.tolist() == [0.0, 0.0, 3e9, 3.5e9, 4e9]
    assert trace.calls.tenant.tolist() == [0, 1, 1, 0, 0]
    assert trace.column("tenant").tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert trace.calls.block_tokens == 64
    assert len(load(data, "x.jsonl", subagents=False).calls.arrival_ns) == 4
    spaced = load(data, "x.jsonl", session_interval_s=10)
    assert spaced.calls.arrival_ns.tolist() == [0.0, 3.5e9, 4e9, 10e9, 13e9]


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (agentic_session(agentic_request(5.0, [1]), agentic_request(4.0, [1])), "not sorted by time: t 4.0.*5.0"),
        (agentic_session(agentic_request(-1.0, [1])), "t: bad time -1"),
        (agentic_session(agentic_request(0.0, [-1])), "bad block id"),
        (agentic_session(agentic_request(0.0, [1], out=-2)), "out: bad number -2"),
        (agentic_session(block_size=0), "block_size: bad value 0"),
        (agentic_session(block_size=32), "block_size: bad value 32; expected the same"),
        (agentic_session("request"), "not a JSON object"),
        ({"block_size": 64}, "missing field 'requests'"),
    ],
)
def test_bad_agentic(session, message):
    first = agentic_session(agentic_request(0.0, [1]))
    refused(rf"x\.jsonl:2: .*{message}", json_lines(first, session), "x.jsonl", reader="agentic")


def test_agentic_coding_sessions():
    """The whole file takes long; its first sessions show what it says."""
    whole = zstandard.ZstdDecompressor().stream_reader(shared("agentic_coding_sessions.jsonl.zst").open("rb"))
    lines = io.BufferedReader(whole)
    trace = load(b"".join(lines.readline() for _ in range(12)), "x.jsonl")
    assert len(np.unique(trace.calls.tenant)) == 12
    assert trace.n_requests > 10 * trace.n_blocks  # an agent sends its whole context again and again
    assert trace.calls.first_row[-1] == trace.n_requests
    rows = np.diff(trace.calls.first_row)
    assert (rows * 64 <= trace.calls.input_tokens).all()
    assert (trace.calls.input_tokens < (rows + 1) * 64).all()


def test_azure_llm():
    data = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n"
    trace = load(data + b"2024-05-10 00:00:00.5+00:00,2,0", "x.csv", bytes_per_token=100)
    assert trace.column("block").tolist() == [0, 1]
    assert trace.block_bytes.tolist() == [37_400, 200]
    gap = np.datetime64("2024-05-10T00:00:00.500000000") - np.datetime64("2023-11-16T18:15:46.680590000")
    assert trace.column("arrival_ns")[1] == gap / np.timedelta64(1, "ns")
    assert trace.calls.first_row.tolist() == [0, 1, 2]
    assert trace.calls.output_tokens.tolist() == [44, 0]
    refused("x.csv:3: TIMESTAMP: bad time 'today'", data + b"today,1,2\n")
    refused("x.csv:3: ContextTokens: bad number -1", data + b"2023-11-16 18:15:47,-1,2\n")
    refused("x.csv:3: not sorted by time", data + b"2023-11-16 18:15:46,1,2\n")


def test_azure_llm_2023():
    trace = load_trace(shared("azure_llm_2023_conv.csv"))
    assert trace.n_requests == trace.n_blocks == 19_366
    assert trace.calls.input_tokens[0] == 374


def test_token_ids_share_prefixes():
    tokens = list(range(40))
    data = json_lines(token_line(0, tokens), token_line(1, [*tokens[:32], 7]), token_line(2, [5, *tokens[1:]]))
    trace = load(data, "x.jsonl")
    assert trace.column("block").tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6]
    assert trace.calls.block_tokens == 16


def test_sharegpt():
    trace = load_trace(shared("sharegpt_llama31_8b_300.jsonl"))
    assert len(trace.calls.arrival_ns) == 300
    assert np.array_equal(np.diff(trace.calls.first_row), -(-trace.calls.input_tokens // 16))


# --------------------------------------------------------------------------------------- recognising and decompressing


def test_what_cannot_be_recognised_names_the_readers():
    refused("no reader knows this format.*agentic.*oracle_general", b"\x07\x09\x11" * 99, "noextension")
    refused("no reader knows this format.*agentic.*mooncake", json_lines({"a": 1}), "x.jsonl")
    with pytest.raises(InputError, match="did you mean 'mooncake'"):
        load(b"1", reader="moncake")


def test_more_than_one_reader_is_an_error():
    both = {**mooncake_line(), **agentic_session()}
    refused("more than one reader fits.*agentic, mooncake", json_lines(both), "x.jsonl")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_corrupt_and_truncated_compression(suffix):
    rng = np.random.default_rng(1)
    data = ("id,size\n" + "".join(f"{i},4\n" for i in rng.integers(0, 2**60, 20_000))).encode()
    good = COMPRESSED[suffix](data)
    name = f"x.csv{suffix}"
    assert load(good, name).n_requests == 20_000
    assert load(good[: len(good)] + COMPRESSED[suffix](b"7,8\n"), name).n_requests == 20_001  # frames one after another
    refused("corrupt or truncated", good[: len(good) // 2], name)
    refused("corrupt or truncated", good[:-1], name)
    middle = len(good) // 2
    refused(
        "corrupt or truncated|expected 2 columns|bad value|not text|not CSV",
        good[:middle] + bytes(b ^ 0x5A for b in good[middle : middle + 64]) + good[middle + 64 :],
        name,
    )
    refused("not a .* file, whatever", data, name)
    refused("empty", b"", name)


def test_expansion_is_bounded():
    bomb = zstandard.compress(b"id\n" + b"1\n" * 5_000_000)
    assert len(bomb) < 5000
    refused("more than 1048576 bytes", bomb, "x.csv.zst", max_bytes="1 MiB")
    endless = zstandard.compress(b"{" * (1 << 24))
    refused("not a line of JSON|no reader", endless, "x.jsonl.zst", reader="mooncake")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.sampled_from(NAMES), st.sampled_from(list(COMPRESSED)))
def test_arbitrary_bytes_are_a_trace_or_an_input_error(data, reader, suffix):
    for content in (data, COMPRESSED[suffix](data)):
        try:
            assert load(content, f"x{suffix}", reader=reader).n_requests > 0
        except InputError as error:
            assert "\n" not in str(error)


EDITS = [b",", b"\n", b"\r", b'"', b"-", b"0", b"e9", b"[]", b"{}", b"null"]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(NAMES), st.sampled_from(list(COMPRESSED)))
def test_mutated_files_are_a_trace_or_an_input_error(data, reader, suffix):
    name, valid = SAMPLES[reader]
    content = bytearray(COMPRESSED[suffix](valid))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 4))
        pieces = st.one_of(st.binary(max_size=4), st.sampled_from(EDITS))
        content[at : at + length] = data.draw(pieces)
    try:
        load(bytes(content), name + suffix, reader=data.draw(st.sampled_from([reader, None])))
    except InputError as error:
        assert "\n" not in str(error)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1)), min_size=1, max_size=60))
def test_oracle_general_round_trip(rows):
    ids, sizes = zip(*rows, strict=True)
    trace = load(records(ids, sizes=sizes), "x.oracleGeneral")
    assert trace.address[trace.column("block")].view(np.uint64).tolist() == list(ids)
    assert trace.column("size_bytes").tolist() == list(sizes)
    text = "id,size\n" + "".join(f"{i},{s}\n" for i, s in rows)
    assert np.array_equal(load(text.encode(), ids="text").column("block"), trace.column("block"))
