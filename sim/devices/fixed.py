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

from sim.kernels.compile import kernel
from sim.policy import DeviceModel

READ, WRITE = 0, 1


class State(NamedTuple):
    """Rows are devices; the last axis of the two-dimensional arrays is the direction (READ, WRITE)."""

    free_ns: np.ndarray  # float64[sum of channels] a heap for each device: when its channels are free, earliest first
    first_channel: np.ndarray  # int64[devices + 1] where each device's heap begins
    interleave_bytes: np.ndarray  # int64[devices]
    latency_ns: np.ndarray  # float64[devices, 2]
    occupancy_ns: np.ndarray  # float64[devices, 2]
    ns_per_byte: np.ndarray  # float64[devices, 2] of one channel
    busy_ns: np.ndarray  # float64[devices]


def init(devices):
    channels = np.array([device.channels for device in devices], np.int64)
    directions = [(device.read, device.write) for device in devices]
    bandwidth = np.array([[way.bandwidth_bytes_per_ns for way in both] for both in directions]).reshape(-1, 2)
    return State(
        free_ns=np.zeros(channels.sum()),
        first_channel=np.concatenate([[0], np.cumsum(channels)]),
        interleave_bytes=np.array([device.interleave_bytes for device in devices], np.int64),
        latency_ns=np.array([[way.latency_ns for way in both] for both in directions], float).reshape(-1, 2),
        occupancy_ns=np.array([[way.occupancy_ns for way in both] for both in directions], float).reshape(-1, 2),
        ns_per_byte=channels[:, None] / bandwidth,
        busy_ns=np.zeros(len(channels)),
    )


@kernel
def hold_first_free(free_ns, low, channels, head_ns, hold_ns):
    """Hold the channel that is free first from no sooner than head_ns; return until when. Its heap stays in order."""
    end_ns = max(head_ns, free_ns[low]) + hold_ns
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= channels:
            break
        if child + 1 < channels and free_ns[low + child + 1] < free_ns[low + child]:
            child += 1
        if end_ns <= free_ns[low + child]:
            break
        free_ns[low + parent] = free_ns[low + child]
        parent = child
    free_ns[low + parent] = end_ns
    return end_ns


def serve(state, row, head_ns, size_bytes, is_write):
    way = WRITE if is_write else READ
    low = state.first_channel[row]
    channels = state.first_channel[row + 1] - low
    interleave = state.interleave_bytes[row]
    stripes = 1
    if size_bytes > interleave and channels > 1:  # most requests are spared the division
        stripes = min(channels, (size_bytes + interleave - 1) // interleave)
    latency_ns, occupancy_ns = state.latency_ns[row, way], state.occupancy_ns[row, way]
    hold_ns = occupancy_ns + size_bytes / stripes * state.ns_per_byte[row, way]
    end_ns = 0.0
    for _ in range(stripes):
        end_ns = max(end_ns, hold_first_free(state.free_ns, low, channels, head_ns, hold_ns))
    state.busy_ns[row] += hold_ns * stripes / channels
    start_ns = end_ns - hold_ns
    return start_ns, start_ns + occupancy_ns + latency_ns, end_ns + latency_ns, latency_ns


MODEL = DeviceModel(name="fixed", init=init, serve=serve)
