"""Streams of allocations of language models' memory, and what was published of the allocators made for it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sim.errors import InputError
from sim.fragmentation import replaying as r
from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE, Operations, build_operations
from sim.fragmentation.replay import make_player
from sim.llm.models import load_model
from sim.llm.operators import kv_bytes_per_token, weight_bytes
from sim.policy import Context
from sim.registry import ALLOCATION_SOURCE, ALLOCATOR, load
from sim.testing import PythonHooks
from sim.trace_options import check_options
from workloads.allocations._tensors import tensors
from workloads.allocations.adapters import adapter_bytes

pytestmark = pytest.mark.uncompiled

MODEL = load_model("llama2_7b")
TOKEN_BYTES = kv_bytes_per_token(MODEL)
GPU_BYTES = int(0.9 * 80 * 2**30)  # of 80 GiB, what vLLM uses of it by default (gpu_memory_utilization)


def stream(name: str, **options) -> Operations:
    source = load(ALLOCATION_SOURCE, name)
    return source.generate(check_options(source.options, options, name))


def peaks(operations: Operations, allocator: str, capacity: int, **parameters) -> SimpleNamespace:
    """The most bytes that were live, and that the allocator held, in a stream of which it refused nothing."""
    player = make_player(operations, load(ALLOCATOR, allocator), parameters, capacity)
    player.advance(0, operations.count)
    totals = player.board.totals
    assert totals[r.FAILURES] == totals[r.PASSED_BY] == 0
    return SimpleNamespace(live=int(totals[r.PEAK_LIVE_BYTES]), held=int(totals[r.PEAK_HELD_BYTES]))


def part(operations: Operations, kind: str) -> Operations:
    """The operations on objects of one kind."""
    mine = operations.objects.kind[operations.object] == operations.kinds.index(kind)
    columns = (operations.time_ns, operations.op, operations.object, operations.size_bytes)
    return build_operations(kind, *(column[mine] for column in columns))


class InPython:
    """An allocator that runs as plain Python: for the few calls of a test."""

    def __init__(self, name: str, context: Context, **parameters):
        plugin = load(ALLOCATOR, name)
        self.hooks, self.state = PythonHooks(plugin, "test"), plugin.make_state(context, parameters)

    def __getattr__(self, hook):
        return lambda *arguments: getattr(self.hooks, hook)(self.state, *arguments)

    def play(self, operations: Operations) -> int:
        """Do all operations, none of them refused; the most bytes that it took, to the highest address it used."""
        top, out = 0, np.zeros((1, 2), np.int64)
        for op, number, size in zip(operations.op, operations.object, operations.size_bytes, strict=True):
            if op == RELEASE:
                self.release(int(number))
                continue
            assert self.allocate(int(number), int(size)) if op == ALLOCATE else self.resize(int(number), int(size))
            self.extents(int(number), out)
            top = max(top, int(out[0].sum()))
        return top


# ------------------------------------------------------------------------------------------------------------- adapters


def test_a_request_grows_by_a_token_at_a_time_and_its_adapter_is_there():
    operations = stream("adapters", requests=60, adapters=12, rate_per_s=5.0)
    o = operations.objects
    adapter, kv = (o.kind == operations.kinds.index(kind) for kind in ("adapter", "kv"))
    assert kv.sum() == 60 and 12 <= adapter.sum() <= 60
    assert set(o.first_bytes[adapter]) <= {adapter_bytes(MODEL, rank) for rank in (8, 16, 32, 64)}
    assert (o.unit_bytes[kv] == TOKEN_BYTES).all() and (o.most_bytes[kv] >= o.final_bytes[kv]).all()
    for number in np.flatnonzero(kv)[:10]:
        rows = operations.object == number
        assert list(operations.op[rows]) == [ALLOCATE] + [RESIZE] * (rows.sum() - 2) + [RELEASE]
        assert set(np.diff(operations.size_bytes[rows][:-1])) <= {TOKEN_BYTES}
    live = np.cumsum(np.where(operations.op == ALLOCATE, 1, 0) * adapter[operations.object])
    live -= np.cumsum(np.where(operations.op == RELEASE, 1, 0) * adapter[operations.object])
    kv_live = np.cumsum(((operations.op == ALLOCATE) * 1 - (operations.op == RELEASE)) * kv[operations.object])
    ends_of_moments = np.append(np.diff(operations.time_ns) > 0, True)
    assert (live <= kv_live)[ends_of_moments].all(), "an adapter without a request"
    assert ((live > 0) == (kv_live > 0))[ends_of_moments].all(), "a request without an adapter"
    assert live[-1] == kv_live[-1] == 0


def test_idle_adapters_stay_as_far_as_they_are_allowed():
    few = dict(requests=80, adapters=5, ranks=[8])
    assert (stream("adapters", **few, idle_bytes=1 << 40).objects.kind == 0).sum() == 5
    assert (stream("adapters", **few).objects.kind == 0).sum() > 5


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_popularity_is_that_of_the_power_distribution(alpha):
    """How many different adapters so many requests need, where each stays once it is there."""
    operations = stream(
        "adapters", requests=300, adapters=200, ranks=[8], alpha=alpha, token_ns=1.0, idle_bytes=1 << 40
    )
    share = np.diff(np.linspace(0, 1, 201) ** alpha)
    expected = (1 - (1 - share) ** 300).sum()
    assert (operations.objects.kind == 0).sum() == pytest.approx(expected, rel=0.1)


def test_five_merged_models_fit_a_gpu_and_a_sixth_does_not():
    """S-LoRA (table 3) can serve 5 adapters merged into models of their own on an A100 of 80 GB, but not more."""
    memory = InPython("best_fit", Context(GPU_BYTES, 6))
    size = round(weight_bytes(MODEL))
    assert [memory.allocate(number, size) for number in range(6)] == [True] * 5 + [False]


def test_two_thousand_adapters_fit_a_gpu_with_room_for_caches():
    """S-LoRA (table 3) serves 2,000 adapters of rank 8 there."""
    memory = InPython("unified_paging", Context(GPU_BYTES - round(weight_bytes(MODEL)), 2001), tensors=64)
    assert all(memory.allocate(number, adapter_bytes(MODEL, 8)) for number in range(2000))
    assert memory.internal_bytes() == 0
    assert memory.free_bytes() > 30_000 * TOKEN_BYTES


def test_the_waste_of_unified_paging_is_flat_in_the_number_of_adapters_and_that_of_fixed_pools_is_not():
    held, apart = {}, {}
    for adapters in (100, 2000):
        operations = stream("adapters", adapters=adapters, requests=250, rate_per_s=10.0)
        unified = peaks(operations, "unified_paging", GPU_BYTES, tensors=64)
        assert unified.held == unified.live
        of_adapters = peaks(part(operations, "adapter"), "equal_slots", GPU_BYTES)
        of_caches = peaks(part(operations, "kv"), "unified_paging", GPU_BYTES, tensors=64)
        held[adapters], apart[adapters] = unified.held, (of_adapters.held + of_caches.held) / unified.live
        assert of_adapters.held > 1.9 * of_adapters.live
    assert held[2000] < 1.1 * held[100]
    assert 1.1 < apart[100] < apart[2000]


# ---------------------------------------------------------------------------------------------------------------- pages


def growing(prompts: np.ndarray, answers: np.ndarray, stagger: int) -> Operations:
    """Sequences of which one starts every `stagger` steps and grows by a token a step."""
    rows = []
    for number, (prompt, answer) in enumerate(zip(prompts.tolist(), answers.tolist(), strict=True)):
        start = number * stagger
        rows.append((start, ALLOCATE, number, prompt))
        rows += [(start + token, RESIZE, number, prompt + token) for token in range(1, answer)]
        rows.append((start + answer, RELEASE, number, 1))
    rows.sort(key=lambda row: row[0])
    time_ns, op, number, tokens = (np.array(column) for column in zip(*rows, strict=True))
    return build_operations("growing", time_ns, op, number, tokens * TOKEN_BYTES)


@pytest.fixture(scope="module")
def sharegpt(shared_file):
    calls = [json.loads(line) for line in _lines(shared_file("sharegpt_llama31_8b_300.jsonl"))]
    return growing(*(np.array([call[name] for call in calls]) for name in ("input_toks", "output_toks")), stagger=20)


def _lines(path):
    with open(path) as file:
        return file.readlines()


def waste_of_pages(operations: Operations, page_tokens: int) -> tuple[int, float]:
    """(most tokens wasted by a sequence, wasted share of all page bytes, over all operations)."""
    rows = operations.op != RELEASE
    tokens = operations.size_bytes[rows] // TOKEN_BYTES
    page = page_tokens * TOKEN_BYTES
    wasted = -tokens % page_tokens
    player = make_player(operations, load(ALLOCATOR, "paged"), {"page_bytes": page}, GPU_BYTES)
    told, held, live = [], 0, 0
    for stop in range(64, operations.count + 1, 64):
        player.advance(stop - 64, stop)
        now = player.look()[0]
        told.append(now["internal_bytes"])
        held, live = held + now["held_bytes"], live + int(player.board.totals[r.LIVE_BYTES])
        sequences = int(player.board.totals[r.LIVE_OBJECTS])
        assert now["internal_bytes"] <= sequences * (page_tokens - 1) * TOKEN_BYTES
    assert player.board.totals[r.FAILURES] == 0
    return int(wasted.max()), 1 - live / held


def test_pages_of_sixteen_tokens_waste_under_four_per_cent(sharegpt):
    """Kwon et al. (2023, section 6.2, figure 2): at most one block a sequence, and under 4 % on ShareGPT."""
    most, share = waste_of_pages(sharegpt, 16)
    assert most == 15
    assert 0 < share < 0.04


def test_larger_pages_waste_more(sharegpt):
    shares = [waste_of_pages(sharegpt, page_tokens)[1] for page_tokens in (1, 16, 64)]
    assert shares == sorted(shares) and shares[0] == 0


# --------------------------------------------------------------------------------------------------------------- groups


def transfers(allocator: str, **parameters) -> float:
    """Runs of a cache, a transfer each when it is swapped, for each hundred pages; of caches that grow side by side."""
    rng = np.random.default_rng(2)
    operations = growing(rng.integers(8, 300, 30), rng.integers(50, 400, 30), stagger=25)
    page = 16 * TOKEN_BYTES
    memory = InPython(allocator, Context(600 * page, 30), page_bytes=page, **parameters)
    runs = pages = 0
    out = np.zeros((1, 2), np.int64)
    for op, number, size in zip(operations.op, operations.object, operations.size_bytes, strict=True):
        if op == RELEASE:
            runs += memory.extents(int(number), out)
            pages += -(-int(operations.objects.final_bytes[number]) // page)
            memory.release(int(number))
        else:
            assert memory.allocate(int(number), int(size)) if op == ALLOCATE else memory.resize(int(number), int(size))
    return 100 * runs / pages


def test_caches_in_groups_are_swapped_in_fewer_transfers():
    single = transfers("paged")
    by_size = [transfers("block_groups", group_pages=pages) for pages in (1, 4, 16)]
    assert single > 2 * by_size[1] and by_size == sorted(by_size, reverse=True)
    assert by_size[2] < 0.2 * single


def test_no_request_is_refused_that_single_pages_would_serve():
    """Groups are taken back: memory holds as many tokens with them as without."""
    page = 4096
    memory = InPython("block_groups", Context(100 * page, 101), page_bytes=page, group_pages=64)
    assert all(memory.allocate(number, page) for number in range(100))
    assert not memory.allocate(100, 1)
    assert (memory.reserved_bytes(), memory.free_bytes()) == (0, 0)


# --------------------------------------------------------------------------------------------------------------- slots


def test_equal_slots_waste_more_than_slots_of_each_size_and_than_best_fit():
    """Of a checkpoint's tensors of a model of 7 billion parameters, all at most as large as its output matrix."""
    operations = stream("checkpoints", checkpoints=1, staged_bytes="4 GiB", optimizer="none")
    context = Context(64 << 30, operations.objects.born.size, objects=operations.objects)
    taken = [InPython(name, context).play(operations) for name in ("best_fit", "adaptive_slots", "equal_slots")]
    best, adaptive, equal = (top / operations.peak_live_bytes for top in taken)
    assert 1 <= best < 1.3 and best < equal and adaptive < equal
    assert equal > 2


def test_slots_of_powers_of_two_waste_more_than_slots_of_a_size():
    operations = stream("checkpoints", checkpoints=1, staged_bytes="4 GiB", optimizer="none")
    exact, rounded = (
        peaks(operations, "adaptive_slots", 64 << 30, power_of_two=rounds).held for rounds in (False, True)
    )
    assert exact < rounded < 2 * exact


# ------------------------------------------------------------------------------------------ weights and checkpoints


def test_as_many_experts_as_allowed_are_there_and_all_that_are_used():
    operations = stream("weights", passes=30, resident=3)
    model = load_model("mixtral_8x7b")
    expert = sum(tensor.size_bytes for tensor in tensors(model) if tensor.of_experts and tensor.layer == 0) // 8
    assert operations.peak_live_bytes == 3 * 32 * expert
    assert set(operations.kinds) == {"expert_up", "expert_down"}
    assert operations.label(0).startswith("layer 0 expert_up")


def test_popular_experts_are_loaded_less_often():
    loads = [stream("weights", passes=200, resident=2, alpha=alpha).objects.born.size for alpha in (0.0, 1.0, 3.0)]
    assert loads == sorted(loads, reverse=True) and loads[2] < 0.5 * loads[0]


def test_layers_pass_in_turn():
    operations = stream("weights", model="llama2_7b", what="layers", passes=2, ahead=1)
    found = tensors(MODEL)
    assert operations.objects.born.size == 2 * len(found)
    assert operations.live_bytes[-1] == 0
    layer = sum(tensor.size_bytes for tensor in found if tensor.layer == 0)
    head = found[-1].size_bytes
    assert operations.peak_live_bytes == max(2 * layer, layer + head)


def test_a_checkpoint_writes_every_tensor_and_stages_no_more_than_allowed():
    operations = stream("checkpoints", checkpoints=3, staged_bytes="2 GiB")
    per_weight = MODEL.dtype_bytes + 12
    weights = sum(tensor.weights for tensor in tensors(MODEL))
    assert operations.objects.final_bytes.sum() == 3 * weights * per_weight
    assert operations.peak_live_bytes <= 2 << 30
    assert operations.live_bytes[-1] == 0
    assert operations.kinds == ("weight", "master", "momentum", "variance")
    starts = operations.time_ns[operations.objects.born[:: operations.objects.born.size // 3]]
    assert np.allclose(np.diff(starts), 600e9)


def test_one_writer_releases_in_the_order_of_copying():
    operations = stream("checkpoints", checkpoints=1, writers=1)
    assert (np.diff(operations.object[operations.op == RELEASE]) > 0).all()


@pytest.mark.parametrize("name", ["adapters", "weights", "checkpoints"])
def test_a_stream_is_the_same_again(name):
    small = {"adapters": {"requests": 20}, "weights": {"passes": 3}, "checkpoints": {"checkpoints": 1}}[name]
    assert stream(name, **small).digest == stream(name, **small).digest
    if name != "checkpoints":
        assert stream(name, **small, seed=1).digest != stream(name, **small).digest


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adapters", {"ranks": []}, "ranks"),
        ("adapters", {"ranks": [8, "16"]}, "ranks"),
        ("adapters", {"prompt_high": 8}, "more than prompt_low, 8"),
        ("adapters", {"model": "llama2_8b"}, "unknown model"),
        ("weights", {"model": "llama2_7b"}, "a model without experts"),
        ("weights", {"resident": 1}, "at least the 2 that a token uses"),
        ("weights", {"what": "rows"}, "layers"),
        ("checkpoints", {"staged_bytes": "1 MiB"}, "at least the"),
    ],
)
def test_a_bad_option_is_one_sentence(name, options, words):
    with pytest.raises(InputError, match=words):
        stream(name, **options)
