"""CXL memory as the model `cxl` takes it: hosts, links, a switch, expanders with their controllers, and their DRAM.

Addresses are interleaved over the expanders, `interleave_bytes` each, and within one over its DDR channels,
`channel_interleave_bytes` each. A channel is one of the timing set: of DDR5, a sub-channel of 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from sim.dram.timing import DramParameters, dram_parameters, timing_sets
from sim.errors import InputError
from sim.links.protocol import LINE_BYTES, LinkProtocol, check_times, check_width, checked, read_protocol

_DRAM_PREFIX = "dram."
_COUNTS = ("hosts", "expanders", "channels", "host_entries", "request_entries", "response_entries", "requests")


class ExpanderParameters(BaseModel):
    """A path to CXL memory and what is behind it.

    protocol: of every link; None where the links are simulated by themselves, and host_ns with them. hosts: each with
    an upstream port of `host_lanes` at the switch, where there is one (`switch`); the request with ticket t is of host
    t % hosts.
    host_ns: from a core to its root port and back, a fixed adder; port_ns: a link's two ends (bridge and protocol),
    each crossing, with retimer_ns for each of a link's retimers; switch_ns: of the switch, each crossing;
    controller_ns: an expander's, each access. host_entries: lines that a host may have under way; request_entries,
    response_entries: of an expander's two queues, the first being the credits of who sends to it. requests: that may
    be under way at once, whatever their size.
    Raises InputError (from `expander_parameters`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: LinkProtocol | None
    dram: DramParameters
    lanes: int = 8
    host_lanes: int = 16
    hosts: int = 1
    switch: bool = False
    expanders: int = 1
    channels: int = 2
    interleave_bytes: int = 256
    channel_interleave_bytes: int = 256
    host_ns: float = 0.0
    port_ns: float = 0.0
    switch_ns: float = 0.0
    retimers: int = 0
    retimer_ns: float = 30.0
    controller_ns: float = 0.0
    host_entries: int = 512
    request_entries: int = 128
    response_entries: int = 128
    requests: int = 4096
    static_w: float = 0.0

    @model_validator(mode="after")
    def _is_consistent(self) -> ExpanderParameters:
        check_times(self)
        for name in _COUNTS:
            if not 1 <= getattr(self, name) <= 1 << 16:
                raise InputError(f"{name} is", value=getattr(self, name), expected=f"1 to {1 << 16}")
        if not 0 <= self.retimers <= 16:
            raise InputError("retimers is", value=self.retimers, expected="0 to 16, of each link")
        for name in ("interleave_bytes", "channel_interleave_bytes"):
            value = getattr(self, name)
            if value < LINE_BYTES or value % LINE_BYTES:
                raise InputError(f"{name} is", value=value, expected=f"a multiple of {LINE_BYTES}, a line")
        self._check_path()
        self._check_dram()
        return self

    def _check_dram(self) -> None:
        if self.dram.transaction_bytes != LINE_BYTES:
            problem = f"timing set {self.dram.name!r} has transactions of {self.dram.transaction_bytes} bytes"
            raise InputError(problem, expected=f"{LINE_BYTES}, what CXL.mem moves")
        last = self.dram.mapping.rpartition(",")[2].strip()
        if last not in ("RoBaRaCoCh", "MOP4CLXOR", "channel"):
            expected = "RoBaRaCoCh, MOP4CLXOR, or an order that ends with channel: the controller chooses it"
            raise InputError("dram.mapping is", value=self.dram.mapping, expected=expected)

    def _check_path(self) -> None:
        if self.protocol is None:
            if self.switch or self.hosts > 1:
                raise InputError("a switch or several hosts without a link", expected="a protocol, such as cxl2")
            return
        if self.protocol.framing != "slots":
            raise InputError("CXL memory over", value=self.protocol.name, expected="cxl1, cxl2 or cxl3")
        check_width(self.protocol, self.lanes)
        if self.switch:
            check_width(self.protocol, self.host_lanes)
        elif self.hosts > 1:
            raise InputError("several hosts are", value=self.hosts, expected="1, or a switch between (switch: true)")

    @property
    def capacity_bytes(self) -> int:
        return self.dram.capacity_bytes

    @property
    def transaction_bytes(self) -> int:
        return LINE_BYTES

    @property
    def clock_ns(self) -> float:
        return 0.0  # requests come at any time

    @property
    def channel_bytes(self) -> int:
        return self.dram.capacity_bytes // (self.expanders * self.channels)

    @property
    def links(self) -> int:
        """Host ports, if there is a switch, then one link an expander."""
        if self.protocol is None:
            return 0
        return self.expanders + (self.hosts if self.switch else 0)

    def link_bytes_per_ns(self, link: int) -> float:
        """Of one direction of a link."""
        is_host_port = self.switch and link < self.hosts
        return self.protocol.lane_bytes_per_ns * (self.host_lanes if is_host_port else self.lanes)


def expander_parameters(given: Mapping[str, Any]) -> ExpanderParameters:
    """Of a device's parameters: `timing_set`, `protocol` by name (`none`: no link), fields of ExpanderParameters,
    fields of the protocol over its own, and fields of the DRAM as `dram.NAME`. Raises InputError.
    """
    fields, of_link, of_dram = dict(given), {}, {"mapping": "MOP4CLXOR"}
    timing_set, name = fields.pop("timing_set", None), fields.pop("protocol", None)
    for key in list(fields):
        if key.startswith(_DRAM_PREFIX):
            of_dram[key.removeprefix(_DRAM_PREFIX)] = fields.pop(key)
        elif key in LinkProtocol.model_fields and key != "name":
            of_link[key] = fields.pop(key)
    if timing_set is None:
        raise InputError("no parameter 'timing_set'", expected="one", candidates=timing_sets())
    if name is None:
        raise InputError("no parameter 'protocol'", expected="cxl1, cxl2, cxl3, or none where no link is part of it")
    if "channels" in of_dram:
        raise InputError("dram.channels is", value=of_dram["channels"], expected="channels, of each expander")
    channels = [fields.get(key, ExpanderParameters.model_fields[key].default) for key in ("expanders", "channels")]
    if not all(isinstance(count, int) and 0 < count <= 1 << 16 for count in channels):
        raise InputError("expanders and channels are", value=channels, expected="whole numbers from 1")
    parts = {
        "protocol": None if name == "none" else read_protocol(str(name), of_link),
        "dram": dram_parameters(timing_set, {**of_dram, "channels": channels[0] * channels[1]}),
    }
    return checked(ExpanderParameters, {**parts, **fields}, "CXL memory parameter")
