"""Reading PyTorch's memory snapshots: what is in them, and what no file can make the reader do."""

from __future__ import annotations

import json
import os
import pickle
import struct

import pytest

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE
from sim.registry import ALLOCATION_SOURCE, load
from sim.trace_options import check_options

pytestmark = pytest.mark.uncompiled

SOURCE = load(ALLOCATION_SOURCE, "torch_snapshot")


def read(path, **options):
    return SOURCE.read(path, check_options(SOURCE.options, options, "source torch_snapshot"))


def frames(*places):
    return [{"filename": name, "line": line, "name": function} for name, line, function in places]


def event(action, addr, size, time_us, stream=0, stack=()):
    entry = {"action": action, "addr": addr, "size": size, "stream": stream, "time_us": time_us}
    return {**entry, "frames": frames(*stack)}


def snapshot():
    """A GPU with four objects in one segment: one lives through the recording, one was there and is freed."""
    stack = (
        ("??", 0, "malloc"),
        ("/site-packages/torch/nn/linear.py", 9, "forward"),
        ("train.py", 31, "step"),
    )
    events = [
        event("segment_alloc", 4096, 2 << 20, 1000),
        event("alloc", 5120, 1000, 1000, stack=stack),
        event("free_requested", 4096, 512, 1002),
        event("free_completed", 4096, 512, 1003),
        event("alloc", 4096, 300, 1003, stream=140001),
        event("free_requested", 5120, 1000, 1010),
        event("free_completed", 5120, 1000, 1012),
        {"action": "oom", "size": 1 << 40, "stream": 0, "device_free": 5, "time_us": 1013, "frames": []},
    ]
    block = {"size": 512, "requested_size": 400, "state": "active_allocated", "frames": []}
    blocks = [
        {**block, "address": 4096, "requested_size": 300},
        {**block, "address": 4608},
        {"address": 5120, "size": (2 << 20) - 1024, "requested_size": 0, "state": "inactive", "frames": []},
    ]
    segment = {"device": 1, "address": 4096, "total_size": 2 << 20, "stream": 0, "segment_type": "small"}
    return {"segments": [{**segment, "blocks": blocks}], "device_traces": [[], events], "allocator_settings": {}}


@pytest.fixture(params=[0, 2, 4, "json"])
def file(request, tmp_path):
    path = tmp_path / ("dump.json" if request.param == "json" else "dump.pickle")
    json_ = json.dumps(snapshot()).encode()
    path.write_bytes(json_ if request.param == "json" else pickle.dumps(snapshot(), request.param))
    return path


def test_events_of_one_device(file):
    ops = read(file, device=1)
    assert list(ops.op) == [ALLOCATE, ALLOCATE, ALLOCATE, RELEASE, ALLOCATE, RELEASE]
    assert list(ops.size_bytes) == [512, 400, 1000, 512, 300, 1000]  # the first two were there before
    assert list(ops.object) == [0, 1, 2, 0, 3, 2]
    assert list(ops.time_ns) == [0, 0, 0, 3000, 3000, 12000]
    assert list(ops.objects.stream) == [0, 0, 0, 1]
    assert ops.labels == ("", "", "train.py:31 step", "")
    assert ops.capacity_bytes is None
    assert read(file).count == 0


def test_it_knows_its_files(file):
    assert SOURCE.recognises(file.read_bytes()[:4096])
    assert not SOURCE.recognises(b'{"format": "chrome"}')


def test_a_device_that_is_not_there(file):
    with pytest.raises(InputError, match="it has 2 devices, and not device 2"):
        read(file, device=2)


class _Command:
    def __reduce__(self):
        return os.system, ("touch /tmp/memhier_was_here",)


def refused(tmp_path, data: bytes, words: str, name: str = "bad.pickle"):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read(path)
    assert len(caught.value.lines) == 1 and len(str(caught.value)) < 1000


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command_runs_nothing(tmp_path, protocol, monkeypatch):
    ran = []
    data = pickle.dumps({"segments": [], "device_traces": [_Command()]}, protocol)
    monkeypatch.setattr(os, "system", ran.append)
    refused(tmp_path, data, r"it asks for (posix|nt)\.system, and only plain containers")
    assert not ran


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"asks for os\.system"),
        (b"(S'true'\nios\nsystem\n.", r"asks for os\.system"),
        (b"\x80\x02P7\n.", "operation PERSID"),
        (b"\x80\x02K\x07Q.", "operation BINPERSID"),
        (b"\x80\x02\x82\x01.", "operation EXT1"),
        (b"\x80\x02}}b.", "operation BUILD"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".", "operation BYTEARRAY8"),
        (b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"\xff.", "operation LONG4"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.", "corrupt or truncated"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "it is not a dict"),  # a memo of 2^31 entries, of which one is used
        (b"\x80\x02]" + b"]" * 200_000 + b"a" * 200_000 + b".", "it is not a dict"),  # a list in a list in a list
        (b"I" + b"9" * 10_000 + b"\n.", "corrupt or truncated"),
        (b"", "corrupt or truncated"),
        (b"\x80\x04", "corrupt or truncated"),
        (b"PK\x03\x04", "not a snapshot"),
        (b"\x80\x02.", "corrupt or truncated"),
    ],
)
def test_a_hostile_or_broken_pickle_is_one_error(tmp_path, data, words):
    refused(tmp_path, data, words)


def test_a_file_cut_short_anywhere_is_one_error(tmp_path):
    data = pickle.dumps(snapshot())
    for end in range(0, len(data), 37):
        refused(tmp_path, data[:end], "corrupt or truncated")


def test_lists_that_double_take_no_room(tmp_path):
    """A list of two of a list of two of ...: a million million entries in some hundred bytes."""
    bomb = b"\x80\x02]q\x00" + b"".join(
        b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(40)
    )
    refused(tmp_path, bomb + b".", "it is not a dict")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("[" * 100_000, "not a snapshot"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"segments": []}', "no list 'device_traces'"),
        ('{"device_traces": [[]]}', "no list 'segments'"),
        ('{"segments": [], "device_traces": [7]}', "events of device 0 are not a list"),
        ('{"segments": [], "device_traces": [[7]]}', "event 0 is not a dict"),
        ('{"segments": [], "device_traces": [[{}]]}', "event 0 has no action"),
        ('{"segments": [], "device_traces": [[{"action": "alloc"}]]}', "event 0 has no 'addr'"),
        ('{"segments": [7], "device_traces": [[]]}', "segment 0 is not a dict"),
        ('{"segments": [{"address": -1}], "device_traces": [[]]}', "segment 0 has no 'address'"),
        ('{"segments": ', "not a snapshot"),
    ],
)
def test_json_that_is_no_snapshot_is_one_error(tmp_path, data, words):
    refused(tmp_path, data.encode(), words, "bad.json")


def test_an_address_allocated_twice_is_an_error(tmp_path):
    entry = event("alloc", 512, 512, 1)
    path = tmp_path / "twice.json"
    path.write_text(json.dumps({"segments": [], "device_traces": [[entry, entry]]}))
    with pytest.raises(InputError, match="allocated, and it already is"):
        read(path)
