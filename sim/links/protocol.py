"""A link's protocol: line rate and encoding, packets or flits, and their overhead.

A set is a YAML file under hardware_profiles/links, every field with a value and where it is from. No efficiency stands
in a set: it follows from the bytes of headers, framing, acknowledgements and flits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

import hardware_profiles
from sim.errors import InputError
from sim.model_parameters import checked
from sim.yaml_document import read_document

LINE_BYTES = 64  # what a CXL.mem message carries


class LinkProtocol(BaseModel):
    """What goes over the wires of one link. Sizes in bytes, rates in GT/s a lane and direction.

    Raises InputError (through `read_protocol`) where a rule is broken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    framing: Literal["packets", "slots"]
    half_duplex: bool = False  # one set of wires for both directions
    # the line
    lane_rate_gt_s: float
    data_bits: int = 1  # of so many line_bits: the line code
    line_bits: int = 1
    skip_bytes: int = 0  # of clock compensation, once in skip_interval_bytes of a lane
    skip_interval_bytes: int = 1
    most_lanes: int = 32
    flit_bytes: int = 0  # 0: no flits, packets follow each other on the line
    flit_payload_bytes: int = 0  # of a flit, for packets
    # packets: payload rounded up to whole quanta, and a header with its framing
    quantum_bytes: int = 1
    payload_bytes: int = 0  # of a write, at most
    largest_payload_bytes: int = 0  # that the protocol allows
    read_request_bytes: int = 0  # that one read request asks for, at most
    completion_bytes: int = 0  # payload of a completion
    completion_boundary_bytes: int = 0  # of whose multiples completions are
    write_header_bytes: int = 0
    request_header_bytes: int = 0
    completion_header_bytes: int = 0
    response_header_bytes: int = 0  # what answers each packet of a write
    acknowledge_bytes: int = 0  # the other way, once for so many packets: acknowledgement and credits
    acknowledge_packets: float = 1.0
    # credits: bytes that may be under way before their receiver has to say that there is room; 0: without limit
    read_window_bytes: int = 0
    write_window_bytes: int = 0
    # slots of a flit (CXL): the first takes headers only; how many headers of a kind the first, and another slot, holds
    slots_per_flit: int = 0
    all_data_flits: bool = False  # a flit without a header slot where enough data waits
    line_slots: int = 4  # of 16 B, the data of one message
    plain_down_first: int = 1  # a read's request
    plain_down: int = 1
    loaded_down_first: int = 1  # the header of a write with its data
    loaded_down: int = 1
    plain_up_first: int = 2  # a write's completion
    plain_up: int = 2
    loaded_up_first: int = 2  # the header of data read
    loaded_up: int = 3

    @model_validator(mode="after")
    def _is_consistent(self) -> LinkProtocol:
        _check_line(self)
        if self.framing == "packets":
            _check_packets(self)
        else:
            _check_slots(self)
        return self

    @property
    def lane_bytes_per_ns(self) -> float:
        """Of one lane and direction, after line code and clock compensation."""
        coded = self.lane_rate_gt_s / 8 * self.data_bits / self.line_bits
        return coded * (1 - self.skip_bytes / self.skip_interval_bytes)

    @property
    def flit_share(self) -> float:
        """Bytes on the line for each byte of packets."""
        return self.flit_bytes / self.flit_payload_bytes if self.flit_payload_bytes else 1.0


def _check_line(p: LinkProtocol) -> None:
    if not 0 < p.lane_rate_gt_s < 1e4:
        raise InputError("lane_rate_gt_s is", value=p.lane_rate_gt_s, expected="a rate above zero, in GT/s")
    for name, value in p:
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < 2**40:
            raise InputError(f"{name} is", value=value, expected="a number from 0 to 2^40")
    for name in ("data_bits", "line_bits", "skip_interval_bytes", "most_lanes", "quantum_bytes"):
        if getattr(p, name) < 1:
            raise InputError(f"{name} is", value=getattr(p, name), expected="at least 1")
    if p.data_bits > p.line_bits:
        raise InputError(f"line code {p.data_bits}b/{p.line_bits}b carries more bits than it sends")
    if p.skip_bytes >= p.skip_interval_bytes:
        raise InputError("skip_bytes is", value=p.skip_bytes, expected=f"below {p.skip_interval_bytes}, its interval")
    if p.flit_payload_bytes > p.flit_bytes:
        raise InputError(
            "flit_payload_bytes is", value=p.flit_payload_bytes, expected=f"{p.flit_bytes} at most, a flit"
        )


def _check_packets(p: LinkProtocol) -> None:
    for name in ("payload_bytes", "largest_payload_bytes", "read_request_bytes", "completion_bytes"):
        if getattr(p, name) < 1:
            raise InputError(f"{name} is", value=getattr(p, name), expected="at least 1")
    if p.payload_bytes > p.largest_payload_bytes:
        expected = f"{p.largest_payload_bytes} at most, the largest that {p.name} allows"
        raise InputError("payload_bytes is", value=p.payload_bytes, expected=expected)
    if p.read_request_bytes > max(p.largest_payload_bytes, p.completion_bytes):
        expected = f"{p.largest_payload_bytes} at most, the largest that {p.name} allows"
        raise InputError("read_request_bytes is", value=p.read_request_bytes, expected=expected)
    if p.completion_bytes > max(p.payload_bytes, p.read_request_bytes):
        expected = f"{p.payload_bytes} at most, the payload of a packet"
        raise InputError("completion_bytes is", value=p.completion_bytes, expected=expected)
    if p.completion_boundary_bytes and p.completion_bytes % p.completion_boundary_bytes:
        expected = f"a multiple of {p.completion_boundary_bytes}, the read completion boundary"
        raise InputError("completion_bytes is", value=p.completion_bytes, expected=expected)
    if p.acknowledge_packets < 1:
        raise InputError("acknowledge_packets is", value=p.acknowledge_packets, expected="at least 1")


def _check_slots(p: LinkProtocol) -> None:
    if p.slots_per_flit < 2:
        raise InputError("slots_per_flit is", value=p.slots_per_flit, expected="at least 2, one for headers")
    if p.flit_bytes < 16 * p.slots_per_flit:
        raise InputError("flit_bytes is", value=p.flit_bytes, expected=f"at least {16 * p.slots_per_flit}, its slots")
    for name in ("line_slots", *_CAPACITIES):
        if getattr(p, name) < 1:
            raise InputError(f"{name} is", value=getattr(p, name), expected="at least 1")


_CAPACITIES = (
    *("plain_down_first", "plain_down", "loaded_down_first", "loaded_down"),
    *("plain_up_first", "plain_up", "loaded_up_first", "loaded_up"),
)


# --- reading ---------------------------------------------------------------------------------------------------------


def protocol_names() -> list[str]:
    """Names of the shipped sets."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def read_protocol(name: str, changes: Mapping[str, Any] | None = None) -> LinkProtocol:
    """The protocol of a shipped set, with some fields changed. Raises InputError: one line with rule and value."""

    if name not in protocol_names():
        raise InputError("unknown link protocol", value=name, candidates=protocol_names())
    data = read_document(_folder() / f"{name}.yaml").data
    given = {key: entry["value"] for key, entry in data["parameters"].items()}
    return checked(LinkProtocol, {"name": name, **given, **(changes or {})}, "link parameter")


def check_width(protocol: LinkProtocol, lanes: int, links: int = 1) -> None:
    """Raises InputError for a number of lanes or of links side by side that cannot be."""
    if not 1 <= lanes <= protocol.most_lanes:
        raise InputError("lanes is", value=lanes, expected=f"1 to {protocol.most_lanes}, for {protocol.name}")
    if not 1 <= links <= 1024:
        raise InputError("links is", value=links, expected="1 to 1024")


def check_times(parameters: BaseModel) -> None:
    """Raises InputError where a field that ends in _ns is no time."""
    for name, value in parameters:
        if name.endswith("_ns") and not (math.isfinite(value) and 0 <= value < 1e12):
            raise InputError(f"{name} is", value=value, expected="a time from 0 ns")


def _folder() -> Path:
    return Path(hardware_profiles.__file__).parent / "links"
