"""Each notebook runs, is kept in step with its text form, and stores what it gives: the guide shows that."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import numba
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = sorted((ROOT / "notebooks").glob("*.py"))
LARGEST_BYTES = 400_000


def name_of(path):
    return path.stem


def test_each_has_both_forms():
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in TEXTS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_says_what_its_text_form_says(path):
    notebook, text = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_what_is_stored_is_small_and_of_no_machine(path):
    cells = jupytext.read(path).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert outputs and path.stat().st_size <= LARGEST_BYTES
    assert not any(cell.metadata for cell in cells)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert not re.search(r"(?<![\w.~])/(home|work|root|tmp|Users)/", path.read_text(encoding="utf-8"))


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="long without compilation")
@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_a_notebook_runs_and_gives_what_is_stored(path):
    line = [sys.executable, str(ROOT / "docs" / "make_notebooks.py"), "--check", path.stem]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
