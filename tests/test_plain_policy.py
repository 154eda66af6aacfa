"""Eviction policies that are plain Python classes."""

import pytest

import sim
from sim import registry
from sim.errors import InputError
from sim.hierarchy import contents
from sim.plain_policy import plain_policy
from tests.machines import plan

pytestmark = pytest.mark.uncompiled


class PlainLru:
    """Least recently used, in a dictionary."""

    name = "plain_lru"

    def __init__(self, context, *, forgetful=False):
        self.order, self.forgetful = {}, forgetful

    def on_hit(self, request):
        del self.order[request.block]
        self.order[request.block] = None

    def on_insert(self, request):
        self.order[request.block] = None

    def evict(self, request):
        block = next(iter(self.order))
        if not self.forgetful:
            del self.order[block]
        return block

    def remove(self, block):
        del self.order[block]


@pytest.fixture(scope="module")
def trace():
    settings = {"requests": 3000, "objects": 300, "arrival": "none", "size_bytes": 100}
    return sim.generate("zipf", settings, seed=2)


def test_it_hits_as_the_compiled_one_does(trace):
    for ignore, admission in ((True, "always"), (False, "always"), (True, "second_hit")):
        with pytest.warns(UserWarning, match="plain_lru is a plain Python class"):
            mine = sim.replay(trace, PlainLru, "10%", ignore_object_size=ignore, admission=admission)
        compiled = sim.replay(trace, "lru", "10%", ignore_object_size=ignore, admission=admission)
        assert (mine.policy, mine.parameters) == ("plain_lru", {"forgetful": False})
        assert (mine.hits, mine.byte_hit_ratio, mine.bypassed) == (
            compiled.hits,
            compiled.byte_hit_ratio,
            compiled.bypassed,
        )


@pytest.mark.filterwarnings("ignore:plain_lru")
def test_what_it_does_wrong_is_told(trace):
    with pytest.raises(InputError, match="is not resident"):
        sim.replay(trace, PlainLru, "10%", ignore_object_size=True, parameters={"forgetful": True})
    with pytest.raises(sim.testing.CheckFailed, match="must be forgotten"):
        sim.testing.check_policy(plain_policy(PlainLru), {"forgetful": True})
    sim.testing.check_policy(plain_policy(PlainLru))


def test_a_class_without_a_hook_is_refused():
    with pytest.raises(InputError, match="no method 'evict'"):
        plain_policy(type("Half", (), {"on_hit": print, "on_insert": print}))


def test_a_timed_run_refuses_it(trace, monkeypatch):
    load = registry.load
    found = plain_policy(PlainLru)
    monkeypatch.setattr(registry, "load", lambda kind, name: found if name == "plain_lru" else load(kind, name))
    with pytest.raises(InputError, match="which only a replay can run"):
        contents([plan("dram", 1000, eviction="plain_lru")], "last", trace)
