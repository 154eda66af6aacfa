"""The generator of chat sessions: what its prompts share, and how near its defaults are to the trace they follow."""

from __future__ import annotations

import numpy as np
import pytest

from sim import registry
from sim.errors import InputError
from sim.trace_loading import generate, load_trace

MOONCAKE = {  # of mooncake_conversation.jsonl
    "requests": 12_031,
    "duration_s": 3537.0,
    "hit_ratio": 0.36641,
    "any_hit": 0.99992,
    "hit_beyond_first_block": 0.38717,
    "input_mean": 12_035.1,
    "input_median": 6909.0,
    "input_p90": 27_367.0,
    "output_mean": 342.62,
    "output_median": 350.0,
    "output_p90": 597.0,
}
ONE_SEED, MANY_SEEDS = 0.05, 0.02  # relative; a seed's 90th percentile of prompts alone varies by 5 %


def statistics(trace) -> dict[str, float]:
    """Of an infinite cache, and of lengths."""
    calls, seen = trace.calls, trace.with_previous_access().column("previous_access") >= 0
    bounds = zip(calls.first_row[:-1], calls.first_row[1:], strict=True)
    leading = np.array([np.argmin(np.append(seen[start:end], False)) for start, end in bounds])
    found = {
        "requests": len(calls.arrival_ns),
        "duration_s": calls.arrival_ns[-1] / 1e9,
        "hit_ratio": seen.mean(),
        "any_hit": (leading > 0).mean(),
        "hit_beyond_first_block": (leading > 1).mean(),
    }
    for name in ("input", "output"):
        tokens = getattr(calls, f"{name}_tokens")
        found[f"{name}_mean"], found[f"{name}_median"] = tokens.mean(), np.median(tokens)
        found[f"{name}_p90"] = np.percentile(tokens, 90)
    return found


def prompts_of(trace):
    """(program, input tokens, output tokens, arrival, ids) by call."""
    calls, block = trace.calls, trace.address[trace.column("block")]
    columns = (calls.program, calls.input_tokens, calls.output_tokens, calls.arrival_ns)
    for i, (program, *rest) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        yield program, *rest, block[calls.first_row[i] : calls.first_row[i + 1]].tolist()


def test_the_stored_numbers_are_the_trace_s(shared_file):
    found = statistics(load_trace(shared_file("mooncake_conversation.jsonl")))
    assert found == pytest.approx(MOONCAKE, rel=2e-5)


def test_the_defaults_are_like_mooncake_s_conversation():
    assert statistics(generate("chat", {}, 0)) == pytest.approx(MOONCAKE, rel=ONE_SEED)


def test_the_defaults_are_like_it_whatever_the_seed():
    runs = [statistics(generate("chat", {}, seed)) for seed in range(1, 13)]
    mean = {name: np.mean([run[name] for run in runs]) for name in MOONCAKE}
    assert mean == pytest.approx(MOONCAKE, rel=MANY_SEEDS)


def test_a_turn_repeats_the_prompt_before_it():
    trace = generate("chat", {"requests": 3000, "rewrite_share": 0.0, "system_prompts": 3, "system_tokens": 1100}, 4)
    before, ends, owner = {}, {}, {}
    for program, prompt, output, arrival_ns, ids in prompts_of(trace):
        assert len(ids) == len(set(ids)) == -(-prompt // 512)
        if program in before:
            last, whole = before[program], ends[program][0] // 512
            assert prompt > ends[program][0] + ends[program][1]
            assert ids[:whole] == last[:whole] and not set(ids[whole:]) & set(last)
            assert arrival_ns >= ends[program][2] + ends[program][1] * 30e6
        for id in ids[2:]:
            assert owner.setdefault(id, program) == program
        before[program], ends[program] = ids, (prompt, output, arrival_ns)
    heads = {tuple(ids[:2]) for ids in before.values() if len(ids) > 2}
    assert heads == {(0, 1), (2, 3), (4, 5)}
    assert sum(ids[0] == 0 for ids in before.values()) / len(before) == pytest.approx(6 / 11, abs=0.05)


def test_rewritten_turns_keep_a_part():
    trace = generate("chat", {"requests": 4000, "rewrite_share": 1.0, "single_turn_share": 0.0}, 4)
    before, kept = {}, []
    for program, prompt, _, _, ids in prompts_of(trace):
        if program in before and before[program][0] > 20_000:
            shared = np.argmin([*np.equal(ids[: len(before[program][1])], before[program][1]), False])
            kept.append(shared * 512 / before[program][0])
        before[program] = (prompt, ids)
    assert 0.45 < np.mean(kept) < 0.53 and np.quantile(kept, 0.1) < 0.15 and np.quantile(kept, 0.9) > 0.85


def test_same_seed_same_trace_and_a_longer_one_begins_like_it():
    short, again, other = (generate("chat", {"requests": 2000}, seed) for seed in (5, 5, 6))
    assert short.digest == again.digest != other.digest
    long = generate("chat", {"requests": 20_000}, 5)
    for ours, theirs in zip(prompts_of(short), prompts_of(long), strict=False):
        assert ours == theirs
    assert len(long.calls.arrival_ns) == 20_000 and (np.diff(long.calls.arrival_ns) >= 0).all()


def test_tenants_and_sessions():
    calls = generate("chat", {"requests": 5000, "tenants": 2, "tenant_alpha": 1.0}, 1).calls
    assert calls.tenant.mean() == pytest.approx(1 / 3, abs=0.04)
    owners = {}
    for program, tenant in zip(calls.program.tolist(), calls.tenant.tolist(), strict=True):
        assert owners.setdefault(program, tenant) == tenant


def test_an_agent_goes_on_after_the_time_of_a_tool():
    params = {"requests": 4000, "single_turn_share": 0.0, "turns": 20, "tool_share": 1.0, "tool_s": 3.0}
    gaps, last = [], {}
    for program, _, output, arrival_ns, _ in prompts_of(generate("chat", params, 1)):
        if program in last:
            gaps.append(arrival_ns - last[program])
        last[program] = arrival_ns + output * 30e6
    assert np.median(gaps) == pytest.approx(3e9, rel=0.06) and min(gaps) > 0


def test_bursts_of_sessions():
    def dispersion(arrival):
        params = {"requests": 8000, "arrival": arrival, "single_turn_share": 1.0, "burst_factor": 8.0, "burst_s": 30.0}
        counts = np.bincount((generate("chat", params, 2).calls.arrival_ns // 10e9).astype(int))
        return counts.var() / counts.mean()

    assert dispersion("poisson") < 1.5 and dispersion("bursty") > 4


def test_the_context_is_kept_to():
    calls = generate("chat", {"requests": 5000, "context_tokens": 8000, "turns": 10}, 1).calls
    total = calls.input_tokens + calls.output_tokens
    assert total.max() == 8000 and calls.output_tokens.min() >= 1 and calls.input_tokens.min() > 880


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"system_tokens": 500, "context_tokens": 501}, "no room for a prompt"),
        ({"turns": 1.5}, "turns: too small"),
        ({"rewrite_share": 1.1}, "at most 1"),
        ({"arrival": "closed"}, "arrival"),
        ({"arrival": "bursty", "burst_factor": 11.0}, "mean rate"),
        ({"turn": 3}, "did you mean 'turns'"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(InputError, match=message):
        generate("chat", params, 0)


def test_it_is_registered():
    assert "chat" in registry.names(registry.GENERATOR)
