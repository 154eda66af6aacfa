"""Fixed latency, per-direction bandwidth, n parallel channels: what any datasheet gives.

A request is cut into stripes of `interleave_bytes`, spread over at most all channels; each stripe goes to the channel
that is free first, so requests queue first come, first served. A channel is held for `occupancy_ns` (the time a die is
busy before data flows) and then for the transfer at its share of the bandwidth. `latency_ns` is added to every
request and holds nothing (it is pipelined). Unloaded, a request of s bytes that spans all channels therefore takes
latency + occupancy + s / bandwidth. Reads and writes share the channels of a device; a link has one server for each
direction, made of the same rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, known_natural
from sim.policy import DeviceModel

LATENCY_NS, OCCUPANCY_NS, NS_PER_BYTE, CHANNEL_SHARE = range(4)
FIRST_CHANNEL, CHANNELS, INTERLEAVE_BYTES, FRONT = range(4)


class State(NamedTuple):
    """Few and packed arrays, of which a compiled access holds each in registers."""

    free_ns: np.ndarray  # float64[sum of channels] a sorted ring for each device: when its channels are free
    layout: np.ndarray  # int64[devices, 4] FIRST_CHANNEL (where the ring is), CHANNELS, INTERLEAVE_BYTES, FRONT (of it)
    timing: np.ndarray  # float64[2 devices, 4] LATENCY_NS .. CHANNEL_SHARE (1 / channels), a row READ, one WRITE
    busy_ns: np.ndarray  # float64[devices]


def init(devices):
    channels = np.array([device.channels for device in devices], np.int64)
    layout = np.zeros((len(channels), 4), np.int64)
    layout[:, FIRST_CHANNEL] = np.cumsum(channels) - channels
    layout[:, CHANNELS] = channels
    layout[:, INTERLEAVE_BYTES] = [device.interleave_bytes for device in devices]
    ways = [
        (way.latency_ns, way.occupancy_ns, device.channels / way.bandwidth_bytes_per_ns, 1 / device.channels)
        for device in devices
        for way in (device.read, device.write)
    ]
    return State(
        free_ns=np.zeros(channels.sum()),
        layout=layout,
        timing=np.array(ways, float).reshape(-1, 4),
        busy_ns=np.zeros(len(channels)),
    )


@inlined
def hold_first_free(free_ns, low, front, channels, head_ns, hold_ns):
    """Hold the channel that is free first, at place `front` of a ring, from no sooner than head_ns; until when.

    Service times that are much alike end in order, so that the place of the new end is found from the back of the ring
    at once: a heap takes several mispredicted branches.
    """
    end_ns = max(head_ns, free_ns[low + front]) + hold_ns
    place = front
    for _ in range(channels - 1):
        before = (place if place > 0 else channels) - 1
        if free_ns[low + before] <= end_ns:
            break
        free_ns[low + place] = free_ns[low + before]
        place = before
    free_ns[low + place] = end_ns
    return end_ns


def serve(state, row, head_ns, size_bytes, is_write):
    layout, timing = state.layout, state.timing
    low, channels = known_natural(layout[row, FIRST_CHANNEL]), layout[row, CHANNELS]
    interleave, front = layout[row, INTERLEAVE_BYTES], known_natural(layout[row, FRONT])
    stripes, bytes_each = 1, np.float64(size_bytes)
    if size_bytes > interleave and channels > 1:  # most requests are spared the divisions
        stripes = min(channels, (size_bytes + interleave - 1) // interleave)
        bytes_each = size_bytes / stripes
    way = 2 * row + is_write
    latency_ns, occupancy_ns = timing[way, LATENCY_NS], timing[way, OCCUPANCY_NS]
    hold_ns = occupancy_ns + bytes_each * timing[way, NS_PER_BYTE]
    end_ns = 0.0
    for _ in range(stripes):
        end_ns = max(end_ns, hold_first_free(state.free_ns, low, front, channels, head_ns, hold_ns))
        front = front + 1 if front + 1 < channels else 0
    layout[row, FRONT] = front
    state.busy_ns[row] += hold_ns * stripes * timing[way, CHANNEL_SHARE]
    start_ns = end_ns - hold_ns
    return start_ns, start_ns + occupancy_ns + latency_ns, end_ns + latency_ns, latency_ns


MODEL = DeviceModel(name="fixed", init=init, serve=serve)
