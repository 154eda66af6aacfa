"""The state of one engine, as compiled code takes it: calls, batch, tiers, copies, clock."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NOBODY = -1

# what a call is doing
ABSENT, WAITING, LOADING, LOADED, RUNNING, HANDING, DONE, REFUSED = range(8)

# columns of `Engine.calls`; TOKENS: of its sequence so far, prompt and generated; FILLED: those whose keys and values
# are in G1; BLOCKS: of G1 that it has; COMMITTED: its leading blocks that were offered to the index; OWNED: blocks that
# it alone has; SCHEDULED: tokens in the iteration at hand; PENDING: transfers that it waits for; STAGED: those of its
# prefetch; LOAD_FROM, LOAD_TO: its blocks that are being loaded; SWAPPED: blocks that wait in the second tier;
# HANDED_IN: tokens that another engine has computed; HANDED_BY: which; ADMISSION: order in which it was last admitted;
# MOST_FILLED: tokens that it has had, computed or found; LOAD_FAILS: what is being loaded for it will not arrive
(
    STATUS,
    TOKENS,
    FILLED,
    BLOCKS,
    COMMITTED,
    OWNED,
    SCHEDULED,
    PENDING,
    STAGED,
    LOAD_FROM,
    LOAD_TO,
    SWAPPED,
    HANDED_IN,
    ADMISSION,
    PREEMPTIONS,
    RECOMPUTED,
    COMPUTED,
    REASON,
    PHASE,
    MOST_FILLED,
    HELD_AT,
    COUNTED,
    AWAITED,
    ADMIT_TOLD,
    LOAD_FAILS,
    HANDED_BY,
) = range(26)
CALL_COLUMNS = 26

# columns of `Engine.times`
FIRST_SCHEDULED, FIRST_TOKEN, FINISH, SINCE, STALL_BEFORE, BLOCKED_BEFORE, LAST_TOKEN, STAGED_UNTIL = range(8)
TIME_COLUMNS = 8

NOTHING_KEPT, PINNED_HERE, DUPLICATE = 0, 1, 2  # what a call did with one of its blocks

# places in `Engine.clock`
(
    NOW,
    STEP_START,
    STEP_END,
    STALLED,
    BLOCKED,
    BLOCKED_SINCE,
    LAST_FINISH,
    DRAIN_SINCE,
    LOAD_SINCE,
    HELD_UNTIL,
    MAPPING,  # ns that iterations have waited for the allocator's calls of the system
) = range(11)
CLOCK_PLACES = 11

# places in `Engine.count`
(
    ARRIVED,  # of the inbox
    INBOX,  # calls in it
    RUNNING_NOW,
    LOADING_NOW,
    BATCH_TOKENS,
    BATCH_OUTPUTS,
    BATCH_SEQUENCES,
    BATCH_PREFILLS,
    FINISHED,
    REFUSED_NOW,
    ITERATIONS,
    ADMISSIONS,
    PREEMPTED,
    GENERATED,
    PROMPT_COMPUTED,
    RECOMPUTED_ALL,
    DIRTY,  # something has changed since the last scheduling pass
    STATE,  # of the iteration: IDLE .. AWAITING
    HEAD_BLOCKED,  # the last pass ended because the first waiting call found no blocks
    WAITERS_FIXED,  # the last pass ended in a way that only an arrival, a transfer or an end can change
    DUPLICATES,
    LOADS_STARTED,
    LOADED_BLOCKS,
    RECOMPUTED_INSTEAD,
    LOADS_FAILED,
    SWAP_USED,
    BATCH_LOADS,  # transfers that the batch at hand waits for
    JUMPED,
    OUTBOX,
    INSTEAD_NOW,  # tokens that the call at hand would compute although they could be loaded
    DRAWS,
    HELD_CALLS,
    HANDING_NOW,  # calls prefilled here whose blocks another engine is fetching
    LOGGED,  # records that the log should hold, of which those beyond its end are lost
) = range(34)
COUNT_PLACES = 34

IDLE, DRAINING, COMPUTING, AWAITING = range(4)  # AWAITING: computed, but for layers whose prefix is still being loaded

# places in `Engine.rules`
(
    BLOCK_TOKENS,
    MAX_SEQS,
    MAX_TOKENS,
    CHUNKED,
    LONG_PREFILL,
    MAX_LEN,
    RESERVE_FULL,
    WATERMARK_BLOCKS,
    PARTIAL,
    COMMIT_ALL,
    BACKWARD,
    TOUCH_ON_RELEASE,
    SWAP_BLOCKS,
    LOAD_RULE,
    OVERLAP,
    MIN_LOAD,
    MAX_LOAD,
    FAIL_ON_LOAD,
    PREFETCH_RULE,
    PREFETCH_MIN,
    STORE_OUTPUTS,
    JUMPS,
    DYNAMIC,
    SEES_HITS,
    COUNTS_TOKENS,
    HASHED,
    ROLE,
    LAYERS,
    RESERVATION,  # contiguous memory for all that a call may get to: 1 .. 3, see `options.RESERVATIONS`; 0: none
    ALLOCATED,  # an allocator places calls' memory
) = range(30)
RULE_PLACES = 30
EITHER, PREFILLS, DECODES = range(3)  # ROLE

GAP_LOW_NS, GAP_RATIO, GAP_BINS = 1e3, 1.002, 11_600  # 1 us to 3.2 h


class Engine(NamedTuple):
    """n calls, B blocks, T tiers, C calls that can wait at once."""

    work: object  # workload.Workload
    calls: np.ndarray  # int64[n, CALL_COLUMNS]
    times: np.ndarray  # float64[n, TIME_COLUMNS]
    parts_ns: np.ndarray  # float64[n, len(PARTS)]
    hit_tokens: np.ndarray  # int64[n, T]
    kept: np.ndarray  # uint8[rows + blocks of one call] NOTHING_KEPT .. DUPLICATE (`blocks._kept_at`)
    tiers: object  # tiers.Tiers
    network: object  # network.Network
    scheduling: object
    scheduling_state: object
    allocator: object  # of calls' memory, where that is not paged
    allocator_state: object
    waiting: object  # rank heap of calls
    aside: np.ndarray  # int64[n] calls that a pass has passed over
    running: np.ndarray  # int64[MAX_SEQS] in order of admission
    inbox: np.ndarray  # int64[n] calls to arrive, in order
    inbox_ns: np.ndarray  # float64[n] when
    holding: np.ndarray  # int64[n] calls that have ended and keep their blocks for a while; HELD_AT: their places
    outbox: np.ndarray  # int64[n] calls that have been prefilled here for another engine
    sources: np.ndarray  # int64[most blocks of a call] where each of the blocks at hand would be loaded from
    step: object  # cost.step.Step
    tokens_memo: np.ndarray  # float64[MAX_TOKENS + 1] ns of all layers without attention; NaN: not asked yet
    outputs_memo: np.ndarray  # float64[MAX_SEQS + 1]
    work_sums: np.ndarray  # float64[2, WORK] chunks of the batch at hand
    sums: np.ndarray  # float64[3] sequences that decode, their tokens, and those within the window
    load_ns: np.ndarray  # float64[T, 2] of a load from a tier: ns before the first byte, ns of a further block
    engine_ns: np.ndarray  # float64[len(ENGINE_PARTS)]
    gaps: np.ndarray  # int64[GAP_BINS] between tokens
    gap_total_ns: np.ndarray  # int64[1] in whole ns, so that it does not depend on the order of adding up
    clock: np.ndarray  # float64[CLOCK_PLACES]
    count: np.ndarray  # int64[COUNT_PLACES]
    rules: np.ndarray  # int64[RULE_PLACES]
    numbers: np.ndarray  # float64[2] prefetch timeout, rate at which loads fail
    log: np.ndarray  # float64[., log.COLUMNS] what happened (`sim.serving.log`); empty: nobody asks


TIMEOUT_NS, FAILURE_RATE = range(2)  # of `numbers`
