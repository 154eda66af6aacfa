"""The prompts of a measured run: the dataset that it names, if that is on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sim.errors import InputError
from sim.streams import without_compression
from sim.trace import Calls, Trace


class Wanted(NamedTuple):
    """What is known of a dataset. line: int64[n] which of its calls the n of the run are, with these lengths."""

    folder: Path
    path: str | None
    sha256: str | None
    line: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray


def find_dataset(wanted: Wanted, block_tokens: int) -> tuple[Trace | None, Path | None, str | None]:
    """(the prompts as a trace with hashes of such blocks, its file, None), or (None, None, why there is none)."""
    from sim.trace_loading import load_trace

    refused = []
    for path in _candidates(wanted):
        try:
            trace = load_trace(path, "token_ids", {"block_tokens": block_tokens}, needs=())
        except InputError as error:
            refused.append(str(error))
            continue
        why = _disagreement(trace.calls, wanted)
        if why is None:
            return trace, path, None
        refused.append(f"{path}: {why}")
    if wanted.path is None:
        return None, None, "the run names no dataset, so that prompts have no hashes and nothing is found in the cache"
    looked = "; ".join(refused) or "no file of that name beside the folder or in MEMHIER_TRACE_PATH"
    name = Path(wanted.path).name
    return (
        None,
        None,
        f"without the dataset {name} ({looked}), prompts have no hashes and nothing is found in the cache",
    )


def _candidates(wanted: Wanted) -> Iterator[Path]:
    """Files that may be the dataset, the surest first, each once."""
    seen: set[Path] = set()
    for path in (*_catalogued(wanted.sha256), *_named_alike(wanted)):
        if path.resolve() not in seen:
            seen.add(path.resolve())
            yield path


def _catalogued(sha256: str | None) -> Iterator[Path]:
    from sim import catalog

    for name, entry in catalog.entries().items():
        if sha256 is not None and entry.sha256 == sha256:
            found = catalog.find(name)
            if found is not None:
                yield found


def _named_alike(wanted: Wanted) -> list[Path]:
    """Those whose plain name is the dataset's, or begins it, or is begun by it; the most alike first."""
    if wanted.path is None:
        return []
    told = _plain_name(re.split(r"[\\/]", wanted.path)[-1])
    folders = [Path(folder) for folder in os.environ.get("MEMHIER_TRACE_PATH", "").split(os.pathsep) if folder]
    found = []
    for folder in (wanted.folder, wanted.folder.resolve().parent, *folders):
        for path in sorted(folder.glob("*.jsonl*")) if folder.is_dir() else ():
            name = _plain_name(path.name)
            alike = told and name and (name.startswith(told) or told.startswith(name))
            if alike and path.name != "requests.jsonl" and path.is_file():
                found.append((abs(len(name) - len(told)), path))
    return [path for _, path in sorted(found, key=lambda pair: pair[0])]


def _plain_name(file_name: str) -> str:
    """Letters and digits alone: "sharegpt-llama-3.1-8b.jsonl.zst" is "sharegptllama318b"."""
    return re.sub(r"[^a-z0-9]", "", without_compression(file_name.lower()).removesuffix(".jsonl"))


def _disagreement(calls: Calls, run: Wanted) -> str | None:
    """Why these are not the prompts of the run; it may have had the first of a longer dataset."""
    n = run.line.size
    if len(calls.input_tokens) < n:
        return f"{len(calls.input_tokens)} calls for {n}"
    lengths = ((calls.input_tokens, run.input_tokens), (calls.output_tokens, run.output_tokens))
    for theirs, ours in lengths:
        differ = np.flatnonzero(theirs[run.line] != ours)
        if differ.size:
            line = int(run.line[differ].min())
            return f"the lengths of call {line + 1} are others"
    return None
