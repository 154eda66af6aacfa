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
import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim import registry
from sim.arrow_numbers import numbers_of
from sim.errors import InputError
from sim.trace import text_ids
from sim.trace_columns import NEVER
from sim.trace_loading import load_trace
from workloads.readers.oracle_general import RECORD
from workloads.readers.vscsi import RECORDS as VSCSI

NAMES = (
    *("agentic", "arc", "azure_llm", "csv", "drmemtrace", "lackey", "lirs", "mooncake", "msr", "oracle_general"),
    *("token_ids", "twitter", "vscsi"),
)


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


def vscsi(version=1, commands=(0x2A, 0x28, 0x2A), blocks=(9, 4, 9), sizes=(512, 4096, 512), times=(70, 71, 90)):
    table = np.zeros(len(commands), VSCSI[version])
    table["version"], table["serial"] = version << 8, np.arange(len(commands)) + (1 << 31)
    table["command"], table["block"], table["bytes"], table["time"] = commands, blocks, sizes, times
    return table.tobytes()


TWITTER = b"7,key-a,5,10,1,get,0\n7,key-b,5,0,2,set,60\n9,key-a,5,10,1,gets,0\n9,key-b,5,0,1,delete,0\n"
MSR = b"100,usr,0,Read,8192,4096,33\n104,usr,1,Write,4000,200,5\n104,usr,0,Read,12288,5000,6\n"
LACKEY = b"==9== Lackey\nI  04000000,3\n S 1ffeffe7e,8\nI  04000003,5\n L 04222cac,4\n M 0000007c,8\n"
DRMEMTRACE = (
    b"Format: <instr address>,<(r)ead/(w)rite>,<data size>,<data address>\n0x7f01,w,8,0x7ffe10\n0x7f09,r,4,0x20\n"
)

SAMPLES = {
    "arc": ("x.lis", b"100 3 0 0\n7 1 0 1\n101 2 0 2\n"),
    "drmemtrace": ("x.memtrace", DRMEMTRACE),
    "lackey": ("x.lackey", LACKEY),
    "lirs": ("x.trc", b"5\n7\n5\n*\n9\n"),
    "msr": ("x.csv", MSR),
    "twitter": ("x.csv", TWITTER),
    "vscsi": ("x.vscsi", vscsi()),
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


def test_csv_further_columns():
    data = b"id,cost,ttl_ms,frequency_hint,prediction,priority\n1,2.5,3,7,19,-4\n2,0,,0,,2\n3,1,inf,1,0.5,0\n"
    trace = load(data)
    assert trace.column("cost").tolist() == [2.5, 0.0, 1.0]
    assert trace.column("ttl_ns").tolist() == [3e6, np.inf, np.inf]
    assert trace.column("frequency_hint").tolist() == [7, 0, 1]
    assert trace.column("prediction")[[0, 2]].tolist() == [19.0, 0.5] and np.isnan(trace.column("prediction")[1])
    assert trace.column("priority").tolist() == [-4, 2, 0]
    mapped = load(b"key,score\n1,5\n", columns={"priority": "score"})
    assert mapped.columns == {"block", "priority"}
    for row, message in [
        (b"1,-1,1,1,1,1", "bad cost -1.0"),
        (b"1,,1,1,1,1", "bad cost nan"),
        (b"1,x,1,1,1,1", "x.csv:2: cost: bad value 'x'"),
        (b"1,1,-1,1,1,1", "bad ttl_ns"),
        (b"1,1,1,-1,1,1", "bad frequency_hint -1"),
        (b"1,1,1,1.5,1,1", "frequency_hint: bad value '1.5'"),
        (b"1,1,1,1,1,3000000000", "bad priority 3000000000"),
    ]:
        refused(message, data.split(b"\n")[0] + b"\n" + row + b"\n")


# ------------------------------------------------------------------------------------------------- block and key traces


def test_twitter():
    trace = load(TWITTER)
    assert trace.column("block").tolist() == [0, 1, 0]
    assert trace.address.tolist() == text_ids(["key-a", "key-b"]).tolist()
    assert trace.column("arrival_ns").tolist() == [0.0, 0.0, 2e9]
    assert trace.column("size_bytes").tolist() == [15, 5, 15]
    assert trace.column("op").tolist() == [0, 1, 0]
    assert trace.column("tenant").tolist() == [1, 2, 1]
    assert trace.column("ttl_ns").tolist() == [np.inf, 60e9, np.inf]
    assert load(TWITTER, deletes="write").column("op").tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"9,key,5,10,1,frob,0", "x.csv:5: operation: bad value 'frob'; expected one of get"),
        (b"9,key,5,-10,1,get,0", "x.csv:5: value_size: bad number -10"),
        (b"9,key,5,10,x,get,0", "x.csv:5: client_id: bad value 'x'"),
        (b"9,key,5,10,1,get", "x.csv:5: expected 7 columns, found 6"),
        (b"8,key,5,10,1,get,0", "x.csv:5: not sorted by time: time 8"),
        (b"9,key,5,10,1,get,never", "x.csv:5: ttl: bad value 'never'"),
    ],
)
def test_bad_twitter(line, message):
    refused(message, TWITTER + line + b"\n")


def test_twitter_errors_after_skipped_lines_name_their_line():
    refused("x.csv:6: not sorted", TWITTER + b"9,key-b,5,0,1,delete,0\n1,key-a,5,10,1,get,0\n")


def test_msr():
    trace = load(MSR)
    assert trace.address.tolist() == [8192, (1 << 52) + 4000, 12288]
    assert trace.column("arrival_ns").tolist() == [0.0, 400.0, 400.0]
    assert trace.column("size_bytes").tolist() == [4096, 200, 5000]
    assert trace.column("op").tolist() == [0, 1, 0]
    assert trace.column("tenant").tolist() == [0, 1, 0]
    cut = load(MSR, block_bytes="4 KiB")
    assert cut.address[cut.column("block")].tolist() == [2, 1 << 52, (1 << 52) + 1, 3, 4]
    assert cut.column("size_bytes").tolist() == [4096] * 5
    assert cut.column("arrival_ns").tolist() == [0.0, 400.0, 400.0, 400.0, 400.0]


def test_msr_times_may_be_held():
    late = MSR + b"90,usr,0,Read,0,1,1\n200,usr,0,Read,0,1,1\n"
    refused("x.csv:4: not sorted by time: time 90", late)
    assert load(late, backwards="hold").column("arrival_ns").tolist() == [0.0, 400.0, 400.0, 400.0, 10_000.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"105,usr,0,Erase,0,1,1", "x.csv:4: type: bad value 'Erase'; expected Read or Write"),
        (b"105,usr,0,Read,-1,1,1", "x.csv:4: offset: bad number -1"),
        (b"105,usr,0,Read,1,0,1", "x.csv:4: size: bad number 0"),
        (b"105,usr,0,Read,1", "x.csv:4: expected 7 columns, found 5"),
    ],
)
def test_bad_msr(line, message):
    refused(message, MSR + line + b"\n")


def test_a_request_of_too_many_blocks():
    line = b"100,usr,0,Read,0,1000000000000,33\n"
    refused("x.csv:1: too long a request: blocks 1000000000000", line, block_bytes=1)


@pytest.mark.parametrize("version", [1, 2])
def test_vscsi(version):
    trace = load(vscsi(version), "x.vscsi")
    assert trace.address.tolist() == [9, 4]
    assert trace.column("size_bytes").tolist() == [512, 4096, 512]
    assert trace.column("arrival_ns").tolist() == [0.0, 1e3, 20e3]
    assert trace.column("op").tolist() == [1, 0, 1]
    cut = load(vscsi(version), "x.vscsi", block_bytes=2048)
    assert cut.address[cut.column("block")].tolist() == [2, 1, 2, 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (vscsi()[:-5], "truncated: record 3 has 27 of 32 bytes"),
        (vscsi(2)[:-1], "truncated: record 3 has 39 of 40 bytes"),
        (vscsi(commands=(0x2A, 0x12, 0x28)), "record 2: command '0x12'.*other_commands: skip"),
        (vscsi(sizes=(1, 0, 1)), "record 2: bad bytes 0"),
        (vscsi(times=(9, 8, 9)), "record 2: not sorted by time: time 8"),
        (vscsi(times=(9, 1 << 63, 9)), "record 2: bad time"),
        (vscsi() + vscsi(2), "record 4: bad version 0; expected 1|truncated"),
        (bytes(320), "not a vscsi trace of version 1 or 2"),
        (b"", "empty"),
    ],
)
def test_bad_vscsi(data, message):
    refused(message, data, "x.vscsi")


def test_vscsi_commands_may_be_skipped():
    data = vscsi(commands=(0x12, 0x28, 0x12), sizes=(0, 8, 0))
    trace = load(data, "x.vscsi", other_commands="skip")
    assert (trace.n_requests, trace.address.tolist()) == (1, [4])


def test_arc():
    trace = load(b"100 3 0 0\n7 1 0 1\n101 2 0 2\n", "x.lis")
    assert trace.address[trace.column("block")].tolist() == [100, 101, 102, 7, 101, 102]
    assert trace.columns == {"block", "size_bytes"} and trace.block_bytes.tolist() == [512] * 4
    assert load(b"1 1 0 0\n", "x.lis", block_bytes="4 KiB").block_bytes.tolist() == [4096]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"5 0 0 3", "x.lis:4: blocks: bad number 0"),
        (b"5 x 0 3", "x.lis:4: blocks: bad value 'x'"),
        (b"-5 1 0 3", "x.lis:4: start: bad number -5"),
        (b"5 1 0", "x.lis:4: expected 4 columns, found 3"),
    ],
)
def test_bad_arc(line, message):
    refused(message, SAMPLES["arc"][1] + line + b"\n", "x.lis")


def test_lirs():
    trace = load(b"5\r\n7\n\n 5\n*\n9", "x.trc")
    assert trace.address[trace.column("block")].tolist() == [5, 7, 5, 9]
    assert trace.columns == {"block"}
    assert load(b"5\n", "x.trc", size_bytes="4 KiB").block_bytes.tolist() == [4096]
    refused("x.trc:4: bad value 'six'", b"5\n7\n\nsix\n", "x.trc")
    refused("x.trc:2: bad value '-7'", b"5\n-7\n", "x.trc")
    refused("x.trc:1: bad value '5 6'", b"5 6\n", "x.trc", reader="lirs")
    refused("empty", b"*\n\n", "x.trc", reader="lirs")


# --------------------------------------------------------------------------------------------------- address traces


def test_lackey_is_folded_into_cache_lines():
    trace = load(LACKEY, "x.lackey")
    lines = [0x1FFEFFE7E >> 6, (0x1FFEFFE7E >> 6) + 1, 0x04222CAC >> 6, 1, 2]
    assert trace.address[trace.column("block")].tolist() == lines
    assert trace.column("arrival_ns").tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert trace.column("op").tolist() == [1, 1, 0, 1, 1]
    assert trace.column("size_bytes").tolist() == [64] * 5
    raw = load(LACKEY, "x.lackey", line_bytes=0, instructions=True, instruction_ns=0.5)
    assert raw.address.tolist() == [0x04000000, 0x1FFEFFE7E, 0x04000003, 0x04222CAC, 0x7C]
    assert raw.column("size_bytes").tolist() == [3, 8, 5, 4, 8]
    assert raw.column("arrival_ns").tolist() == [0.5, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b" L 04222cac", "x.lackey:7: no memory access: 'L 04222cac'; expected 'I ADDRESS,SIZE'"),
        (b"L 04222cac,4", "x.lackey:7: no memory access"),
        (b" X 04222cac,4", "x.lackey:7: no memory access"),
        (b" L 04222cag,4", "x.lackey:7: no memory access"),
        (b" L 04222cac,0", "x.lackey:7: bad size 0"),
        (b" L 11112222333344445,4", "x.lackey:7: no memory access"),
        (b" L ffffffffffffffff,4", "x.lackey:7: beyond the last address: 18446744073709551615"),
    ],
)
def test_bad_lackey(line, message):
    refused(message, LACKEY + line + b"\n", "x.lackey")


def test_lackey_lines_are_named_in_any_piece(monkeypatch):
    from workloads.readers import _table

    monkeypatch.setattr(_table, "_BLOCK_BYTES", 64)
    data = b"".join(b"I  0400%04x,3\n L 0500%04x,4\n" % (i, i) for i in range(200))
    assert load(data, "x.lackey", line_bytes=0).column("arrival_ns").tolist() == [float(i + 1) for i in range(200)]
    refused("x.lackey:401: no memory access", data + b"oops\n", "x.lackey")
    refused("x.lackey:401: bad size 0", data + b" L 05,0\n", "x.lackey")


VIEW = b"""Output format:
<--record#-> <--instr#->: <---tid---> <record details>
------------------------------------------------------------
           1           0:     1534 <marker: version 6>
           2           1:     1534 ifetch       3 byte(s) @ 0x00007f0a 48 89 e7             mov    %rsp, %rdi
           3           1:     1534 write        8 byte(s) @ 0x00007ffc by PC 0x00007f0a
           4           1:     1534 read         4 byte(s) @ 0x00000040 by PC 0x00007f0a
           5           1:     1534 <thread 1534 exited>
"""


@pytest.mark.parametrize(
    ("data", "addresses", "ops", "times"),
    [
        (VIEW, [0x7FFC, 0x40], [1, 0], [1.0, 2.0]),
        (b"0x00007ffc:  8, w\n0x0000abc0:  4, call\n0x40: 4, r\n", [0x7FFC, 0x40], [1, 0], [0.0, 2.0]),
        (DRMEMTRACE, [0x7FFE10, 0x20], [1, 0], [0.0, 1.0]),
        (b"7f0a: W 8 7ffc\r\n0x7f0b: R 4 0x40\r\n", [0x7FFC, 0x40], [1, 0], [0.0, 1.0]),
    ],
)
def test_drmemtrace_in_all_its_forms(data, addresses, ops, times):
    trace = load(data, "x.memtrace", line_bytes=0)
    assert trace.address[trace.column("block")].tolist() == addresses
    assert trace.column("op").tolist() == ops
    assert trace.column("arrival_ns").tolist() == times
    assert trace.column("size_bytes").tolist() == [8, 4]
    assert load(data, "noextension").n_requests >= 2


def test_drmemtrace_instructions():
    trace = load(VIEW, "x.memtrace", line_bytes=0, instructions=True)
    assert trace.address.tolist() == [0x7F0A, 0x7FFC, 0x40]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"0x7f0a,w,8", "x.memtrace:4: no memory access: '0x7f0a,w,8'; expected 'read SIZE"),
        (b"           6           1:     1534 read         4 byte(s)", "x.memtrace:4: no memory access"),
        (b"0x40: 0, r", "x.memtrace:4: bad size 0"),
    ],
)
def test_bad_drmemtrace(line, message):
    refused(message, DRMEMTRACE + line + b"\n", "x.memtrace")


@pytest.mark.parametrize("reader", ["arc", "drmemtrace", "lackey", "lirs", "msr", "twitter", "vscsi"])
def test_nothing_is_no_trace(reader):
    name, _ = SAMPLES[reader]
    refused("empty", b"", name, reader=reader)


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


def test_what_lines_may_say_of_calls():
    said = ({"tenant": "b", "session_id": 9, "priority": -1}, {"tenant": 4, "session_id": "9", "priority": 2})
    lines = [{**mooncake_line(i, [i]), **said[i % 2]} for i in range(3)]
    trace = load(json_lines(*lines), "x.jsonl")
    assert trace.calls.tenant.tolist() == trace.column("tenant").tolist() == [0, 1, 0]
    assert trace.calls.program.tolist() == [0, 1, 0]
    assert trace.calls.priority.tolist() == trace.column("priority").tolist() == [-1, 2, -1]
    bare = load(json_lines(mooncake_line(0, [1])), "x.jsonl")
    assert bare.calls.program is None and bare.calls.priority is None and "priority" not in bare.columns


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"session_id": 1}, {}, "a field of some calls only: 'session_id'"),
        ({}, {"tenant": 1}, "a field of some calls only: 'tenant'"),
        ({"session_id": 1}, {"session_id": 1.5}, "session_id: bad value 1.5; expected a whole number, or text"),
        ({"tenant": 1}, {"tenant": True}, "tenant: bad value True"),
        ({"priority": 1}, {"priority": "high"}, "priority: bad value 'high'; expected a whole number"),
        ({"priority": 1}, {"priority": 1 << 31}, "priority: bad value"),
    ],
)
def test_what_lines_may_not_say_of_calls(first, second, message):
    data = json_lines({**mooncake_line(5, [1]), **first}, {**mooncake_line(6, [2]), **second})
    refused(rf"x\.jsonl:2: .*{message}", data, "x.jsonl")


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
    assert trace.calls.tenant.tolist() == trace.calls.program.tolist() == [0, 1, 1, 0, 0]
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


@pytest.mark.parametrize("kind", ["int64", "uint64", "int8", "float64", "float32"])
@pytest.mark.parametrize(("values", "first", "last"), [([1, 2, 3, 4], 1, 3), ([1, None, 3], 0, 3), ([], 0, 0)])
def test_numbers_of_arrow_are_those_of_its_own_way(kind, values, first, last):
    array = pa.array(values, getattr(pa, kind)())[first:last]
    ours, theirs = numbers_of(array), array.to_numpy(zero_copy_only=False)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
