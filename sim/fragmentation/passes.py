"""Which objects live and die within one pass of a layer, found by labels such as "layer 3 attention scores".

A pass is a stretch of allocations that name one layer, up to the first that names another; allocations that name none
belong to the pass around them if they die in it. Objects released before their pass is over are its group, which
planners may place as one block (MEMO, Zhao et al. 2024, arXiv 2407.12117); what lives on, such as
activations kept for the backward pass, is of no group.
"""

from __future__ import annotations

import re

import numpy as np

from sim.hook_arguments import NEVER

NO_GROUP = -1
_LAYER = re.compile(r"\blayer (\d+)\b")


def groups_by_label(labels: list[str], born: np.ndarray, dies: np.ndarray) -> np.ndarray | None:
    """int64[objects] the group of each object, numbered from 0 in order of time, or None where no label names a layer.

    born, dies: of each object, in order of birth.
    """
    named = np.array([int(found[1]) if (found := _LAYER.search(label)) else NO_GROUP for label in labels], np.int64)
    if labels and named.max() == NO_GROUP:
        return None
    at = np.maximum.accumulate(np.where(named == NO_GROUP, 0, np.arange(named.size)))
    layer = named[at]  # that was named last
    begins = np.concatenate([[True], layer[1:] != layer[:-1]])[: layer.size]
    pass_number = np.cumsum(begins) - 1
    ends = np.append(born[begins][1:], NEVER)[pass_number]
    transient = (dies < ends) & (layer != NO_GROUP)
    return np.where(transient, pass_number, NO_GROUP)
