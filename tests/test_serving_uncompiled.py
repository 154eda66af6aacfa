"""Runs the tests of serving engines that are compiled for none of their many policies, in a process without Numba."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from tests.conftest import INTERPRETED


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="they are part of this run")
@pytest.mark.parametrize("name", sorted(INTERPRETED))
def test_without_compilation(name):
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / name)]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    for variable in [variable for variable in environment if variable.startswith(("PYTEST_", "COV_"))]:
        del environment[variable]
    ran = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
