"""Every policy that comes with memhier keeps the rules that its authors' tool checks."""

from __future__ import annotations

import numba
import pytest

from sim import registry
from sim.testing import check_policy

pytestmark = [
    pytest.mark.uncompiled,
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="each would be compiled three times; its own tests do so"),
]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in registry.POLICIES for name in registry.names(kind)],
    ids=lambda one: getattr(one, "name", one),
)
def test_a_built_in_policy_keeps_the_rules(kind, name):
    policy = registry.load(kind, name)
    assert check_policy(policy).name == name
    if "as_libcachesim" in policy.parameters():
        assert check_policy(policy, {"as_libcachesim": True}).name == name
