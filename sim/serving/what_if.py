"""What other tiers would have done: changed scenarios, run again, against the run that was.

A tier is infinitely large when it has room for every block that the trace could ever need, so that it evicts nothing;
links and devices are infinitely fast when they have no latency and a bandwidth that no copy can feel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.serving.metrics import summarise
from sim.serving.options import KvTier

if TYPE_CHECKING:
    from sim.profile import Profile
    from sim.serving.record import ServingRun
    from sim.serving.results import ServingResult
    from sim.serving.scenario import ServingScenario

NO_LOWER, LARGE_G1, LARGE_G2, FAST_LOWER = "no lower tiers", "infinite G1", "infinite G2", "infinitely fast lower tiers"
_AT_ONCE = {"latency": "0 ns", "bandwidth": "1000000 TB/s"}


@dataclass(frozen=True)
class Outcome:
    """What one run came to; of what no call was completed for, None."""

    ttft_mean_ns: float | None
    latency_mean_ns: float | None
    hit_tokens: int

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Outcome:
        return cls(summary.get("ttft_mean_ns"), summary.get("latency_mean_ns"), int(summary["hit_tokens"]))


def outcomes(
    scenario: ServingScenario,
    profile: Profile,
    enough_blocks: int,
    block_bytes: int,
    simulate: Callable[[ServingScenario], ServingRun],
) -> dict[str, Outcome]:
    """What each of `variants` comes to, by its name. simulate: runs one scenario to its end."""
    changed = variants(scenario, profile, enough_blocks, block_bytes)
    return {name: Outcome.of(summarise(simulate(variant))) for name, variant in changed.items()}


def variants(
    scenario: ServingScenario, profile: Profile, enough_blocks: int, block_bytes: int
) -> dict[str, ServingScenario]:
    """The scenario with other tiers, by what was changed; what would change nothing is left out.

    profile: of the scenario's system with its overrides; enough_blocks: room for all blocks that the trace could need
    (`enough_blocks_of`); block_bytes: of one accelerator's share.
    """
    tiers = scenario.options.tiers
    found = {}
    if len(tiers) > 1:
        found[NO_LOWER] = without_lower_tiers(scenario)
    found[LARGE_G1] = _with_options(scenario, kv_blocks=enough_blocks)
    second = tiers[1] if len(tiers) > 1 else _second_tier(profile, tiers[0].name)
    if second is not None:
        found[LARGE_G2] = _with_large(scenario, second, profile, enough_blocks * block_bytes)
    if len(tiers) > 1:
        found[FAST_LOWER] = _with_fast_lower_tiers(scenario, profile)
    return found


def enough_blocks_of(result: ServingResult) -> int:
    """Blocks that would hold all tokens of all of its calls, were none of them shared."""
    tokens = result.column("requests", "input_tokens") + result.column("requests", "output_tokens")
    return int((-(-tokens // result.manifest["block_tokens"])).sum()) + 1


def without_lower_tiers(scenario: ServingScenario) -> ServingScenario:
    """The same with G1 alone; nothing of it can then be shared."""
    changed = _with_options(scenario, tiers=scenario.options.tiers[:1])
    shared = tuple(name for name in changed.cluster.shared if name == scenario.options.tiers[0].name)
    return dataclasses.replace(changed, cluster=dataclasses.replace(changed.cluster, shared=shared))


def _with_options(scenario: ServingScenario, **changes: Any) -> ServingScenario:
    return dataclasses.replace(scenario, options=dataclasses.replace(scenario.options, **changes))


def _second_tier(profile: Profile, first: str) -> KvTier | None:
    """What could be G2 of a run that has none: the system's next tier."""
    names = [tier.name for tier in profile.tiers]
    below = names[names.index(first) + 1 :] if first in names else []
    return KvTier(below[0]) if below else None


def _with_large(scenario: ServingScenario, tier: KvTier, profile: Profile, share_bytes: int) -> ServingScenario:
    """A G2 with room for everything, on a device that is large enough for all accelerators' shares of it."""
    large = dataclasses.replace(tier, capacity_bytes=share_bytes)
    first, *lower = scenario.options.tiers
    changed = _with_options(scenario, tiers=(first, large, *lower[1:]))
    device = profile.tier(tier.name).device
    all_bytes = share_bytes * scenario.options.tensor_parallel * scenario.cluster.replicas
    if device.capacity_bytes >= all_bytes:
        return changed
    return _with_overrides(changed, {f"tiers.{tier.name}.capacity": f"{-(-all_bytes // device.count)} B"})


def _with_fast_lower_tiers(scenario: ServingScenario, profile: Profile) -> ServingScenario:
    names = [tier.name for tier in scenario.options.tiers[1:]]
    links = dict.fromkeys(link for name in names for link in profile.tier(name).path)
    sides = [(f"tiers.{name}", side) for name in names for side in ("read", "write")]
    sides += [(f"links.{name}", side) for name in links for side in ("up", "down")]
    overrides = {f"{part}.{side}.{field}": value for part, side in sides for field, value in _AT_ONCE.items()}
    overrides |= {f"{part}.{side}.occupancy": "0 ns" for part, side in sides if part.startswith("tiers.")}
    overrides |= {f"{part}.model": "fixed" for part, _ in sides}
    return _with_overrides(_with_options(scenario, copy_overhead_ns=0.0), overrides)


def _with_overrides(scenario: ServingScenario, overrides: Mapping[str, str]) -> ServingScenario:
    return dataclasses.replace(scenario, profile_overrides={**scenario.profile_overrides, **overrides})
