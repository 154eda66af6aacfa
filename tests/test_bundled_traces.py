"""The recordings shipped in workloads/traces are well formed and are what their README and the catalogue say."""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
import zstandard

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workloads" / "traces"
RECORD = ROOT / "workloads" / "record"
LARGEST = 2 * 1024 * 1024

HEADERS = {
    "postgres_pgbench": ["arrival_ns", "id", "size_bytes", "op"],
    "lackey_sort_sqlite": ["arrival_ns", "id", "size_bytes", "op", "tenant"],
    "heap_python": ["time_ns", "op", "address_id", "size_bytes"],
}
OPS = {"postgres_pgbench": {"r", "w"}, "lackey_sort_sqlite": {"r", "w"}, "heap_python": {"alloc", "free"}}
SCRIPTS = ["postgres_pgbench.py", "lackey_lines.py", "heap_python.py"]
NAMES = sorted(HEADERS)


@cache
def table(name: str) -> dict[str, np.ndarray]:
    """The columns of a bundled trace: whole numbers, and op as text."""
    with open(FOLDER / f"{name}.csv.zst", "rb") as file:
        text = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="ascii", newline="")
        header, *rows = csv.reader(text)
    columns = zip(header, zip(*rows, strict=True), strict=True)
    return {key: np.array(cells) if key == "op" else np.array(cells, dtype=np.int64) for key, cells in columns}


def identity(name: str) -> np.ndarray:
    columns = table(name)
    return columns["address_id" if name == "heap_python" else "id"]


@pytest.mark.parametrize("name", NAMES)
def test_file_is_small_and_has_its_header(name):
    assert (FOLDER / f"{name}.csv.zst").stat().st_size <= LARGEST
    assert list(table(name)) == HEADERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_sound(name):
    columns = table(name)
    times = columns[HEADERS[name][0]]
    assert times[0] == 0
    assert (np.diff(times) >= 0).all()
    assert (columns["size_bytes"] > 0).all()
    assert (identity(name) >= 0).all()
    assert set(np.unique(columns["op"])) == OPS[name]


def test_postgres_rows_are_whole_pages_of_files_numbered_by_first_use():
    columns = table("postgres_pgbench")
    assert (columns["size_bytes"] == 8192).all()
    files, first = np.unique(columns["id"] >> 20, return_index=True)
    assert files.tolist() == list(range(121))
    assert (np.diff(first) > 0).all()


def test_lackey_rows_are_lines_of_their_tenant_and_never_repeat_at_once():
    columns = table("lackey_sort_sqlite")
    assert (columns["size_bytes"] == 64).all()
    assert (columns["id"] >> 42 == columns["tenant"]).all()
    for tenant in (0, 1):
        ids = columns["id"][columns["tenant"] == tenant]
        assert (np.diff(ids) != 0).all()


def test_every_free_names_an_earlier_allocation_of_the_same_size():
    columns = table("heap_python")
    is_alloc, numbers = columns["op"] == "alloc", columns["address_id"]
    allocated, freed = numbers[is_alloc], numbers[~is_alloc]
    assert allocated.tolist() == list(range(1, len(allocated) + 1))
    assert len(np.unique(freed)) == len(freed)
    assert (columns["size_bytes"][is_alloc][freed - 1] == columns["size_bytes"][~is_alloc]).all()
    assert (np.flatnonzero(is_alloc)[freed - 1] < np.flatnonzero(~is_alloc)).all()


@pytest.mark.parametrize("name", NAMES)
def test_readme_has_the_counts(name):
    size = (FOLDER / f"{name}.csv.zst").stat().st_size
    ids = identity(name)
    row = f"| {name}.csv.zst | {len(ids):,} | {len(np.unique(ids)):,} | {size:,} |"
    assert row in (FOLDER / "README.md").read_text()


def test_readme_has_the_shares():
    text = " ".join((FOLDER / "README.md").read_text().split())
    for name, unit in (("postgres_pgbench", "requests"), ("lackey_sort_sqlite", "rows")):
        writes = int((table(name)["op"] == "w").sum())
        once = int((np.unique(identity(name), return_counts=True)[1] == 1).sum())
        assert f"Writes are {writes / len(identity(name)):.1%} of".replace("%", " %") in text
        assert f"% of the {unit} ({writes:,})" in text
        assert f"{once:,} pages" in text or f"{once:,} lines" in text
        assert f"Requested: {int(table(name)['size_bytes'].sum()):,} bytes" in text
    frees = int((table("heap_python")["op"] == "free").sum())
    assert f"and {frees:,} frees" in text


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_entry_is_of_this_file(name):
    entry = yaml.safe_load((ROOT / "workloads" / "catalog.yaml").read_text())["traces"][name]
    data = (FOLDER / f"{name}.csv.zst").read_bytes()
    assert entry["file"] == f"{name}.csv.zst"
    assert entry["bytes"] == len(data)
    assert entry["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("script", SCRIPTS)
def test_recording_script_says_what_program_is_missing(script, tmp_path):
    command = [sys.executable, str(RECORD / script), "--out", str(tmp_path / "out.csv.zst")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "not found" in done.stderr or "no such user" in done.stderr
    assert list(tmp_path.iterdir()) == []
