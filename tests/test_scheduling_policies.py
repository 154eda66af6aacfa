"""Scheduling policies against sorted lists and laws, on the small server that checks the rules of the seam.

What the server asks the policy is what an engine asks; what should come out is said here by other means.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby, pairwise, permutations
from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import registry
from sim.errors import InputError
from sim.kernels.compile import kernel, plain
from sim.policy import Context, make_call
from sim.scheduling_testing import CASES, Case, Job, Server, context, random_jobs, serve
from sim.testing import CheckFailed, PythonHooks, check_policy

NAMES = registry.names(registry.SCHEDULING)
ONE = Case("one place", places=1)
MANY = settings(deadline=None, max_examples=40)


def policy_named(name):
    return registry.load(registry.SCHEDULING, name)


def admitted(server):
    """Indices in order of admission."""
    return [index for event, index, *_ in server.log if event == "admit"]


def steps_of(job, case):
    """So many steps a call takes alone; the last chunk of its prompt gives the first token."""
    return math.ceil(job.input_tokens / case.chunk_tokens) - 1 + job.output_tokens


def by_sorted_list(jobs, key, case=ONE):
    """Order of admission at one place, none preempted: the least (key, arrival, index) of those that are there."""
    now, order, coming = 0.0, [], sorted(jobs, key=lambda job: (job.arrival_ns, job.index))
    while coming:
        now = max(now, coming[0].arrival_ns)
        there = [job for job in coming if job.arrival_ns <= now]
        job = min(there, key=lambda job: (key(job), job.arrival_ns, job.index))
        coming.remove(job)
        order.append(job.index)
        now += steps_of(job, case) * case.step_ns
    return order


@pytest.mark.parametrize(
    ("name", "parameters", "key"),
    [
        ("fcfs", {}, lambda job: job.arrival_ns),
        ("priority", {}, lambda job: -job.priority),
        ("priority", {"low_values_first": True}, lambda job: job.priority),
        ("shortest_predicted", {}, lambda job: job.predicted_tokens),
        ("shortest_predicted", {"input_weight": 0.5}, lambda job: job.predicted_tokens + job.input_tokens / 2),
        ("shortest_predicted", {"aging_tokens_per_s": 2e7}, lambda job: job.predicted_tokens + job.arrival_ns / 50),
        ("program_fcfs", {"ttl_ns": 0.0}, lambda job: job.program_arrival_ns if job.program >= 0 else job.arrival_ns),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_that_of_a_sorted_list(name, parameters, key, seed):
    jobs = random_jobs(50, seed)
    assert admitted(serve(policy_named(name), jobs, ONE, parameters)) == by_sorted_list(jobs, key)


@pytest.mark.parametrize("places", [1, 4])
def test_fcfs_never_overtakes(places):
    order = admitted(serve(policy_named("fcfs"), random_jobs(), Case("", places)))
    assert order == list(range(len(order)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_call_ends_once_and_is_admitted_once_more_than_preempted(name, case):
    events = [event[:2] for event in serve(policy_named(name), random_jobs(), case).log]
    for index in range(len(random_jobs())):
        assert events.count(("finish", index)) == 1
        assert events.count(("admit", index)) == 1 + events.count(("preempt", index))


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="compares with what is compiled")
@pytest.mark.parametrize("name", NAMES)
def test_compiled_as_in_python(name):
    policy = policy_named(name)
    for case in CASES:
        assert serve(policy, random_jobs(), case, compiled=True).log == serve(policy, random_jobs(), case).log


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("shortest_predicted", {"aging_tokens_per_s": -1.0}),
        ("shortest_predicted", {"input_weight": -0.5}),
        ("longest_prefix", {"most_waiting": -1}),
        ("prefix_groups", {"order": "biggest"}),
        ("program_fcfs", {"ttl_ns": -1.0}),
        ("program_fcfs", {"longest_pause_ns": float("nan")}),
        ("fair_share", {"quantum": float("inf")}),
        ("fair_share", {"output_weight": -2.0}),
    ],
)
def test_a_parameter_out_of_range_is_one_line(name, parameters):
    with pytest.raises(InputError, match=f"scheduling policy '{name}': {next(iter(parameters))} is .*; expected"):
        policy_named(name).make_state(Context(1, 1), parameters)


# ---------------------------------------------------------------------------------------------------------- preemption


def victim(name, jobs, parameters=None):
    """The call that is preempted when all of these run, at time 1000."""
    policy = policy_named(name)
    state = policy.make_state(context(jobs), parameters or {})
    running = Server(policy, PythonHooks(policy, "test"), state, jobs, ONE, now_ns=1000.0)
    for job in jobs:
        running.arrive(job)
        running.admit(job)
    return max(jobs, key=running.victim_order).index


def test_who_is_preempted_where_blocks_run_out():
    jobs = [Job(i, float(i), 10, 10, 50.0 - 10 * (i == 1), priority=(0, 2, 0, 1)[i]) for i in range(4)]
    assert victim("fcfs", [replace(job) for job in jobs]) == 3
    assert victim("priority", [replace(job) for job in jobs]) == 2  # of calls 0 and 2 the one that arrived last
    assert victim("shortest_predicted", [replace(job) for job in jobs]) == 3
    assert victim("fair_share", [replace(job, tenant=int(job.index == 0)) for job in jobs]) == 3


def test_shortest_predicted_preempts_only_where_told_to():
    jobs = [Job(0, 0.0, 1, 100, 100.0), Job(1, 50.0, 1, 5, 5.0), Job(2, 60.0, 1, 200, 200.0)]
    policy = policy_named("shortest_predicted")
    assert serve(policy, jobs, ONE).log == [(e, i, *r) for i in (0, 1, 2) for e, *r in (("admit",), ("finish", 0.0))]
    log = serve(policy, jobs, ONE, {"preemptive": True}).log
    assert [event[:2] for event in log[:4]] == [("admit", 0), ("preempt", 0), ("admit", 1), ("finish", 1)]
    assert ("preempt", 2) not in [event[:2] for event in log]


# -------------------------------------------------------------------------------------------------- shortest_predicted


@MANY
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_shortest_first_waits_least_of_all_orders(outputs):
    jobs = [Job(i, 0.0, 1, tokens, float(tokens)) for i, tokens in enumerate(outputs)]
    served = serve(policy_named("shortest_predicted"), jobs, ONE).jobs
    ours = sum(job.finish_ns - ONE.step_ns * job.output_tokens for job in served)
    best = min(
        sum(tokens * (len(order) - 1 - at) for at, tokens in enumerate(order)) for order in permutations(outputs)
    )
    assert ours == ONE.step_ns * best


def test_aging_keeps_a_long_call_from_starving():
    """Short calls come as fast as they are served; a long one that was there first gets its turn only with aging."""
    jobs = [Job(0, 0.0, 1, 1000, 1000.0), *(Job(i, 100.0 * (i - 1), 1, 10, 10.0) for i in range(1, 200))]
    policy = policy_named("shortest_predicted")
    assert admitted(serve(policy, jobs, ONE))[-1] == 0
    order = admitted(serve(policy, jobs, ONE, {"aging_tokens_per_s": 1e8}))
    assert order.index(0) == 99  # 990 tokens more than a short one are made up for in 9,900 ns


# ------------------------------------------------------------------------------------------------------ longest_prefix


def test_the_longest_prefix_goes_first_as_the_cache_is_then():
    """Against a list that is sorted anew at each admission. A prefix is there once a call with it ran."""
    jobs = [replace(job, arrival_ns=0.0) for job in random_jobs(40, seed=3)]
    left, cached, expected = list(jobs), set(), []
    while left:
        job = min(left, key=lambda job: (-(job.input_tokens // 2 if job.first_block in cached else 0), job.index))
        left.remove(job)
        cached.add(job.first_block)
        expected.append(job.index)
    assert admitted(serve(policy_named("longest_prefix"), jobs, ONE)) == expected != sorted(expected)


def test_with_many_waiting_it_is_first_come_first_served():
    jobs = [replace(job, arrival_ns=0.0) for job in random_jobs(40, seed=3)]
    order = admitted(serve(policy_named("longest_prefix"), jobs, ONE, {"most_waiting": 25}))
    assert order[:15] == list(range(15))
    assert order[15:] != list(range(15, 40))


# ------------------------------------------------------------------------------------------------------- prefix_groups

GROUPED = st.lists(st.tuples(st.integers(-1, 4), st.integers(1, 3), st.sampled_from([10, 20])), min_size=1, max_size=25)


@pytest.mark.parametrize("order", ["arrival", "size", "decode_ratio"])
@pytest.mark.parametrize("places", [1, 3])
@MANY
@given(GROUPED)
def test_groups_stay_together_and_begin_in_order(order, places, told):
    jobs = [Job(i, 0.0, inputs, out, float(out), first_block=block) for i, (block, out, inputs) in enumerate(told)]
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.first_block if job.first_block >= 0 else -1 - job.index, []).append(job)
    worth = {
        "arrival": lambda group: 0,
        "size": len,
        "decode_ratio": lambda group: (
            1024 * sum(job.output_tokens for job in group) // sum(job.input_tokens for job in group)
        ),
    }[order]
    expected = sorted(groups.values(), key=lambda group: (-worth(group), group[0].index))
    served = admitted(serve(policy_named("prefix_groups"), jobs, Case("", places), {"order": order}))
    assert served == [job.index for group in expected for job in group]


def test_a_group_that_has_begun_goes_on_with_what_arrives_meanwhile():
    jobs = [Job(i, 20.0 * i, 1, 5, 5.0, first_block=i % 2) for i in range(9)]
    blocks = [jobs[i].first_block for i in admitted(serve(policy_named("prefix_groups"), jobs, ONE, {"order": "size"}))]
    assert [block for block, _ in groupby(blocks)] == [0, 1]


# -------------------------------------------------------------------------------------------------------- program_fcfs


def program_of(*arrivals, program=0, first_index=0):
    return [
        Job(first_index + i, at, 1, 10, 10.0, -1, 0, 0, program, arrivals[0], has_next=at != arrivals[-1])
        for i, at in enumerate(arrivals)
    ]


def holds(server):
    return {event[1]: event[2] for event in server.log if event[0] == "finish"}


def test_blocks_are_pinned_while_a_program_calls_its_tools():
    jobs = program_of(0.0, 200.0, 400.0)
    assert holds(serve(policy_named("program_fcfs"), jobs, ONE, {"ttl_ns": 500.0})) == {0: 500.0, 1: 500.0, 2: 0.0}


def test_a_program_whose_pauses_are_long_is_pinned_no_more():
    jobs = program_of(0.0, 200.0, 1000.0, 1200.0)  # calls take 100 ns: pauses of 100, 700 and 100 ns
    told = {"ttl_ns": 500.0, "longest_pause_ns": 300.0}
    assert holds(serve(policy_named("program_fcfs"), jobs, ONE, told)) == {0: 500.0, 1: 500.0, 2: 0.0, 3: 0.0}
    always = {**told, "longest_pause_ns": 0.0}
    assert holds(serve(policy_named("program_fcfs"), jobs, ONE, always)) == {0: 500.0, 1: 500.0, 2: 500.0, 3: 0.0}


def test_a_program_that_comes_back_while_it_is_pinned_goes_first():
    """Program 1's second call comes while program 0's first one waits."""
    later = [replace(job, program=1, program_arrival_ns=10.0) for job in program_of(10.0, 150.0, first_index=1)]
    blocking, waiting = Job(3, 120.0, 1, 10, 10.0), Job(0, 130.0, 1, 10, 10.0, program=0, program_arrival_ns=0.0)
    jobs = [waiting, later[0], later[1], blocking]
    policy = policy_named("program_fcfs")
    assert admitted(serve(policy, jobs, ONE, {"ttl_ns": 1000.0})) == [1, 3, 2, 0]
    assert admitted(serve(policy, jobs, ONE, {"ttl_ns": 0.0})) == [1, 3, 0, 2]


def test_preempted_calls_of_programs_go_before_all_others():
    policy = policy_named("program_fcfs")
    state = policy.make_state(Context(1, 1, calls=3, programs=2))
    state.pinned[1] = True
    ranks = [
        policy.rank(state, make_call(i, 0.0, 0.0, 1, 1.0, program=0, program_arrival_ns=at, preemptions=times))
        for i, at, times in ((2, 1e15, 1), (1, 2e15, 0), (0, 0.0, 0))
    ]
    assert ranks == sorted(ranks) and len(set(ranks)) == 3


# ---------------------------------------------------------------------------------------------------------- fair_share


class Watched(Server):
    """Takes down, after each step in which both tenants still wait, what each was served so far."""

    def step(self):
        super().step()
        if {job.tenant for job in self.waiting} == {0, 1}:
            self.served.append([self.served_of(tenant) for tenant in (0, 1)])

    def served_of(self, tenant):
        jobs = [job for job in self.jobs if job.tenant == tenant and job.admission >= 0]
        return sum(job.input_tokens + 2 * job.generated_tokens for job in jobs)


LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=2, max_size=15)


@MANY
@given(LENGTHS, LENGTHS, st.integers(1, 4))
def test_two_tenants_that_always_wait_are_served_alike(one, other, places):
    jobs = [Job(i, 0.0, inputs, out, 1.0, tenant=0) for i, (inputs, out) in enumerate(one)]
    jobs += [Job(len(one) + i, 0.0, inputs, out, 1.0, tenant=1) for i, (inputs, out) in enumerate(other)]
    policy = policy_named("fair_share")
    state = policy.make_state(context(jobs), {"quantum": 0.0})
    server = Watched(policy, PythonHooks(policy, "test"), state, jobs, Case("", places))
    server.served = []
    server.run()
    longest, held = max(job.input_tokens for job in jobs), max(job.held_tokens for job in jobs)
    assert all(abs(a - b) <= max(longest, 2 * places * held) for a, b in server.served)


def test_a_tenant_that_was_away_has_saved_up_nothing():
    """The second tenant begins to wait after the first was served for long: they take turns from then on."""
    jobs = [Job(i, 0.0, 10, 10, 1.0, tenant=0) for i in range(40)]
    jobs += [Job(40 + i, 2000.0, 10, 10, 1.0, tenant=1) for i in range(20)]
    order = [jobs[index].tenant for index in admitted(serve(policy_named("fair_share"), jobs, ONE))]
    assert order[:20] == [0] * 20
    assert all(sorted(pair) == [0, 1] for pair in zip(order[20:60:2], order[21:60:2], strict=True))


@MANY
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), min_size=1, max_size=30))
def test_the_next_call_is_of_the_tenant_that_was_served_least(told):
    """Against counters kept as the paper's listing says, one event after the other."""
    jobs = [Job(i, float(at), 1 + at % 7, 1 + at % 5, 1.0, tenant=tenant) for i, (tenant, at) in enumerate(told)]
    policy = policy_named("fair_share")
    server = serve(policy, jobs, ONE, {"quantum": 0.0})
    counter, queue, last, expected = dict.fromkeys(range(4), 0.0), [], None, []
    coming, now = sorted(jobs, key=lambda job: (job.arrival_ns, job.index)), 0.0

    def take_in():
        while coming and coming[0].arrival_ns <= now:
            job, waiting = coming.pop(0), {one.tenant for one in queue}
            if job.tenant not in waiting:
                base = min((counter[one] for one in waiting), default=0.0 if last is None else counter[last])
                counter[job.tenant] = max(counter[job.tenant], base)
            queue.append(job)

    while coming or queue:
        now = now if queue else max(now, coming[0].arrival_ns)
        take_in()
        job = min(queue, key=lambda job: (counter[job.tenant], job.arrival_ns, job.index))
        queue.remove(job)
        last = job.tenant if job.tenant not in {one.tenant for one in queue} else last
        expected.append(job.index)
        counter[job.tenant] += job.input_tokens
        for _ in range(job.output_tokens):
            take_in()
            now += ONE.step_ns
            counter[job.tenant] += 2
    assert admitted(server) == expected


def test_far_behind_preempts_far_ahead_and_only_then():
    jobs = [Job(0, 0.0, 1, 100, 1.0, tenant=0), Job(1, 20.0, 1, 5, 1.0, tenant=1)]
    events = {
        quantum: [event[:2] for event in serve(policy_named("fair_share"), jobs, ONE, {"quantum": quantum}).log]
        for quantum in (0.0, 50.0, 1000.0)
    }
    assert events[50.0][:4] == [("admit", 0), ("preempt", 0), ("admit", 1), ("finish", 1)]
    assert events[0.0] == events[1000.0] == [("admit", 0), ("finish", 0), ("admit", 1), ("finish", 1)]


# ------------------------------------------------------------------------------------------- what breaks a rule is told

FCFS = policy_named("fcfs")


def nan_rank(state, call):
    return np.nan


def both_ways(state, waiting, running):
    return True


def later(state, waiting, running):
    return waiting.arrival_ns > running.arrival_ns


def negative(state, call):
    return -1.0


def young(state, call):
    return -(call.now_ns - call.arrival_ns)


def by_hits(state, call):
    return -float(call.hit_tokens)


def text(state, call):
    return "first"


def keeps_tokens(state, call, tokens):
    """Has nothing to do."""


class Counts(NamedTuple):
    asked: np.ndarray


def init_counts(context):
    return Counts(np.zeros(1, np.int64))


def counts_questions(state, call):
    state.asked[0] += 1
    return call.arrival_ns


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (lambda: replace(FCFS, name="wrong", rank=nan_rank), "rank returned nan; expected a finite number"),
        (lambda: replace(FCFS, name="wrong", preempts=both_ways), "preempts is true of calls .* both ways"),
        (lambda: replace(FCFS, name="wrong", preempts=later), "call .* preempts call .*, which then ranks before it"),
        (lambda: replace(FCFS, name="wrong", hold_ns=negative), "hold_ns returned -1.0; expected 0 or more"),
        (lambda: replace(FCFS, name="wrong", rank=young), "while call .* waited, but dynamic is False"),
        (lambda: replace(FCFS, name="wrong", rank=by_hits), "rank reads call.hit_tokens, but sees_hits is False"),
        (
            lambda: replace(FCFS, name="wrong", victim_rank=by_hits),
            "victim_rank reads call.hit_tokens, which rank alone",
        ),
        (lambda: replace(FCFS, name="wrong", rank=text), "hook rank returns|which is not a number"),
        (
            lambda: replace(FCFS, name="wrong", init=init_counts, rank=counts_questions),
            "rank changed 'asked' of the state; a hook that answers must change nothing",
        ),
    ],
)
def test_what_breaks_a_rule_is_told(policy, told):
    with pytest.raises(CheckFailed, match=told):
        check_policy(policy())


def test_a_hook_that_would_not_be_called_is_refused():
    with pytest.raises(InputError, match="scheduling policy 'fcfs': on_tokens would not be called"):
        replace(FCFS, on_tokens=keeps_tokens)
    assert replace(FCFS, on_tokens=keeps_tokens, counts_tokens=True).has("on_tokens")
    assert not FCFS.has("on_tokens")


def test_ranks_that_change_with_time_are_asked_for_anew():
    assert check_policy(replace(FCFS, name="youngest", rank=young, dynamic=True)).kind == "scheduling"
    order = admitted(serve(replace(FCFS, name="oldest", rank=young, dynamic=True), random_jobs(), ONE))
    assert all(a < b for a, b in pairwise(order))


@kernel
def asked_by_an_engine(policy, state, call, other):
    """As an engine asks: by the hooks of a plugin whose type it is compiled for."""
    policy.on_arrive(state, call)
    rank = np.float64(policy.rank(state, call))
    policy.on_admit(state, call)
    policy.on_tokens(state, call, 3)
    taken = policy.preempts(state, other, call)
    victim = np.float64(policy.victim_rank(state, call))
    policy.on_preempt(state, call)
    policy.on_admit(state, call)
    policy.on_finish(state, call)
    return rank, victim, taken, np.float64(policy.hold_ns(state, call))


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_calls_the_hooks_of_a_plugin(name):
    policy = policy_named(name)
    told = Context(1, 4, calls=2, tenants=2, programs=1)
    call = make_call(0, 5.0, 5.0, 7, 9.0, 2, 3, 1, 1, 2, 0, 4.0, True, 0, 0)
    other = make_call(1, 5.0, 1.0, 7, 2.0)
    compiled = asked_by_an_engine(policy, policy.make_state(told), call, other)
    in_python = plain(asked_by_an_engine)(policy, policy.make_state(told), call, other)
    assert compiled == in_python
