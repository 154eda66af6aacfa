"""What a measured engine was told and what it made of that: its `meta.json`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.choice import Choice
from sim.errors import InputError
from sim.serving.options import ServingOptions

_MOST_BYTES = 1 << 30  # of any one file


@dataclass(frozen=True)
class Engine:
    """What the engine was told, and what it made of that. None: the folder does not say.

    num_gpu_blocks: as vLLM counts them; it never hands out one of them, its null block. assumed: the settings that no
    file says and that are vLLM v1's defaults here.
    """

    version: str | None
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int | None
    num_gpu_blocks: int | None
    block_tokens: int
    prefix_caching: bool
    memory_utilization: float | None
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    dtype: str | None
    kv_cache_dtype: str | None
    enforce_eager: bool | None
    async_scheduling: bool
    reserve_full_prompt: bool
    chunked_prefill: bool
    long_prefill_token_threshold: int
    watermark: float
    policy: str
    assumed: tuple[str, ...]

    def options(self, prefix_caching: bool | None = None) -> ServingOptions:
        """The engine as ours is told of it. prefix_caching: None for as it was; False where no hashes are known."""
        return ServingOptions(
            block_tokens=self.block_tokens,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            chunked_prefill=self.chunked_prefill,
            long_prefill_token_threshold=self.long_prefill_token_threshold,
            max_model_len=self.max_model_len,
            reserve_full_prompt=self.reserve_full_prompt,
            watermark=self.watermark,
            prefix_caching=self.prefix_caching if prefix_caching is None else prefix_caching,
            scheduling=Choice(self.policy, {"low_values_first": True} if self.policy == "priority" else {}),
            async_scheduling=self.async_scheduling,
            tensor_parallel=self.tensor_parallel,
            memory_utilization=0.9 if self.memory_utilization is None else self.memory_utilization,
            kv_blocks=None if self.num_gpu_blocks is None else self.num_gpu_blocks - 1,
        )


class Meta:
    """meta.json by dotted names. What the engine resolved is asked for before what it was told."""

    def __init__(self, path: Path):
        self.path = path
        self.assumed: list[str] = []
        try:
            self.data = json.loads(text_of(path))
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON: {' '.join(str(error).split())[:120]}", file=path) from error
        if not isinstance(self.data, dict):
            raise InputError("not a JSON object", file=path, value=self.data)

    def needed(self, kind: type, *names: str) -> Any:
        value = self.optional(kind, *names)
        if value is None:
            field = " or ".join(names)
            raise InputError("missing field", file=self.path, value=field, candidates=_names(self.data, names[0]))
        return value

    def optional(self, kind: type, *names: str) -> Any:
        """The first of these that is there and is not null."""
        for name in names:
            value = self._at(name)
            if value is not None:
                return self._checked(name, value, kind)
        return None

    def assumable(self, default: Any, *names: str) -> Any:
        value = self.optional(type(default), *names)
        if value is None:
            self.assumed.append(f"{names[0].rpartition('.')[2]}: {default}")
            return default
        return value

    def _at(self, name: str) -> Any:
        value = self.data
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _checked(self, name: str, value: Any, kind: type) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        good = {int: whole and value >= 0, float: whole or isinstance(value, float)}.get(kind, isinstance(value, kind))
        if not good or (kind is float and not 0 <= value < math.inf):
            raise InputError("bad value", file=self.path, field=name, value=value, expected=_KINDS[kind])
        return float(value) if kind is float else value


_KINDS = {
    int: "a whole number, 0 or more",
    float: "a finite number, 0 or more",
    str: "text",
    bool: "true or false",
    dict: "names and values",
}


def _names(data: dict, name: str) -> list[str]:
    """The names beside a dotted one that is not there."""
    parent: Any = data
    for key in name.split(".")[:-1]:
        parent = parent.get(key, {}) if isinstance(parent, dict) else {}
    return list(parent) if isinstance(parent, dict) else []


def engine_of(meta: Meta) -> Engine:
    """Raises InputError for a setting that must be known and is not, and for bad values."""
    told, cache = "engine_kwargs", "resolved_config.cache_config"
    scheduler, parallel, model = (f"resolved_config.{name}_config" for name in ("scheduler", "parallel", "model"))
    settings = {
        "version": meta.optional(str, "vllm_version", "version"),
        "max_num_seqs": meta.needed(int, f"{scheduler}.max_num_seqs", f"{told}.max_num_seqs"),
        "max_num_batched_tokens": meta.needed(
            int, f"{scheduler}.max_num_batched_tokens", f"{told}.max_num_batched_tokens"
        ),
        "max_model_len": meta.optional(int, f"{model}.max_model_len", f"{told}.max_model_len"),
        "num_gpu_blocks": meta.optional(int, "kv_cache.num_gpu_blocks", f"{cache}.num_gpu_blocks"),
        "block_tokens": meta.assumable(16, "kv_cache.block_size", f"{cache}.block_size", f"{told}.block_size"),
        "prefix_caching": meta.assumable(
            True,
            "kv_cache.enable_prefix_caching",
            f"{cache}.enable_prefix_caching",
            f"{told}.enable_prefix_caching",
        ),
        "memory_utilization": meta.optional(
            float,
            "kv_cache.gpu_memory_utilization",
            f"{cache}.gpu_memory_utilization",
            f"{told}.gpu_memory_utilization",
        ),
        "tensor_parallel": meta.assumable(1, f"{parallel}.tensor_parallel_size", f"{told}.tensor_parallel_size"),
        "pipeline_parallel": meta.optional(int, f"{parallel}.pipeline_parallel_size", f"{told}.pipeline_parallel_size")
        or 1,
        "data_parallel": meta.optional(int, f"{parallel}.data_parallel_size", f"{told}.data_parallel_size") or 1,
        "dtype": _bare_dtype(meta.optional(str, f"{model}.dtype", f"{told}.dtype")),
        "kv_cache_dtype": meta.optional(str, f"{cache}.cache_dtype", f"{told}.kv_cache_dtype"),
        "enforce_eager": meta.optional(bool, f"{model}.enforce_eager", f"{told}.enforce_eager"),
        "async_scheduling": meta.assumable(True, f"{scheduler}.async_scheduling", f"{told}.async_scheduling"),
        "reserve_full_prompt": meta.assumable(
            True, f"{scheduler}.scheduler_reserve_full_isl", f"{told}.scheduler_reserve_full_isl"
        ),
        "chunked_prefill": meta.assumable(
            True, f"{scheduler}.enable_chunked_prefill", f"{told}.enable_chunked_prefill"
        ),
        "long_prefill_token_threshold": meta.optional(int, f"{scheduler}.long_prefill_token_threshold") or 0,
        "watermark": meta.optional(float, f"{scheduler}.watermark") or 0.0,
        "policy": meta.assumable("fcfs", f"{scheduler}.policy", f"{told}.scheduling_policy"),
    }
    if settings["block_tokens"] == 0:
        raise InputError("bad value", file=meta.path, field="block_size", value=0, expected="at least 1")
    return Engine(**settings, assumed=tuple(meta.assumed))


def _bare_dtype(text: str | None) -> str | None:
    return None if text is None else text.removeprefix("torch.")


def text_of(path: Path) -> str:
    """A file of a measured run. Raises InputError where it cannot be read, or is far too large."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError("too large", file=path, value=path.stat().st_size, expected=f"at most {_MOST_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the measured run: {error.strerror or error}", file=path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason}", file=path) from error
