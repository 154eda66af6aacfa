"""What an engine does, record by record, where somebody asks: iterations, copies and preemptions."""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, known_natural
from sim.serving import state as s

ITERATION, COPY, PREEMPTION = range(3)  # kinds of record

# columns: the kind, from when to when; of an iteration its tokens, sequences, and how many of these compute their
# prompt; of a copy its purpose (`network.PURPOSES`), from which tier to which, its blocks and the call it is for, or
# -1; of a preemption the call
KIND, START_NS, END_NS, TOKENS, SEQUENCES, PREFILLS, BLOCKS, CALL = range(8)
PURPOSE, SOURCE, TARGET = TOKENS, SEQUENCES, PREFILLS
COLUMNS = 8


@inlined
def note(engine, kind, start_ns, end_ns, first, second, third, blocks, call):
    """Add a record, where there is a log."""
    log, count = engine.log, engine.count
    if log.size:
        at = known_natural(count[s.LOGGED])
        count[s.LOGGED] = at + 1
        if at < len(log):
            log[at, KIND], log[at, START_NS], log[at, END_NS] = kind, start_ns, end_ns
            log[at, TOKENS], log[at, SEQUENCES], log[at, PREFILLS] = first, second, third
            log[at, BLOCKS], log[at, CALL] = blocks, call


@inlined
def note_iteration(engine, end_ns):
    """The batch at hand has been computed."""
    count, start_ns = engine.count, engine.clock[s.STEP_START]
    tokens, sequences, prefills = count[s.BATCH_TOKENS], count[s.BATCH_SEQUENCES], count[s.BATCH_PREFILLS]
    note(engine, ITERATION, start_ns, end_ns, tokens, sequences, prefills, 0, -1)


@inlined
def is_filling(engine):
    """Whether the log is to be read before much more happens: what follows from one event may be many records."""
    return engine.log.size > 0 and 2 * engine.count[s.LOGGED] >= np.int64(len(engine.log))
