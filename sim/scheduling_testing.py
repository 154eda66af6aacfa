"""Tells the author of a scheduling policy which rules of the seam it breaks: the work of `sim.testing.check_policy`.

A small server in plain Python asks the policy as an engine does: it computes prompts in chunks, generates a token a
step, and has so many places and so much room for tokens. What the policy answers is looked at each time.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numba import config

from sim.policy import Call, Context, SchedulingPolicy, hook_samples, make_call, sample_request
from sim.testing import (
    STATE_RULE,
    Broken,
    PythonHooks,
    check_compiles,
    check_states,
    compiled_hooks,
    fresh_state,
    names_read,
    same,
    truth,
)

_SEED, _CALLS, _TENANTS, _PROGRAMS, _BLOCKS = 7, 60, 3, 9, 12


@dataclass(eq=False)
class Job:
    """A call and how far it is; `output_tokens` is what it will generate, which the policy is not told."""

    index: int
    arrival_ns: float
    input_tokens: int
    output_tokens: int
    predicted_tokens: float
    first_block: int = -1
    tenant: int = 0
    priority: int = 0
    program: int = -1
    program_arrival_ns: float = 0.0
    has_next: bool = False
    computed_tokens: int = 0  # of its prompt, and of what it had generated when it was preempted
    generated_tokens: int = 0
    admission: int = -1
    preemptions: int = 0
    rank: float = 0.0  # as last asked
    finish_ns: float = math.nan

    def call(self, now_ns: float, hit_tokens: int = -1) -> Call:
        told = (self.index, now_ns, self.arrival_ns, self.input_tokens, self.predicted_tokens, self.generated_tokens)
        who = (self.first_block, self.tenant, self.priority, self.program, self.program_arrival_ns, self.has_next)
        return make_call(*told, hit_tokens, *who, self.admission, self.preemptions)

    @property
    def held_tokens(self) -> int:
        return self.input_tokens + self.generated_tokens


@dataclass(frozen=True)
class Case:
    """A server. places: for calls that run; room_tokens: that these hold; chunk_tokens: of a prompt, in one step."""

    name: str
    places: int
    room_tokens: int = 1 << 40
    chunk_tokens: int = 64
    step_ns: float = 10.0


CASES = (
    Case("one place", places=1),
    Case("several places", places=4),
    Case("little room, so that calls are preempted", places=6, room_tokens=400, chunk_tokens=40),
)


@dataclass(eq=False)
class Server:
    """Runs all jobs under a policy's hooks. log: what happened, in order, as (event, index, ...)."""

    policy: SchedulingPolicy
    hooks: Any
    state: Any
    jobs: list[Job]
    case: Case
    now_ns: float = 0.0
    log: list[tuple] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    cached: set[int] = field(default_factory=set)  # first blocks of prompts that ran
    admissions: int = 0

    def run(self) -> Server:
        coming = sorted(self.jobs, key=lambda job: (job.arrival_ns, job.index))[::-1]
        steps = 100 * sum(1 + job.input_tokens + job.output_tokens for job in self.jobs)
        while coming or self.waiting or self.running:
            if not (self.waiting or self.running):
                self.now_ns = max(self.now_ns, coming[-1].arrival_ns)
            while coming and coming[-1].arrival_ns <= self.now_ns:
                self.arrive(coming.pop())
            self.admit_all()
            self.step()
            steps -= 1
            if steps < 0:
                raise Broken(f"calls preempt each other without end ({self.case.name})")
        return self

    # What an engine asks

    def arrive(self, job: Job) -> None:
        self.hooks.on_arrive(self.state, job.call(self.now_ns))
        self.waiting.append(job)
        job.rank = self.rank_of(job)

    def admit_all(self) -> None:
        """One scheduling pass."""
        if self.policy.dynamic:
            for job in self.waiting:
                job.rank = self.rank_of(job)
        while self.waiting:
            job = self.first_waiting()
            if self.has_room(job):
                self.admit(job)
            elif not self.give_way(job):
                return

    def first_waiting(self) -> Job:
        while True:
            job = min(self.waiting, key=_order)
            rank = self.rank_of(job)
            if rank == job.rank:
                return job
            if not self.policy.dynamic:
                told = f"from {job.rank} to {rank} while call {job.index} waited"
                raise Broken(f"rank changed {told}, but dynamic is False ({self.case.name})")
            job.rank = rank
            if job is min(self.waiting, key=_order):
                return job

    def has_room(self, job: Job) -> bool:
        free = self.case.room_tokens - sum(other.held_tokens for other in self.running)
        return len(self.running) < self.case.places and (job.held_tokens < free or not self.running)

    def give_way(self, job: Job) -> bool:
        """Whether a running call was preempted for one that waits."""
        waiting = job.call(self.now_ns)
        for other in sorted(self.running, key=lambda job: -job.admission):
            running = other.call(self.now_ns)
            if truth(self.ask("preempts", waiting, running), "preempts"):
                if truth(self.ask("preempts", running, waiting), "preempts"):
                    raise Broken(
                        f"preempts is true of calls {job.index} and {other.index} both ways ({self.case.name})"
                    )
                self.preempt(other)
                if self.first_waiting() is other:
                    told = f"call {job.index} preempts call {other.index}, which then ranks before it"
                    raise Broken(f"{told}: they would do so for ever ({self.case.name})")
                return True
        return False

    def victim_order(self, job: Job) -> tuple[float, float, int]:
        return self.number("victim_rank", job.call(self.now_ns)), job.arrival_ns, job.index

    def rank_of(self, job: Job) -> float:
        hits = -1
        if self.policy.sees_hits:
            hits = job.input_tokens // 2 if job.first_block in self.cached else 0
        return self.number("rank", job.call(self.now_ns, hits))

    # What then happens

    def admit(self, job: Job) -> None:
        self.waiting.remove(job)
        self.running.append(job)
        job.admission = self.admissions
        self.admissions += 1
        self.cached.add(job.first_block)
        self.log.append(("admit", job.index))
        self.hooks.on_admit(self.state, job.call(self.now_ns))

    def preempt(self, job: Job) -> None:
        self.running.remove(job)
        job.computed_tokens = 0
        job.preemptions += 1
        self.log.append(("preempt", job.index))
        self.hooks.on_preempt(self.state, job.call(self.now_ns))
        self.waiting.append(job)
        job.rank = self.rank_of(job)

    def step(self) -> None:
        """Each running call computes a chunk, or generates a token, for which one that gives way may have to leave."""
        self.now_ns += self.case.step_ns
        for job in sorted(self.running, key=lambda job: job.admission):
            if job in self.running:
                self.advance(job)

    def advance(self, job: Job) -> None:
        computed = min(self.case.chunk_tokens, job.held_tokens - job.computed_tokens)
        job.computed_tokens += computed
        tokens = computed
        if job.computed_tokens == job.held_tokens:
            while sum(other.held_tokens for other in self.running) >= self.case.room_tokens and len(self.running) > 1:
                victim = max(self.running, key=self.victim_order)
                self.preempt(victim)
                if victim is job:
                    return
            job.generated_tokens += 1
            job.computed_tokens += 1
            tokens = max(computed, 1)
        if self.policy.counts_tokens:
            self.hooks.on_tokens(self.state, job.call(self.now_ns), np.int64(tokens))
        if job.generated_tokens >= job.output_tokens:
            self.finish(job)

    def finish(self, job: Job) -> None:
        self.running.remove(job)
        job.finish_ns = self.now_ns
        call = job.call(self.now_ns)
        self.hooks.on_finish(self.state, call)
        hold_ns = self.number("hold_ns", call)
        if hold_ns < 0:
            raise Broken(f"hold_ns returned {hold_ns}; expected 0 or more")
        self.log.append(("finish", job.index, hold_ns))

    # How it asks

    def ask(self, hook: str, *calls: Call) -> Any:
        before = [np.copy(one) if isinstance(one, np.ndarray) else one for one in self.state]
        answer = getattr(self.hooks, hook)(self.state, *calls)
        for name, old, new in zip(self.state._fields, before, self.state, strict=True):
            if isinstance(old, np.ndarray) and not np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
                raise Broken(f"{hook} changed {name!r} of the state; a hook that answers must change nothing")
        return answer

    def number(self, hook: str, call: Call) -> float:
        answer = self.ask(hook, call)
        if isinstance(answer, bool | np.bool_) or not isinstance(answer, int | float | np.integer | np.floating):
            raise Broken(f"{hook} returned {answer!r}, which is not a number")
        if not math.isfinite(answer):
            raise Broken(f"{hook} returned {answer!r}; expected a finite number")
        return float(answer)


def _order(job: Job) -> tuple[float, float, int]:
    return job.rank, job.arrival_ns, job.index


def context(jobs: list[Job], seed: int = _SEED) -> Context:
    """What `init` is told of these jobs."""
    counts = {f"{name}s": 1 + max((getattr(job, name) for job in jobs), default=-1) for name in ("tenant", "program")}
    blocks = 1 + max((job.first_block for job in jobs), default=-1)
    return Context(capacity=1 << 20, blocks=max(blocks, 1), seed=seed, calls=len(jobs), **counts)


def random_jobs(calls: int = _CALLS, seed: int = _SEED) -> list[Job]:
    """Calls of several tenants, priorities, prefixes and programs; some arrive at one time, some alone."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.integers(0, 4, calls) * rng.choice([0.0, 15.0, 60.0], calls))
    programs = rng.integers(-1, _PROGRAMS, calls).tolist()
    jobs = []
    for index in range(calls):
        program, outputs = programs[index], int(rng.integers(1, 30))
        jobs.append(
            Job(
                index=index,
                arrival_ns=float(arrivals[index]),
                input_tokens=int(rng.integers(1, 120)),
                output_tokens=outputs,
                predicted_tokens=outputs * float(rng.choice([0.5, 1.0, 2.0])),
                first_block=int(rng.integers(-1, _BLOCKS)),
                tenant=int(rng.integers(_TENANTS)),
                priority=int(rng.integers(-1, 3)),
                program=program,
                program_arrival_ns=float(arrivals[programs.index(program)]),
                has_next=program >= 0 and program in programs[index + 1 :],
            )
        )
    return jobs


def serve(
    policy: SchedulingPolicy,
    jobs: list[Job],
    case: Case,
    parameters: dict[str, Any] | None = None,
    compiled: bool = False,
) -> Server:
    """The server after it ran all jobs, which are left as they are."""
    hooks = compiled_hooks(policy) if compiled else PythonHooks(policy, case.name)
    jobs = [replace(job) for job in jobs]
    state = fresh_state(policy, context(jobs), parameters or {}, case.name)
    return Server(policy, hooks, state, jobs, case).run()


def rules(policy: SchedulingPolicy, parameters: dict[str, Any]) -> Iterator[tuple[str, Callable[[], None]]]:
    """What to check of a policy."""
    told = context(random_jobs())

    def fresh(told: Context = told) -> Any:
        return fresh_state(policy, told, parameters, f"{told.calls} calls")

    yield "init gives a new state each time", lambda: check_states(fresh(), fresh())
    yield "init takes a context without calls", lambda: _nothing_of(fresh(Context(1, 1)))
    yield "hits that rank reads are asked for", partial(_check_hits, policy)
    samples = hook_samples(policy, fresh(), sample_request())
    yield "every hook compiles and returns the right type", lambda: check_compiles(policy, samples)
    for case in CASES:
        yield f"answers well with {case.name}", lambda case=case: _nothing_of(_log(policy, parameters, case))
    yield "the same again for the same seed", partial(_check_repeats, policy, parameters)
    if not config.DISABLE_JIT:
        for case in CASES:
            yield f"compiled as in Python with {case.name}", partial(_check_compiled, policy, parameters, case)


def _nothing_of(_result: Any) -> None:
    """A trial gives nothing back."""


def _log(policy: SchedulingPolicy, parameters: dict[str, Any], case: Case, compiled: bool = False) -> list[tuple]:
    return serve(policy, random_jobs(), case, parameters, compiled).log


def _check_hits(policy: SchedulingPolicy) -> None:
    for hook in policy.HOOKS:
        function = getattr(getattr(policy, hook), "py_func", getattr(policy, hook))
        for argument in list(inspect.signature(function).parameters)[1:]:
            if "hit_tokens" not in names_read(function, argument):
                continue
            if hook != "rank":
                raise Broken(f"{hook} reads {argument}.hit_tokens, which rank alone is told")
            if not policy.sees_hits:
                raise Broken(f"rank reads {argument}.hit_tokens, but sees_hits is False")


def _check_repeats(policy: SchedulingPolicy, parameters: dict[str, Any]) -> None:
    one, other = (_log(policy, parameters, CASES[-1]) for _ in range(2))
    same(one, other, f"{policy.name} does not schedule the same for the same seed", STATE_RULE)


def _check_compiled(policy: SchedulingPolicy, parameters: dict[str, Any], case: Case) -> None:
    one, other = (_log(policy, parameters, case, compiled) for compiled in (False, True))
    same(one, other, f"{policy.name} does not schedule the same in Python and compiled ({case.name})", STATE_RULE)
