"""Streams of allocations from files: what each line becomes, what is wrong with it, and which source reads a file."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.fragmentation.loading import load_operations
from sim.fragmentation.operations import OPERATION_NAMES
from workloads.allocations._unseen import drop_unseen

pytestmark = pytest.mark.uncompiled

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "workloads" / "traces" / "heap_python.csv.zst"
HEADER = "time_ns,op,address_id,size_bytes\n"


@pytest.fixture
def load_text(tmp_path):
    def load(text: str | bytes, name: str = "calls.csv", source: str | None = None, **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_operations(str(path), source, options)

    return load


def rows_of(operations) -> list[tuple]:
    names = [OPERATION_NAMES[code] for code in operations.op]
    columns = (operations.time_ns.tolist(), names, operations.object.tolist(), operations.size_bytes.tolist())
    return list(zip(*columns, strict=True))


def said(call, *arguments, **named) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message.split("/")[-1]


# CSV


def test_the_bundled_heap_is_read_as_its_readme_says():
    heap = load_operations("heap_python")
    assert (heap.name, heap.count, heap.objects.born.size) == ("heap_python", 262_045, 131_287)
    assert heap.peak_live_bytes == 8_562_084
    assert heap.live_bytes[-1] == 71_803
    assert load_operations(str(BUNDLED)).digest == heap.digest


def test_a_csv_of_all_columns(load_text):
    text = (
        "time_ns,op,address_id,size_bytes,stream,kind,label\n"
        "0,alloc,0x10,100,0,kv,layer 0 keys\n\n5,ALLOC,0x20,8,1,weights,\n7, resize ,0x10,300,,,\n"
        "9,free,0x10,,,,\n9,alloc,0x10,5,0,kv,layer 0 scores\n11,free,0x10,77,,,\n"
    )
    made = load_text(text)
    assert rows_of(made) == [
        (0, "alloc", 0, 100),
        (5, "alloc", 1, 8),
        (7, "resize", 0, 300),
        (9, "free", 0, 300),
        (9, "alloc", 2, 5),
        (11, "free", 2, 5),
    ]
    assert (made.kinds, made.objects.kind.tolist()) == (("kv", "weights"), [0, 1, 0])
    assert made.objects.stream.tolist() == [0, 1, 0]
    assert made.objects.final_bytes.tolist() == [300, 8, 5]
    assert made.label(2) == "layer 0 scores #2"
    assert made.objects.group.tolist() == [0, -1, 0]


def test_other_names_and_units(load_text):
    text = "t,what,pointer,bytes\n1.5,alloc,a,4\n2,alloc,b,5\n2.5,free,a,4\n"
    columns = {"time": "t", "op": "what", "id": "pointer", "size": "bytes"}
    made = load_text(text, source="heap_csv", columns=columns, time_unit="us")
    assert rows_of(made) == [(1500, "alloc", 0, 4), (2000, "alloc", 1, 5), (2500, "free", 0, 4)]
    assert load_text(text, source="heap_csv", columns=columns, rows=2).count == 2


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed(load_text, compress):
    name = {gzip.compress: "calls.csv.gz"}.get(compress, "calls.csv.zst")
    assert load_text(compress(f"{HEADER}0,alloc,1,4\n".encode()), name).count == 1


BAD = [
    ("0,alloc,1,5\n\n1,free,2,5\n", "calls.csv:4: freed, but it is not allocated: '2'"),
    ("0,alloc,1,5\n1,free,1,5\n2,free,1,5\n", "calls.csv:4: freed, but it is not allocated: '1'"),
    ("0,alloc,1,5\n1,free,1,5\n2,resize,1,5\n", "calls.csv:4: resized, but it is not allocated: '1'"),
    ("0,alloc,1,5\n1,alloc,1,5\n", "calls.csv:3: allocated, and it already is: '1'"),
    ("0,alloc,1,-5\n", "calls.csv:2: absurd size of an object -5; expected 1 to 4503599627370496 bytes"),
    ("0,alloc,1,0\n", "calls.csv:2: absurd size of an object 0; expected 1 to 4503599627370496 bytes"),
    ("0,alloc,1,9007199254740992\n", "calls.csv:2: absurd size of an object 9007199254740992; expected 1 to"),
    ("0,alloc,1,18446744073709551615\n", "calls.csv:2: absurd size of an object"),
    ("0,alloc,1,99999999999999999999\n", "calls.csv:2: size_bytes: bad value '99999999999999999999'; expected a whole"),
    ("0,alloc,1,\n", "calls.csv:2: size_bytes: bad value ''; expected a whole number"),
    ("0,alloc,1,many\n", "calls.csv:2: size_bytes: bad value 'many'; expected a whole number"),
    ("0,alloc,1,5\n1,free,1,many\n", "calls.csv:3: size_bytes: bad value 'many'; expected a whole number"),
    ("soon,alloc,1,5\n", "calls.csv:2: time_ns: bad value 'soon'; expected a number"),
    ("nan,alloc,1,5\n", "calls.csv:2: time that is not finite, or goes back"),
    ("3,alloc,1,5\n2,alloc,2,5\n", "calls.csv:3: time that is not finite, or goes back"),
    ("0,malloc,1,5\n", "calls.csv:2: op: bad value 'malloc'; expected alloc, resize or free"),
    ("0,alloc,1\n", "calls.csv:2: expected 4 columns, found 3: '0,alloc,1'"),
    ("", "calls.csv: no allocations; expected rows after the line of column names"),
]


@pytest.mark.parametrize(("lines", "message"), BAD)
def test_a_bad_row_is_one_line_that_names_its_line(load_text, lines, message):
    assert said(load_text, HEADER + lines).startswith(message)


def test_bad_files(load_text, tmp_path):
    whole = BUNDLED.read_bytes()
    truncated = "cut.csv.zst: corrupt or truncated .zst file: Truncated compressed stream"
    assert said(load_text, whole[:5000], "cut.csv.zst") == truncated
    assert said(load_text, b"time", "text.csv.zst") == "text.csv.zst: not a .zst file, whatever its name says"
    assert said(load_text, "", "none.csv") == "none.csv: the file is empty; expected allocations"
    assert said(load_text, b"\0\1\2", "odd.csv").startswith("odd.csv:1: not text, so not CSV")
    assert said(load_text, "a,b\n1,2\n") == "calls.csv:1: missing column 'time_ns'; there is: a, b"
    stream = "time_ns,op,address_id,size_bytes,stream\n0,alloc,1,4,-1\n"
    assert said(load_text, stream) == "calls.csv:2: stream: bad number -1; expected a whole number from 0 to 1048576"
    one = HEADER + "0,alloc,1,5\n"
    assert said(load_text, one, max_bytes=10).startswith("calls.csv: the file holds more than 10 bytes")
    assert said(load_text, one, columns={"siz": "b"}).endswith("did you mean 'size'?")
    assert said(load_text, one, columns={"size": "bytes"}).endswith("did you mean 'size_bytes'?")


def test_objects_from_before_the_recording(load_text):
    text = HEADER + "0,free,9,4\n1,alloc,1,5\n2,resize,7,8\n3,free,1,\n4,alloc,9,6\n5,free,9,6\n"
    assert said(load_text, text) == "calls.csv:4: resized, but it is not allocated: '7'"
    made = load_text(text, unseen="skip")
    assert rows_of(made) == [(1, "alloc", 0, 5), (3, "free", 0, 5), (4, "alloc", 1, 6), (5, "free", 1, 6)]
    double = text + "6,free,9,6\n"
    assert said(load_text, double, unseen="skip") == "calls.csv:8: freed, but it is not allocated: '9'"


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-2, 3)), max_size=20))
def test_unseen_is_what_no_row_before_allocates(rows):
    seen, kept = set(), []
    for at, (op, number) in enumerate(rows):
        seen |= {number} if op == 0 else set()
        kept += [at] if number in seen else []
    op, number = (np.array([row[column] for row in rows], int) for column in range(2))
    assert drop_unseen({"op": op, "id": number, "row": np.arange(len(rows))})["row"].tolist() == kept


# Which source


def test_what_there_is_not(load_text, tmp_path):
    assert said(load_operations, "heap_pyton") == (
        "no such file or stream of allocations 'heap_pyton'; did you mean 'heap_python'?"
    )
    assert said(load_operations, "heap_csv").startswith("source of allocations 'heap_csv' reads a file")
    assert said(load_text, HEADER, source="heap_cvs").endswith("did you mean 'heap_csv'?")
    assert (
        said(load_text, HEADER, rowz=1)
        == "unknown option of source of allocations heap_csv 'rowz'; did you mean 'rows'?"
    )
    assert said(load_text, "hello", "hello.xyz").startswith("hello.xyz: no source of allocations knows this file")


def test_a_file_is_known_by_its_first_bytes_too(load_text):
    assert load_text(HEADER + "0,alloc,1,4\n", "calls.heap").count == 1
    assert load_text("malloc(5) = 0x10\n", "calls").count == 1


# Tracers

LTRACE = """\
1234 23:59:59.000001 malloc(32)                    = 0x55d0c0
1234 23:59:59.000005 malloc(100000 <unfinished ...>
1234 23:59:59.000006 SYS_brk(0)                    = 0x55d000
1235 23:59:59.000007 prog->malloc(7)               = 0x77d000
1234 23:59:59.000009 <... malloc resumed> )        = 0x56d000
1235 23:59:59.000010 realloc(0x77d000, 64)         = 0x77d000
1235 23:59:59.000011 free(0x56d000 <unfinished ...>
1235 23:59:59.000012 <... free resumed> )          = <void>
1235 23:59:59.000013 calloc(2, 0x10)               = 0x56d000
1235 00:00:00.000001 realloc(0x56d000, 5)          = 0x99d000
1235 00:00:00.000002 realloc(nil, 0)               = 0x9ad000
1235 00:00:00.000003 realloc(0x9ad000, 0)          = nil
1235 00:00:00.000004 free(nil)                     = <void>
1235 00:00:00.000005 malloc(-1)                    = nil
1235 00:00:00.000006 --- SIGCHLD (Child exited) ---
1235 00:00:00.000007 malloc(5 <no return ...>
1235 00:00:00.000008 +++ exited (status 0) +++
"""
CALLS = [
    (0, "alloc", 0, 32),
    (6e3, "alloc", 1, 7),
    (8e3, "alloc", 2, 100_000),
    (9e3, "resize", 1, 64),
    (10e3, "free", 2, 100_000),
    (12e3, "alloc", 3, 32),
    (1e9, "alloc", 4, 5),
    (1e9, "free", 3, 32),
    (1e9 + 1e3, "alloc", 5, 1),
    (1e9 + 2e3, "free", 5, 1),
]


def test_ltrace(load_text):
    assert rows_of(load_text(LTRACE, "calls.ltrace")) == CALLS


def test_ltrace_with_other_times(load_text):
    epoch = "[pid 5] 1700000000.25 malloc(32) = 0x1\n[pid 5] 1700000000.75 libc.so.6->free(0x1) = <void>\n"
    assert rows_of(load_text(epoch, "a.ltrace")) == [(0, "alloc", 0, 32), (5e8, "free", 0, 32)]
    since_last = "  0.000000 malloc(32) = 0x1\n  0.000150 malloc(8) = 0x2\n  0.000150 free(0x1) = <void>\n"
    assert [row[0] for row in rows_of(load_text(since_last, "b.ltrace"))] == [0, 150e3, 300e3]
    assert [row[0] for row in rows_of(load_text("hello\nmalloc@libc.so.6(3) = 0x1\n", "c.ltrace"))] == [2]


VALGRIND = """\
==77== Memcheck, a memory error detector
--77-- malloc(10) = 0x4A40040
--77-- calloc(3,8) = 0x4A40090
--77-- realloc(0x4A40040,5000) = 0x4A400F0
--77-- realloc(0x0,7)malloc(7) = 0x4A41520
--78-- malloc(9) = 0x4A41520
--77-- free(0x4A40090)
--77-- memalign(al 64, size 100) = 0x4A415C0
--77-- realloc(0x4A400F0,0)free(0x4A400F0)
--77--  = 0
--77-- _Znam(40) = 0x4D6DC80
--77-- _ZdaPv(0x4D6DC80)
--77-- _ZnwmSt11align_val_t(size 64, al 32) = 0x4D6DD80
--77-- _ZdlPvmSt11align_val_t(0x4D6DD80)
--77-- free(0x0)
==77== HEAP SUMMARY:
"""


def test_valgrind(load_text):
    assert [row[1:] for row in rows_of(load_text(VALGRIND, "valgrind.log"))] == [
        ("alloc", 0, 10),
        ("alloc", 1, 24),
        ("alloc", 2, 5000),
        ("free", 0, 10),
        ("alloc", 3, 7),
        ("alloc", 4, 9),  # of another process, at an address of the first
        ("free", 1, 24),
        ("alloc", 5, 100),
        ("free", 2, 5000),
        ("alloc", 6, 40),
        ("free", 6, 40),
        ("alloc", 7, 64),
        ("free", 7, 64),
    ]
    stamped = "--00:00:00:01.250 77-- malloc(10) = 0x4A40040\n--01:00:00:01.250 77-- free(0x4A40040)\n"
    assert [row[0] for row in rows_of(load_text(stamped, "stamped.log"))] == [0, 86400e9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("malloc(3) = 0x1\nfree(0x2) = <void>\n", "calls.log:2: freed, but it is not allocated: '0x2'"),
        ("malloc(3) = 0x1\nfree(0x1)\nfree(0x1)\n", "calls.log:3: freed, but it is not allocated: '0x1'"),
        ("malloc(3) = 0x1\nmalloc(x) = 0x3\n", "calls.log:2: bad value in a call of malloc 'x'; expected a whole"),
        ("malloc(3) = 0x1\nmalloc(5", "calls.log:2: a call without what it returned: 'malloc(5'"),
        ("malloc(3) = 0x1\nfree(0x1", "calls.log:2: a call that is cut off: 'free(0x1'"),
        ("malloc(3) = 0x1\nrealloc(0x1) = 0x2\n", "calls.log:2: too few arguments of realloc: '0x1'; expected 2"),
        ("malloc(-5) = 0x1\n", "calls.log:1: absurd size of an object -5"),
        ("malloc(99999999999999999999999) = 0x1\n", "calls.log:1: absurd size of an object"),
        ("hello\n", "calls.log: no heap calls; expected lines such as"),
        (
            '{"dhatFileVersion":2\n,"mode":"heap"\n',
            "calls.log: DHAT's totals have no stream of calls, so nothing can be",
        ),
    ],
)
def test_a_bad_line_of_a_tracer(load_text, text, message):
    assert said(load_text, text, "calls.log", source="ltrace").startswith(message)


def test_totals_of_dhat_are_recognised_and_refused(load_text):
    message = said(load_text, '{"dhatFileVersion":2\n', "dhat.out.123")
    assert message.endswith("expected the output of valgrind --trace-malloc=yes (or of ltrace)")


def test_a_tracer_that_began_late(load_text):
    made = load_text("free(0x9) = <void>\nmalloc(3) = 0x9\nfree(0x9) = <void>\n", "late.ltrace", unseen="skip")
    assert [row[1:] for row in rows_of(made)] == [("alloc", 0, 3), ("free", 0, 3)]


# Recording

PROGRAM = """\
#include <stdlib.h>
int main(void)
{
    char *volatile a = malloc(10);
    char *volatile b = calloc(3, 8);
    a = realloc(a, 50000);
    free(b);
    b = malloc(0);
    free(a);
    return 3;
}
"""


@pytest.fixture
def program(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    (tmp_path / "program.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-O0", "-o", tmp_path / "program", tmp_path / "program.c"], check=True)
    return tmp_path / "program"


def record(out: Path, *command: str) -> subprocess.CompletedProcess:
    script = ROOT / "workloads" / "record" / "heap_program.py"
    whole = [sys.executable, str(script), "--out", str(out), "--", *command]
    return subprocess.run(whole, capture_output=True, text=True, timeout=60)


def test_any_program_can_be_recorded(program, tmp_path):
    done = record(tmp_path / "out.csv.zst", str(program))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "exit_status: 3")
    calls = [row[1:] for row in rows_of(load_operations(str(tmp_path / "out.csv.zst")))]
    assert calls == [
        ("alloc", 0, 10),
        ("alloc", 1, 24),
        ("resize", 0, 50_000),
        ("free", 1, 24),
        ("alloc", 2, 1),
        ("free", 0, 50_000),
    ]


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_valgrind_tells_the_same_of_a_program(program, tmp_path):
    log = tmp_path / "valgrind.log"
    subprocess.run(["valgrind", "--trace-malloc=yes", f"--log-file={log}", program], capture_output=True, timeout=60)
    calls = [row[1:] for row in rows_of(load_operations(str(log)))]
    assert calls[:3] == [("alloc", 0, 10), ("alloc", 1, 24), ("alloc", 2, 50_000)]
    assert calls[3:] == [("free", 0, 10), ("free", 1, 24), ("alloc", 3, 1), ("free", 2, 50_000)]


def test_what_cannot_be_recorded(tmp_path):
    out = tmp_path / "out.csv.zst"
    for command, message in (((), "no command; expected"), (("no-such-program",), "'no-such-program' not found")):
        done = record(out, *command)
        assert (done.returncode, done.stderr.count("\n"), out.exists()) == (2, 1, False)
        assert done.stderr.startswith("error: ") and message in done.stderr
