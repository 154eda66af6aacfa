"""A link as the model `link` takes it: protocol, width, latencies, and the arithmetic of its packets by direction.

Direction 0 is up, towards the compute unit (reads), 1 is down (writes). Who asks decides what data travel as: a
requester writes with posted packets and reads with completions, whose requests go the other way. `requester: compute`
is a GPU or CPU that copies; `device` one that brings and fetches data itself, as an NVMe drive does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from sim.errors import InputError
from sim.links.flits import DOWN, UP, line_bytes, slot_bytes
from sim.links.protocol import LINE_BYTES, LinkProtocol, check_times, check_width, checked, read_protocol

UP_WAY, DOWN_WAY = 0, 1
_WINDOW_BYTES = 1 << 40  # of addresses: a link has no capacity, this is what a probe draws from


class LinkParameters(BaseModel):
    """One link, or `links` side by side over which packets are spread.

    up_latency_ns: from asking to the first data of a read, both ways; down_latency_ns: of a write. A retimer and a
    switch on the way add `retimer_ns` and `switch_ns` an access. copy_overhead_ns: what software pays to start each
    transfer, which holds nothing. credit_return_ns: from the arrival of a write's packet until its credits are back.
    transfers: that may be under way at once. Raises InputError (from `link_parameters`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: LinkProtocol
    lanes: int
    links: int = 1
    requester: Literal["compute", "device"] = "compute"
    up_latency_ns: float = 0.0
    down_latency_ns: float = 0.0
    switch_hops: int = 0
    switch_ns: float = 110.0
    retimers: int = 0
    retimer_ns: float = 60.0
    credit_return_ns: float = 0.0
    copy_overhead_ns: float = 0.0
    transfers: int = 1024
    transfer_pj_per_bit: float = 0.0
    static_w: float = 0.0

    @model_validator(mode="after")
    def _is_consistent(self) -> LinkParameters:
        check_width(self.protocol, self.lanes, self.links)
        check_times(self)
        for name, least, most in (("switch_hops", 0, 64), ("retimers", 0, 64), ("transfers", 1, 1 << 20)):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} is", value=getattr(self, name), expected=f"{least} to {most}")
        share_rates(self)
        return self

    @property
    def capacity_bytes(self) -> int:
        """The window of addresses that a probe draws from."""
        return _WINDOW_BYTES

    @property
    def transaction_bytes(self) -> int:
        """A packet's payload."""
        return LINE_BYTES if self.protocol.framing == "slots" else self.protocol.payload_bytes

    @property
    def clock_ns(self) -> float:
        return 0.0  # transfers come at any time

    @property
    def raw_bytes_per_ns(self) -> float:
        """Of one direction (half duplex: of both together), after line code and clock compensation."""
        return self.protocol.lane_bytes_per_ns * self.lanes * self.links

    def latency_ns(self, way: int) -> float:
        """Of an access whose data go this way."""
        own = self.up_latency_ns if way == UP_WAY else self.down_latency_ns
        return own + self.switch_hops * self.switch_ns + self.retimers * self.retimer_ns

    def is_asked_for(self, way: int) -> bool:
        """Whether data go this way as completions of requests, rather than as writes."""
        return (way == UP_WAY) == (self.requester == "compute")


class Packets(NamedTuple):
    """What transfers of one direction are on the line. Bytes on the line; `opposite` for each of them."""

    quantum_bytes: int
    payload_bytes: int
    header_bytes: float
    flit_share: float
    opposite: float  # bytes the other way, for each byte on the line: requests, responses, acknowledgements
    window_bytes: float  # payload under way at most; infinite: without limit
    round_trip_ns: float


def packets_of(p: LinkParameters, way: int) -> Packets:
    """The arithmetic of a direction's packets.

    PCI Express and NVLink: a packet is payload in whole quanta, and a header. A read's requests take their header each
    `read_request_bytes`; every `acknowledge_packets` packets bring one acknowledgement and credit update back. CXL:
    bytes of flits that a saturated stream of messages takes, with requests and completions in slots the other way.
    """
    protocol, asked = p.protocol, p.is_asked_for(way)
    window = protocol.read_window_bytes if asked else protocol.write_window_bytes
    latency = p.latency_ns(way)
    round_trip = latency if asked else latency + (p.credit_return_ns or latency)
    if protocol.framing == "slots":
        data_way, other = (UP, 1) if asked else (DOWN, protocol.plain_up)
        each = line_bytes(protocol, data_way, loaded=True)
        opposite = slot_bytes(protocol) / (protocol.plain_down if asked else other) / each
        return Packets(LINE_BYTES, LINE_BYTES, each - LINE_BYTES, 1.0, opposite, window or math.inf, round_trip)
    payload = protocol.completion_bytes if asked else protocol.payload_bytes
    header = protocol.completion_header_bytes if asked else protocol.write_header_bytes
    share = protocol.flit_share
    answer = protocol.response_header_bytes
    if asked:
        answer = protocol.request_header_bytes * payload / protocol.read_request_bytes
    answer += protocol.acknowledge_bytes / protocol.acknowledge_packets
    opposite = answer / (payload + header)
    return Packets(protocol.quantum_bytes, payload, header, share, opposite, window or math.inf, round_trip)


def wire_bytes(packets: Packets, size_bytes: float) -> float:
    """Bytes on the line of one transfer."""
    whole = math.ceil(size_bytes / packets.quantum_bytes) * packets.quantum_bytes
    return (whole + math.ceil(size_bytes / packets.payload_bytes) * packets.header_bytes) * packets.flit_share


def share_rates(p: LinkParameters) -> list[list[float]]:
    """Bytes on the line per ns of each direction's data: rows by who is active (1: up, 2: down, 3: both).

    What a direction's data bring about the other way goes first there: requests and acknowledgements are small and few,
    and are not kept waiting. So with both active the two rates solve `rate[d] + opposite[1 - d] x rate[1 - d] = raw`.
    A window of credits bounds a direction by window over round trip. Raises InputError where requests leave no room.
    """
    ways = [packets_of(p, way) for way in (UP_WAY, DOWN_WAY)]
    raw = p.raw_bytes_per_ns
    most = [_by_window(packets) for packets in ways]
    alone = [
        min(raw, limit, raw / one.opposite if one.opposite else math.inf) for one, limit in zip(ways, most, strict=True)
    ]
    up, down = ways[0].opposite, ways[1].opposite
    if p.protocol.half_duplex:
        if up or down:
            raise InputError(f"{p.protocol.name} is half duplex", expected="no requests, responses or acknowledgements")
        return [[0.0, 0.0]] + 3 * [[min(alone), 0.0]]
    if up >= 1 or down >= 1:
        expected = "headers that leave room for data"
        raise InputError(
            "what data bring about the other way, for each byte, is", value=max(up, down), expected=expected
        )
    both = [raw * (1 - down) / (1 - up * down), raw * (1 - up) / (1 - up * down)]
    if both[0] > most[0]:
        both = [most[0], raw - up * most[0]]
    if both[1] > most[1]:
        both = [min(most[0], raw - down * most[1]), most[1]]
    return [[0.0, 0.0], [alone[0], 0.0], [0.0, alone[1]], both]


def _by_window(packets: Packets) -> float:
    """Bytes on the line per ns that credits allow: so much payload in each round trip."""
    if math.isinf(packets.window_bytes) or packets.round_trip_ns == 0:
        return math.inf
    expansion = wire_bytes(packets, packets.payload_bytes) / packets.payload_bytes
    return max(packets.window_bytes, packets.payload_bytes) * expansion / packets.round_trip_ns


def link_parameters(given: Mapping[str, Any]) -> LinkParameters:
    """Of a device's parameters: `protocol` by name, fields of LinkParameters, and fields of the protocol over its own.

    Raises InputError.
    """
    fields, changed = dict(given), {}
    name = fields.pop("protocol", None)
    for key in list(fields):
        if key in LinkProtocol.model_fields and key != "name":
            changed[key] = fields.pop(key)
    if name is None:
        raise InputError("no parameter 'protocol'", expected="one of hardware_profiles/links, such as pcie4")
    protocol = read_protocol(str(name), changed)
    for key in fields:
        if key not in LinkParameters.model_fields:
            known = (*LinkParameters.model_fields, *LinkProtocol.model_fields)
            raise InputError("unknown link parameter", value=key, candidates=known)
    return checked(LinkParameters, {"protocol": protocol, **fields}, "link parameter")
