"""`explain`: why a serving run took the time that it took, or why an allocator refused what it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import result_files
from sim.commands import output
from sim.commands.output import Answer
from sim.errors import InputError

if TYPE_CHECKING:
    from sim.serving.explain import Slice, Stretch
    from sim.serving.results import ServingResult
    from sim.serving.scenario import ServingScenario
    from sim.serving.what_if import Outcome

_MOST_STRETCHES = 12  # that are told one by one


def explain(folder: str, request: int | None, what_if: bool, scenario: str | None, trace: str | None) -> Answer:
    """Why. scenario, trace: those of the run, where they are files, of which a result does not say the places.

    Raises InputError where there is no such result or request, or the run cannot be simulated again.
    """
    if result_files.format_of(Path(folder)).startswith("memhier allocation"):
        from sim.commands import allocations

        for name, given in (("--request", request), ("--what-if", what_if or None), ("--scenario", scenario)):
            if given is not None:
                raise InputError(f"{name} is of serving runs; these results are of allocations:", file=folder)
        return allocations.explain(folder, trace)
    if trace is not None:
        raise InputError("--trace is of results of allocations:", value=trace, expected="--scenario FILE")
    from sim.serving import explain as why
    from sim.serving.results import load_serving_result

    result = load_serving_result(Path(folder))
    if request is not None:
        told = why.request(result, request)
        return Answer(told, [_flat(told)], lambda: _request_table(told))
    plain = _scenario(result, scenario)
    found: dict[str, Any] = {
        "slices": why.slices(result),
        "bottlenecks": why.bottlenecks(result),
        "break_even": _break_even(result, plain),
    }
    if what_if:
        found["what_if"] = _outcomes(result, plain)
        found["offloading"] = why.verdict(len(result.tier_names) > 1, found["what_if"]["this run"], found["what_if"])
    else:
        found["offloading"] = why.estimate(result)
    document = {name: _plain(one) for name, one in found.items()}
    return Answer(document, [_flat(one) for one in document["slices"]], lambda: _report(result, found))


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    """One row: what is in a mapping within has the mapping's name and a point before its own."""
    row: dict[str, Any] = {}
    for name, value in told.items():
        row |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}
    return row


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


# --- what needs the run's scenario -----------------------------------------------------------------------------------


def _scenario(result: ServingResult, file: str | None) -> Mapping[str, Any]:
    plain = result.manifest["scenario"]
    if file is None:
        return plain
    from sim.serving.rebuilding import with_places
    from sim.serving.scenario import load_serving_scenario

    return with_places(plain, load_serving_scenario(file))


def _break_even(result: ServingResult, plain: Mapping[str, Any]) -> dict[str, Any]:
    """By lower tier: tokens from which loading is sooner (None: never), or why that cannot be told."""
    lower = result.tier_names[1:]
    try:
        return _break_even_of(result, plain, lower)
    except InputError as error:
        return dict.fromkeys(lower, str(error))


def _break_even_of(result: ServingResult, plain: Mapping[str, Any], lower: tuple[str, ...]) -> dict[str, int | None]:
    from sim.cost.step import make_step
    from sim.serving.break_even import break_even_tokens, computing_ns_of, loading_ns_of
    from sim.serving.rebuilding import loaded_of, options_of

    if not lower:
        return {}
    options, (profile, model, gpu, kernels) = options_of(plain), loaded_of(plain)
    step = make_step(model, gpu, kernels, options.tensor_parallel)
    block_tokens = result.manifest["block_tokens"]
    bytes_per_token = result.manifest["block_bytes"] / block_tokens
    most = max(block_tokens, int(result.column("requests", "input_tokens").max(initial=0)))
    computing_ns = computing_ns_of(step, options.max_num_batched_tokens)
    copies = (options.copy_blocks, options.copy_overhead_ns)
    return {
        tier: break_even_tokens(
            computing_ns, loading_ns_of(profile, tier, bytes_per_token, block_tokens, *copies), most, block_tokens
        )
        for tier in lower
    }


def _outcomes(result: ServingResult, plain: Mapping[str, Any]) -> dict[str, Outcome]:
    """This run's, then what each changed scenario comes to."""
    from sim.profile import load_profile
    from sim.serving.rebuilding import scenario_of
    from sim.serving.simulation import simulate
    from sim.serving.what_if import Outcome, enough_blocks_of, outcomes

    def run(changed: ServingScenario):
        with output.live() as view:
            return simulate(changed, progress=view.begin("what if") if view else None)

    scenario = scenario_of(plain)
    profile = load_profile(scenario.system, scenario.profile_overrides)
    room = enough_blocks_of(result), result.manifest["block_bytes"]
    return {"this run": Outcome.of(result.summary), **outcomes(scenario, profile, *room, run)}


# --- what is printed -------------------------------------------------------------------------------------------------


def _report(result: ServingResult, found: Mapping[str, Any]):
    from rich.console import Group
    from rich.text import Text

    from sim.serving.report import accounting

    lines = [*_bottleneck_lines(found["bottlenecks"]), *_break_even_lines(found["break_even"])]
    return Group(
        Text(f"{result.label}: {accounting(result)}"),
        _slice_table(found["slices"]),
        *map(Text, lines),
        *([_what_if_table(found["what_if"])] if "what_if" in found else []),
        Text(found["offloading"]),
    )


def _slice_table(slices: list[Slice]):
    from sim.serving.report import PART_NAMES
    from sim.units import format_time

    headings = [f"{one.name} (such as request {one.request})" for one in slices]
    rows = [["latency", *(format_time(one.latency_ns, 4) for one in slices)]]
    for part, noun in PART_NAMES.items():
        if any(one.parts_ns[part] > 0 for one in slices):
            rows.append([noun, *(_share(one.parts_ns[part], one.latency_ns) for one in slices)])
    for tier in slices[0].hit_tokens if slices else ():
        rows.append([f"tokens found in {tier}", *(f"{one.hit_tokens[tier]:,.4g}" for one in slices)])
    return output.table(["where the time went", *headings], rows)


def _share(part_ns: float, whole_ns: float) -> str:
    from sim.units import format_time

    return f"{format_time(part_ns, 3)} ({100 * part_ns / whole_ns:.1f} %)" if whole_ns else format_time(part_ns, 3)


def _bottleneck_lines(stretches: list[Stretch]) -> list[str]:
    """'bottleneck: 0 s to 120 s compute (92 % busy); ...', the longest of many, and what was it for how long in all."""
    from sim.serving.explain import shares_of_time
    from sim.units import format_time

    if not stretches:
        return ["bottleneck: the run has too few samples to tell"]
    in_all = ", ".join(f"{name} {100 * share:.3g} %" for name, share in shares_of_time(stretches).items())
    longest = sorted(stretches, key=lambda one: one.from_ns - one.to_ns)[:_MOST_STRETCHES]
    told = "; ".join(
        f"{format_time(one.from_ns, 3)} to {format_time(one.to_ns, 3)} {one.resource} ({100 * one.share:.0f} %)"
        for one in sorted(longest, key=lambda one: one.from_ns)
    )
    rest = len(stretches) - len(longest)
    others = f"; and {rest} shorter stretches" if rest else ""
    return [f"bottleneck, by share of the time: {in_all}", f"when: {told}{others}"]


def _break_even_lines(break_even: Mapping[str, int | str | None]) -> list[str]:
    lines = []
    for tier, tokens in break_even.items():
        if tokens is None:
            lines.append(f"loading from {tier}: computing again is sooner for every prompt of this run")
        elif isinstance(tokens, str):
            lines.append(f"loading from {tier}: break-even cannot be told: {tokens}")
        else:
            lines.append(f"loading from {tier} is sooner than computing again from {tokens:,} tokens on")
    return lines


def _what_if_table(outcomes: Mapping[str, Outcome]):
    """A row a change, the shortest times marked."""
    from sim.report.cells import marked

    ours, every = next(iter(outcomes.values())), list(outcomes.values())
    ttft = marked([_change(one.ttft_mean_ns, ours.ttft_mean_ns) for one in every], [one.ttft_mean_ns for one in every])
    latency_ns = [one.latency_mean_ns for one in every]
    latency = marked([_change(one, ours.latency_mean_ns) for one in latency_ns], latency_ns)
    rows = [
        [
            name,
            first,
            last,
            f"{one.hit_tokens:,}" + (f" ({one.hit_tokens - ours.hit_tokens:+,})" if one is not ours else ""),
        ]
        for (name, one), first, last in zip(outcomes.items(), ttft, latency, strict=True)
    ]
    return output.table(["what if", "mean TTFT", "mean latency", "tokens found"], rows)


def _change(ns: float | None, ours_ns: float | None) -> str:
    from sim.units import format_time

    if ns is None:
        return "-"
    if not ours_ns or ns is ours_ns:
        return format_time(ns, 4)
    return f"{format_time(ns, 4)} ({100 * (ns / ours_ns - 1):+.3g} %)"


def _request_table(told: Mapping[str, Any]):
    from sim.serving.report import PART_NAMES
    from sim.units import format_time

    number = told["request"]
    rows = [["outcome", told["status"] + (f": {told['reason']}" if told["reason"] != "none" else "")]]
    rows += [["arrived at", format_time(told["arrival_ns"], 6)]]
    rows += [["tokens", f"{told['input_tokens']:,} of prompt, {told['output_tokens']:,} to generate"]]
    if told["status"] == "completed":
        rows += [["first token after", format_time(told["ttft_ns"], 4)]]
        slower = f"slower than {100 * told['faster_share']:.3g} % of the completed requests"
        rows += [["last token after", f"{format_time(told['latency_ns'], 4)}, {slower}"]]
        parts = {PART_NAMES[name]: took for name, took in told["parts_ns"].items() if took > 0}
        rows += [[f"  {noun}", _share(took, told["latency_ns"])] for noun, took in parts.items()]
        rows += [[f"found in {tier}", f"{tokens:,} tokens"] for tier, tokens in told["hit_tokens"].items()]
        rows += [["computed", f"{told['computed_tokens']:,} tokens, {told['recomputed_tokens']:,} again"]]
        rows += [["preemptions", f"{told['preemptions']:,}"]]
    return output.table(["", f"request {number}"], rows)
