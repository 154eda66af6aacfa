"""The guide's examples run: each page's commands and Python, in order, in a folder of its own.

Blocks of ```sh and ```python are run from the top of a page to its end; Python blocks of a page share one session. A
block of any language whose first line is a comment `# NAME.EXT` is a file of that name. A block that is not run says so
in an HTML comment before it, with a reason: <!-- not run: needs a download -->. Numbers in ```text blocks are among
those that the blocks of the page print.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numba
import pytest

ROOT = Path(__file__).parent.parent
NOT_RUN = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->\s*\Z", re.DOTALL)
FENCED = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")
FILE = re.compile(r"# ([\w.-]+\.\w+)\n")
RUNNABLE = ("sh", "python")
# test_docs and test_device_conformance do these
GUIDED_ELSEWHERE = {"writing-a-policy.md", "writing-a-device-model.md"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts and page.name not in GUIDED_ELSEWHERE]


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    file: str | None
    not_run: str | None  # the reason


def blocks(page: Path) -> list[Block]:
    text, found = page.read_text(encoding="utf-8"), []
    for match in FENCED.finditer(text):
        left_out, file = NOT_RUN.search(text[: match.start()]), FILE.match(match[2])
        found.append(Block(match[1], match[2], file and file[1], left_out and left_out[1]))
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_of(page: Path) -> list[Block]:
    return [one for one in blocks(page) if one.language in RUNNABLE and one.not_run is None and one.file is None]


WITH_EXAMPLES = [page for page in PAGES if run_of(page)]


def test_what_is_not_run_says_why():
    for page in PAGES:
        for block in blocks(page):
            assert block.not_run is None or len(block.not_run.split()) > 2, name_of(page)
            assert block.language not in ("bash", "shell", "console", "py", "python3"), name_of(page)


def test_the_first_pages_are_run():
    assert {"README.md", "docs/first-run.md", "docs/profiles.md", "docs/faq.md"} <= {
        name_of(one) for one in WITH_EXAMPLES
    }


@pytest.fixture
def place(tmp_path):
    """A folder in which `python run_sim.py`, `python` and `memhier` are those of these sources, and the environment."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, command in (("python", ""), ("memhier", f' "{ROOT / "run_sim.py"}"')):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n', encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "run_sim.py").symlink_to(ROOT / "run_sim.py")
    paths = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    return folder, {**os.environ, **paths}


def session(page: Path) -> str:
    """The page's blocks as one Python program, so that names of one block are known in the next."""
    lines = ["import subprocess", "def _sh(text): subprocess.run(['bash', '-euo', 'pipefail', '-c', text], check=True)"]
    for block in run_of(page):
        lines.append(f"_sh({block.text!r})" if block.language == "sh" else block.text)
    return "\n".join(lines)


def words_with_digits(text: str) -> list[str]:
    return [word.strip("*,;:()") for word in text.split() if any(letter.isdigit() for letter in word)]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="long without compilation")
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
def test_the_examples_of_a_page_run(page, place):
    folder, environment = place
    for block in blocks(page):
        if block.file is not None and block.not_run is None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
    line = [sys.executable, "-u", "-c", session(page)]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = set(words_with_digits(done.stdout))
    shown = [block.text for block in blocks(page) if block.language == "text" and block.not_run is None]
    missing = [word for text in shown for word in words_with_digits(text) if word not in printed]
    assert not missing, f"{name_of(page)} shows what its commands do not print"
