"""The pages say what is true: their links lead somewhere, their commands exist, their code runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from sim import registry

ROOT = Path(__file__).parent.parent
FOLDERS = ("hardware_profiles", "scenarios", "workloads/traces")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / name / "README.md" for name in FOLDERS)])
GUIDE = ROOT / "docs" / "writing-a-policy.md"
DEVICE_GUIDE = ROOT / "docs" / "writing-a-device-model.md"
compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="long without compilation")


def text_of(page):
    return page.read_text(encoding="utf-8")


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    local = [target.partition("#")[0] for target in targets if "://" not in target]
    missing = [target for target in local if target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_in_code_exist(page):
    folders = "sim|policies|workloads|hardware_profiles|scenarios|tests|docs|benchmarks|notebooks"
    named = re.findall(rf"`(?:python )?((?:{folders})/[\w./-]+\.\w+)`", text_of(page))
    assert not [path for path in named if "NAME" not in path and not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_knows_a_machine(page):
    assert not re.search(r"(?<![\w.~])/(home|work|root|tmp|Users)/", text_of(page))


# ------------------------------------------------------------------------------------------------------------- commands


def commands(page):
    """Every use of the command line on the page, as its arguments."""
    text = re.sub(r"(?s)```python.*?```", "", text_of(page))
    found = re.findall(r"(?:python run_sim\.py|memhier) ([a-z][^`\n#|]*)", text)
    words = [shlex.split(line) for line in found]
    return [line for line in words if line[0] not in PROSE]


PROSE = {"is", "works", "needs", "and", "does"}  # what follows the program's name in a sentence


def cli_commands():
    """Each command of the command line with the options that it takes."""
    import typer.main

    from sim.cli import app

    group = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", GUIDE, DEVICE_GUIDE, ROOT / "scenarios" / "README.md"], ids=name_of
)
def test_commands_and_their_options_exist(page):
    known, used = cli_commands(), commands(page)
    assert used
    for name, *arguments in used:
        assert name in known, name
        given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert given <= known[name] | {"--help"}, (name, arguments)


def test_the_readme_knows_every_command():
    assert set(cli_commands()) <= {line[0] for line in commands(ROOT / "README.md")}


def test_what_the_readme_asks_for_exists():
    from sim import catalog, profile, scenario

    scenarios, traces = scenario.scenario_names(), catalog.entries()
    eviction = registry.names(registry.EVICTION)
    for name, *arguments in commands(ROOT / "README.md"):
        if name in ("run", "compare"):
            assert arguments[0] in scenarios
        if name == "replay":
            assert arguments[0] in traces
        if "--policies" in arguments:
            assert set(arguments[arguments.index("--policies") + 1].split(",")) <= set(eviction)
    assert "cxl_pool_spr" in profile.system_names()


def test_the_readme_counts_right():
    from sim import catalog, profile, scenario
    from sim.llm.models import model_names

    counts = {
        "eviction policies": [len(registry.names(registry.EVICTION))],
        "admission, prefetch and offload policies": [
            len(registry.names(kind)) for kind in (registry.ADMISSION, registry.PREFETCH, registry.OFFLOAD)
        ],
        "allocators": [len(registry.names(registry.ALLOCATOR))],
        "scheduling policies": [len(registry.names(registry.SCHEDULING))],
        "language models": [len(model_names())],
        "systems": [len(profile.system_names())],
        "trace readers": [len(registry.names(registry.READER))],
        "trace generators": [len(registry.names(registry.GENERATOR))],
        "sources of allocations": [len(registry.names(registry.ALLOCATION_SOURCE))],
        "traces known by name, three of them bundled": [len(catalog.entries())],
        "scenarios": [len(scenario.scenario_names())],
    }
    devices = [profile.load_device(name) for name in profile.device_names()]
    links = sum(device.is_link for device in devices)
    counts["devices, and links and switches"] = [len(devices) - links, links]
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([\d, ]+) \|", text_of(ROOT / "README.md"), re.MULTILINE))
    assert {name: [int(n) for n in rows[name].split(",")] for name in counts} == counts


def test_make_validation_without_references_says_so_and_writes_nothing():
    page = ROOT / "docs" / "validation.md"
    before = page.read_bytes()
    environment = {**os.environ, "MEMHIER_REFERENCE_PATH": "", "MEMHIER_TRACE_PATH": ""}
    line = [sys.executable, str(ROOT / "docs" / "make_validation.py")]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "libcachesim_cloudphysics.csv: not found; set MEMHIER_REFERENCE_PATH" in done.stderr
    assert "Traceback" not in done.stderr and page.read_bytes() == before


# ----------------------------------------------------------------------------------------------------------------- code


def blocks(page, language):
    """The fenced blocks of a language; one that begins with a comment `# NAME.EXT` is a file of that name."""
    files, code = {}, []
    for block in re.findall(rf"(?s)```{language}\n(.*?)```", text_of(page)):
        name = re.match(r"# ([\w.]+\.\w+)\n", block)
        if name:
            files[name[1]] = block
        else:
            code.append(block)
    return files, code


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in text_of(page)], ids=name_of)
def test_python_on_the_pages_is_python(page):
    files, code = blocks(page, "python")
    for block in (*files.values(), *code):
        compile(block, name_of(page), "exec")


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    """The guide's policies, written and installed as it says, offline, into a folder of their own: the environment."""
    folder = tmp_path_factory.mktemp("guide")
    source, installed = folder / "source", folder / "installed"
    source.mkdir()
    for name, block in {**blocks(GUIDE, "python")[0], **blocks(GUIDE, "toml")[0]}.items():
        (source / name).write_text(block, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(installed), str(source)], check=True, capture_output=True)
    path = os.pathsep.join([str(source), str(installed), str(ROOT)])
    compiled = ROOT / ".pytest_cache" / "numba_guide"  # apart from memhier's own, and kept: it takes minutes to make
    return source, {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(compiled)}


@compiled_only
def test_the_guide_runs_from_the_policy_to_the_comparison(guide):
    folder, environment = guide
    code = blocks(GUIDE, "python")[1]
    assert len(code) == 6
    line = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = " ".join(done.stdout.split())
    assert all(f"{kind}: good" in printed for kind in ("eviction bip", "admission even", "scheduling turns"))
    quoted = re.findall(r"(?m)^    (\S.*)$", re.sub(r"(?s)```.*?```", "", text_of(GUIDE)))
    assert len(quoted) == 5 and not [said for said in quoted if " ".join(said.split()) not in printed]


@compiled_only
def test_the_guide_s_policy_is_one_of_the_others(guide):
    folder, environment = guide
    command = [sys.executable, str(ROOT / "run_sim.py"), "list", "policies", "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    row = next(row for row in json.loads(done.stdout) if row["name"] == "bip")
    assert row["kind"] == "eviction" and row["parameters"] == {"every": 32}
    assert row["description"].startswith("Bimodal insertion: LRU, but only one in `every` new blocks")
