"""Tables of measured kernel times -> samples by family of kernel, in one unit whatever the file's own layout.

Three layouts are told apart by their columns; docs/kernel_times.md says what each holds:

- Vidur: one row a shape, a column `time_stats.OPERATOR.median` (ms) for each operator; products, attention, all-reduce.
- LLMServingSim: `layer,tokens,time_us`, `layer,sequences,time_us`, or attention by chunk and context, all in us of one
  model, which has to be named, on one device.
- generic: a column `kind`, one row a kernel, `time_ns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sim.errors import InputError
from sim.llm import operators
from sim.llm.models import Model

COLUMNS = {  # of each family, in the order in which compiled code reads them
    "linear": ("tokens", "k", "n"),
    "elementwise": ("moved_bytes",),
    "prefill": ("chunk", "context", "heads", "kv_heads", "head_dim"),
    "decode": ("sequences", "decode_context", "heads", "kv_heads", "head_dim"),
    "mixed": ("chunk", "context", "sequences", "decode_context", "heads", "kv_heads", "head_dim"),
    "all_reduce": ("devices", "size_bytes"),
}
KINDS = ("linear", "elementwise", "attention", "all_reduce")
_GENERIC = {"kind", "time_ns"}
_BYTES = 2  # of a number, in 16-bit types
_ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
_VIDUR_PRODUCTS = {"attn_pre_proj": "qkv", "attn_post_proj": "out", "mlp_up_proj": "up", "mlp_down_proj": "down"}
_VIDUR_MOVES = {
    **{"emb": "embedding", "input_layernorm": "norm", "post_attention_layernorm": "norm", "add": "add"},
    **{"attn_rope": "rope", "mlp_act": "activation", "attn_output_reshape": "reshape"},
}
_SERVING_PRODUCTS = {
    "qkv_proj": "qkv",
    "o_proj": "out",
    "gate_up_proj": "up",
    "down_proj": "down",
    "lm_head": "lm_head",
}
_SERVING_MOVES = {
    **{"act_fn": "activation", "embedding": "embedding", "final_layernorm": "final_norm", "layernorm": "add_norm"},
    **{"rotary_emb": "rope", "sampler": "sample"},
}


@dataclass(frozen=True)
class Samples:
    """Measured kernels of one family: a row each.

    values: float64[rows, columns of the family]; time_ns: float64[rows]; operator: text[rows].
    """

    family: str
    operator: np.ndarray
    values: np.ndarray
    time_ns: np.ndarray

    def __len__(self) -> int:
        return len(self.time_ns)

    def where(self, chosen: np.ndarray) -> Samples:
        return Samples(self.family, self.operator[chosen], self.values[chosen], self.time_ns[chosen])


@dataclass(frozen=True)
class Timings:
    """What files hold: samples by family, the models they are of, and what was left out, in words."""

    samples: dict[str, Samples]
    models: tuple[str, ...]
    left_out: tuple[str, ...]


Rows = list[tuple[str, str, pd.DataFrame]]  # family, operator, its columns with time_ns


def moved_numbers(operator: str, model: Model, tp: int = 1) -> float:
    """Numbers that an elementwise operator reads and writes for one token (`sample`: for one sequence)."""
    hidden, head_dim = model.hidden, model.attention.head_dim
    heads = operators.heads_each(model, tp)
    sizes = {
        "embedding": 2.0 * hidden,
        "norm": 2.0 * hidden,
        "add": 3.0 * hidden,
        "add_norm": 4.0 * hidden,  # reads the layer's output and the residual, writes both
        "final_norm": 4.0 * hidden,
        "rope": 2.0 * (heads + operators.kv_heads_each(model, tp)) * head_dim,
        "reshape": 2.0 * heads * head_dim,
        "sample": 1.0 * -(-model.vocab // tp),
    }
    if model.ffn is not None:
        sizes["activation"] = (3.0 if model.ffn.gated else 2.0) * model.ffn.size / tp
    if operator not in sizes:
        raise InputError("unknown elementwise operator", value=operator, candidates=sizes)
    return sizes[operator]


def read_timings(files: Iterable[str | Path], model: Model | None = None) -> Timings:
    """All samples of some files. Raises InputError for what cannot be read, or is not one of the layouts."""
    rows: Rows = []
    models: dict[str, None] = {}
    left_out: list[str] = []
    for file in map(Path, files):
        table = _table(file)
        read = _layout(file, table)
        found, named = read(file, table, model, left_out)
        rows += found
        models |= {named: None} if named else {}
    samples = {}
    for family, columns in COLUMNS.items():
        own = [(operator, part) for kind, operator, part in rows if kind == family and len(part)]
        if own:
            samples[family] = _gathered(family, columns, own)
    if not samples:
        raise InputError("no kernel times in", value=", ".join(map(str, files)))
    return Timings(samples, tuple(models), tuple(left_out))


def _gathered(family: str, columns: tuple[str, ...], parts: list[tuple[str, pd.DataFrame]]) -> Samples:
    operator = np.concatenate([np.full(len(part), name, dtype=object) for name, part in parts])
    values = np.concatenate([part[list(columns)].to_numpy(np.float64) for _, part in parts])
    times = np.concatenate([part["time_ns"].to_numpy(np.float64) for _, part in parts])
    return Samples(family, operator, np.ascontiguousarray(values), times)


# --- files -----------------------------------------------------------------------------------------------------------


def _table(file: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, low_memory=False)
    except FileNotFoundError:
        raise InputError("no such file", value=str(file)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or 'not text'}", file=file) from None
    except pd.errors.EmptyDataError:
        raise InputError("empty", file=file, expected="a table of kernel times") from None
    except pd.errors.ParserError as error:
        raise InputError(f"not a table: {' '.join(str(error).split())}", file=file) from None
    if table.empty:
        raise InputError("no rows", file=file, expected="a table of kernel times")
    return table


def _layout(file: Path, table: pd.DataFrame) -> Callable:
    columns = set(table.columns)
    if columns >= _GENERIC:
        return _generic
    if "time_stats.all_reduce.median" in columns:
        return _vidur_all_reduce
    if {"time_stats.attn_decode.median", "time_stats.attn_prefill.median"} & columns:
        return _vidur_attention
    if any(f"time_stats.{name}.median" in columns for name in _VIDUR_PRODUCTS):
        return _vidur_linear
    if columns >= set(_ATTENTION):
        return _serving_attention
    if columns >= {"layer", "time_us"} and columns & {"tokens", "sequences"}:
        return _serving_layers
    expected = "those of Vidur, of LLMServingSim, or of the generic layout (kind, time_ns, ...)"
    raise InputError("unknown columns", file=file, value=",".join(map(str, table.columns)), expected=expected)


def _numbers(file: Path, table: pd.DataFrame, columns: Iterable[str], lowest: float = 0.0) -> pd.DataFrame:
    """These columns as float64. Raises InputError for one that is not there, and for the first bad value."""
    found = {}
    for name in columns:
        if name not in table:
            raise InputError("missing column", file=file, value=name, candidates=map(str, table.columns))
        values = pd.to_numeric(table[name], errors="coerce").astype(float)
        bad = ~np.isfinite(values) | (values < lowest)
        if bad.any():
            at = int(np.argmax(bad.to_numpy()))
            expected = f"a number from {lowest:g}"
            shown = table[name].iloc[at]
            line = int(table.index[at]) + 2
            raise InputError("bad value", file=file, line=line, field=name, value=shown, expected=expected)
        found[name] = values
    return pd.DataFrame(found)


def _timed(file: Path, table: pd.DataFrame, column: str, scale: float, left_out: list[str]) -> pd.DataFrame:
    """The rows with a time, which is put into `time_ns`; a time of 0 is below what the clock of the file shows."""
    there = table[table[column].notna()]
    times = _numbers(file, there, [column])[column].to_numpy() * scale
    kept = there.assign(time_ns=times)
    if (times == 0).any():
        left_out.append(f"{file.name}: {int((times == 0).sum())} times of 0 of {column}")
    return kept[times > 0]


# --- layouts ---------------------------------------------------------------------------------------------------------


def _vidur_linear(file: Path, table: pd.DataFrame, model: Model | None, left_out: list[str]) -> tuple[Rows, str | None]:
    shape = ["n_head", "n_kv_head", "n_embd", "n_expanded_embd", "num_tokens", "num_tensor_parallel_workers"]
    head, kv, hidden, ffn, tokens, tp = _numbers(file, table, shape, lowest=1).to_numpy().T
    _check_model(file, model, hidden=hidden[0], heads=head[0], kv_heads=kv[0])
    head_dim, gates = hidden / head, np.where(table.get("use_gated_mlp", True), 2, 1)
    kv_each = np.maximum(kv / tp, 1)
    sizes = {
        "attn_pre_proj": (hidden, (head / tp + 2 * kv_each) * head_dim),
        "attn_post_proj": (hidden / tp, hidden),
        "mlp_up_proj": (hidden, gates * ffn / tp),
        "mlp_down_proj": (ffn / tp, hidden),
    }
    moves = {
        **{"emb": 2 * hidden, "input_layernorm": 2 * hidden, "post_attention_layernorm": 2 * hidden},
        **{"add": 3 * hidden, "mlp_act": (gates + 1) * ffn / tp},
        **{"attn_rope": 2 * (head / tp + kv_each) * head_dim},
    }
    rows: Rows = []
    for name, (k, n) in sizes.items():
        part = _timed(file, table.assign(tokens=tokens, k=k, n=n), f"time_stats.{name}.median", 1e6, left_out)
        rows.append(("linear", _VIDUR_PRODUCTS[name], part))
    for name, each in moves.items():
        if f"time_stats.{name}.median" in table:
            moved = table.assign(moved_bytes=tokens * each * _BYTES)
            part = _timed(file, moved, f"time_stats.{name}.median", 1e6, left_out)
            rows.append(("elementwise", _VIDUR_MOVES[name], part))
    return rows, _named(model, f"hidden {hidden[0]:.0f}, heads {head[0]:.0f}, ffn {ffn[0]:.0f}")


def _vidur_attention(
    file: Path, table: pd.DataFrame, model: Model | None, left_out: list[str]
) -> tuple[Rows, str | None]:
    shape = ["n_embd", "n_q_head", "n_kv_head", "num_tensor_parallel_workers"]
    hidden, head, kv, tp = _numbers(file, table, shape, lowest=1).to_numpy().T
    work = ["batch_size", "prefill_chunk_size", "kv_cache_size"]
    batch, chunk, context = _numbers(file, table, work).to_numpy().T
    _check_model(file, model, hidden=hidden[0], heads=head[0], kv_heads=kv[0])
    known = {"heads": head / tp, "kv_heads": np.maximum(kv / tp, 1), "head_dim": hidden / head}
    full = table.assign(**known, chunk=chunk, context=context, sequences=batch, decode_context=context)
    rows: Rows = []
    for family, column in (("prefill", "time_stats.attn_prefill.median"), ("decode", "time_stats.attn_decode.median")):
        if column in table:
            part = _timed(file, full, column, 1e6, left_out)
            rows.append((family, "attention", part[part["chunk"] > 0] if family == "prefill" else part))
    reshape = "time_stats.attn_output_reshape.median"
    if reshape in table:
        tokens = np.where(chunk > 0, chunk, batch)
        moved = full.assign(moved_bytes=tokens * 2 * known["heads"] * known["head_dim"] * _BYTES)
        rows.append(("elementwise", "reshape", _timed(file, moved, reshape, 1e6, left_out)))
    return rows, _named(model, f"hidden {hidden[0]:.0f}, heads {head[0]:.0f}")


def _vidur_all_reduce(
    file: Path, table: pd.DataFrame, model: Model | None, left_out: list[str]
) -> tuple[Rows, str | None]:
    columns = ["num_workers", "size", "devices_per_node"]
    workers, size, each = _numbers(file, table, columns, lowest=1).to_numpy().T
    one_node = workers <= each
    if not one_node.all():
        left_out.append(f"{file.name}: {int((~one_node).sum())} all-reduces over several nodes")
    kept = table.assign(devices=workers, size_bytes=size)[one_node]
    return [("all_reduce", "all_reduce", _timed(file, kept, "time_stats.all_reduce.median", 1e6, left_out))], None


def _serving_layers(
    file: Path, table: pd.DataFrame, model: Model | None, left_out: list[str]
) -> tuple[Rows, str | None]:
    model = _needed(file, model)
    by = "tokens" if "tokens" in table else "sequences"
    table = table.assign(tokens=_numbers(file, table, [by], lowest=1)[by].to_numpy())
    known = {one.name: one for one in operators.products(model)}
    rows: Rows = []
    for layer, part in table.groupby("layer", sort=True):
        part = _timed(file, part, "time_us", 1e3, left_out)
        name = _SERVING_PRODUCTS.get(layer) or _SERVING_MOVES.get(layer)
        if name is None:
            candidates = [*_SERVING_PRODUCTS, *_SERVING_MOVES]
            raise InputError("unknown layer", file=file, value=layer, candidates=candidates)
        if layer in _SERVING_MOVES:
            each = moved_numbers(name, model) * model.dtype_bytes
            rows.append(("elementwise", name, part.assign(moved_bytes=part["tokens"] * each)))
            continue
        if name not in known:
            raise InputError("the model has not the layer", file=file, value=layer, expected=f"those of {model.name}")
        rows.append(("linear", name, part.assign(k=known[name].k, n=known[name].n)))
    return rows, model.name


def _serving_attention(
    file: Path, table: pd.DataFrame, model: Model | None, left_out: list[str]
) -> tuple[Rows, str | None]:
    model = _needed(file, model)
    values = _numbers(file, table, _ATTENTION[:4])
    names = {"prefill_chunk": "chunk", "kv_prefill": "context", "n_decode": "sequences", "kv_decode": "decode_context"}
    a = model.attention
    known = values.rename(columns=names).assign(heads=a.heads, kv_heads=a.kv_heads, head_dim=a.head_dim)
    return _by_work(file, known.assign(time_us=table["time_us"]), "time_us", 1e3, left_out), model.name


def _by_work(file: Path, table: pd.DataFrame, column: str, scale: float, left_out: list[str]) -> Rows:
    """Attention by what is in the batch: chunks, decoding sequences, or both."""
    part = _timed(file, table, column, scale, left_out)
    chunks, decodes = part["chunk"] > 0, part["sequences"] > 0
    if (idle := ~chunks & ~decodes).any():
        left_out.append(f"{file.name}: {int(idle.sum())} rows without a chunk and without decoding")
    chosen = {"prefill": chunks & ~decodes, "decode": decodes & ~chunks, "mixed": chunks & decodes}
    return [(family, "attention", part[rows]) for family, rows in chosen.items()]


def _generic(file: Path, table: pd.DataFrame, model: Model | None, left_out: list[str]) -> tuple[Rows, str | None]:
    rows: Rows = []
    for kind, part in table.groupby("kind", sort=True, dropna=False):
        if kind not in KINDS:
            raise InputError("unknown kind of kernel", file=file, value=kind, candidates=KINDS)
        if kind == "attention":
            columns = COLUMNS["mixed"]
            known = _numbers(file, part, columns[:4]).join(_numbers(file, part, columns[4:], lowest=1))
            known = known.assign(time_ns=part["time_ns"])
            rows += _by_work(file, known, "time_ns", 1.0, left_out)
            continue
        known = _numbers(file, part, COLUMNS[kind], lowest=1).assign(time_ns=part["time_ns"])
        timed = _timed(file, known.assign(operator=part.get("operator", kind)), "time_ns", 1.0, left_out)
        rows += [(kind, str(name), one) for name, one in timed.groupby("operator", sort=True)]
    return rows, _named(model, None)


def _named(model: Model | None, otherwise: str | None) -> str | None:
    return model.name if model else otherwise


def _needed(file: Path, model: Model | None) -> Model:
    if model is None:
        raise InputError("this layout does not tell the model's shape", file=file, expected="--model NAME")
    return model


def _check_model(file: Path, model: Model | None, **told: float) -> None:
    """A file that tells its model's shape must tell that of the model named."""
    if model is None:
        return
    own = {"hidden": model.hidden, "heads": model.attention.heads, "kv_heads": model.attention.kv_heads}
    for name, value in told.items():
        if value != own[name]:
            problem = f"measured with {name} {value:.0f}, which {model.name!r} has not:"
            raise InputError(problem, file=file, value=own[name], expected="no --model, or the one measured")
