"""What a computational drive has beside its SSD: an engine near the flash, its memory and its paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import hardware_profiles
from sim.devices.nand import Ssd
from sim.errors import InputError
from sim.yaml_document import read_document


@dataclass(frozen=True)
class Engine:
    """Rates in bytes per ns and FLOP per ns, sizes in bytes.

    internal_rate: of the path from the flash channels to the engine; 0: the engine has none of its own, and reads over
        the drive's link, as an FPGA beside a drive does.
    channel_bytes_per_page: what crosses the flash channel of a page that the engine reads: 0 for all of it, less where
        the engine works inside the flash dies and only its results leave them.
    byte_rate, flop_rate: how fast the engine takes in data, and computes.
    dram_rate, dram_bytes, dram_accesses: its memory, and how often each byte goes into or out of it: 2 where the
        engine works from memory, 0 where data streams past it. Chunks that are read ahead have to fit in.
    chunk_bytes, chunks: what the engine asks for at a time, and how many times ahead.
    peer_rate: from the drive to a GPU without the host's memory. host_copy_rate: from the host's memory to the GPU.
        Where several drives share such a path, this drive's share of it.
    """

    internal_rate: float
    byte_rate: float
    flop_rate: float
    dram_rate: float
    dram_bytes: int
    peer_rate: float
    host_copy_rate: float
    dram_accesses: float = 2.0
    channel_bytes_per_page: int = 0
    chunk_bytes: int = 131_072
    chunks: int = 64

    def __post_init__(self):
        for name in ("byte_rate", "flop_rate", "dram_rate", "peer_rate", "host_copy_rate"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} of", value=getattr(self, name), expected="a rate above zero")
        for name in ("internal_rate", "dram_accesses"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name} of", value=getattr(self, name), expected="a number from 0")
        for name, least in (("dram_bytes", 1), ("chunk_bytes", 512), ("chunks", 1), ("channel_bytes_per_page", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} of", value=value, expected=f"a whole number from {least}")
        if self.chunk_bytes % 512:
            raise InputError("chunk_bytes of", value=self.chunk_bytes, expected="a multiple of a sector, 512 bytes")
        if self.chunk_bytes > self.dram_bytes:
            problem = f"a chunk of {self.chunk_bytes} bytes is larger than the engine's memory of {self.dram_bytes}"
            raise InputError(problem)

    @property
    def chunks_ahead(self) -> int:
        """How many chunks are under way at most: as many as asked for, or as fit into the engine's memory."""
        return min(self.chunks, self.dram_bytes // self.chunk_bytes)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


ENGINE_FIELDS = ("engine_set", *(field.name for field in fields(Engine)))
_NEEDED = tuple(field.name for field in fields(Engine) if not isinstance(field.default, int | float))


@dataclass(frozen=True)
class Csd:
    """A computational drive: its SSD, and the engine beside the flash."""

    ssd: Ssd
    engine: Engine

    @property
    def transaction_bytes(self) -> int:
        return self.ssd.transaction_bytes

    @property
    def clock_ns(self) -> float:
        return self.ssd.clock_ns

    @property
    def capacity_bytes(self) -> int:
        return self.ssd.capacity_bytes

    def __post_init__(self):
        nand = self.ssd.nand
        if self.engine.channel_bytes_per_page > nand.page_bytes:
            problem = f"channel_bytes_per_page {self.engine.channel_bytes_per_page} is more than a page"
            raise InputError(problem, expected=f"at most {nand.page_bytes}")
        if self.engine.internal_rate == 0 and not nand.link_lanes:
            raise InputError("an engine without an internal_rate on a drive without a link", expected="one of them")
        if self.engine.chunks_ahead > nand.queue_depth:
            problem = f"{self.engine.chunks_ahead} chunks ahead are more than the drive's queue_depth of"
            raise InputError(problem, value=nand.queue_depth, expected="fewer chunks, or a longer queue")


def load_engine(device: str, given: Mapping[str, object]) -> Engine:
    """The shipped set that `engine_set` names, if it does, with the other fields over it.

    Raises InputError where the set is unknown, or a parameter is missing or out of range.
    """
    fields_ = dict(given)
    if "engine_set" in fields_:
        fields_ = _shipped(str(fields_.pop("engine_set"))) | fields_
    missing = [name for name in _NEEDED if name not in fields_]
    if missing:
        problem = f"device {device!r}: no parameter {missing[0]!r} of its engine"
        raise InputError(problem, expected=f"engine_set, one of hardware_profiles/engines, or {', '.join(_NEEDED)}")
    return Engine(**fields_)


def _shipped(name: str) -> dict[str, object]:

    folder = Path(hardware_profiles.__file__).parent / "engines"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise InputError("unknown set of engine parameters", value=name, candidates=known)
    return {key: entry["value"] for key, entry in read_document(path).data["parameters"].items()}
