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
GUIDES = [page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts]
PAGES = sorted([*ROOT.glob("*.md"), *GUIDES, *(ROOT / name / "README.md" for name in FOLDERS)])
GUIDE = ROOT / "docs" / "writing-a-policy.md"
DEVICE_GUIDE = ROOT / "docs" / "writing-a-device-model.md"
compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="long without compilation")


def text_of(page):
    return page.read_text(encoding="utf-8")


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """The anchors of a page's headings, as code-hosting sites and the guide make them."""
    text = re.sub(r"(?ms)^```.*?^```$", "", text_of(page))
    found = []
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    """Within the project; `make linkcheck` looks at the others."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```$", "", text_of(page)))
    missing = []
    for target in targets:
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            missing.append(target)
    assert not missing


def test_the_pages_are_those_of_the_repository():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git, or no repository of it")
    tracked = {ROOT / name for name in listed.stdout.split()}
    assert tracked <= set(PAGES)


def test_every_page_of_the_guide_is_in_its_contents():
    named = set(re.findall(r"(?m)^(?:.*<)?(\.\./[\w/]+|[\w/-]+)>?$", text_of(ROOT / "docs" / "index.md")))
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    notebooks = {f"../notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert (pages | notebooks) <= named


def test_the_reference_has_each_name_of_the_library():
    import sim

    pages = "".join(text_of(page) for page in sorted((ROOT / "docs" / "api").glob("*.md")))
    modules = re.findall(r"automodule:: ([\w.]+)", pages)
    shown = set(re.findall(r"auto(?:class|function|data):: (?:[\w.]+\.)?(\w+)", pages))
    missing = []
    for name in sim.__all__:
        home = getattr(getattr(sim, name), "__module__", None)
        told = name in shown or home in modules or f"sim.{name}" in modules or f"`{name}`" in pages
        if not told and name != "__version__":
            missing.append(name)
    assert not missing, "name them in docs/api"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_in_code_exist(page):
    folders = "sim|policies|workloads|hardware_profiles|scenarios|tests|docs|benchmarks|notebooks"
    named = re.findall(rf"`(?:python )?((?:{folders})/[\w./-]+\.\w+)`", text_of(page))
    assert not [path for path in named if "NAME" not in path and not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_knows_a_machine(page):
    assert not re.search(r"(?<![\w.~])/(home|work|root|tmp|Users)/", text_of(page))


# ------------------------------------------------------------------------------------------------------------- commands


PROGRAM = r"(?:python run_sim\.py|memhier)"


def commands(page):
    """Every use of the command line on the page, in a block or as a piece of code, as its arguments."""
    text = text_of(page)
    found = [line for block in re.findall(r"(?s)```sh\n(.*?)```", text) for line in in_block(block)]
    rest = re.sub(r"(?ms)^```.*?^```$", "", text)
    found += re.findall(rf"(?m)(?:`|^ {{4,}}){PROGRAM} (?!result \d)([a-z][^`\n#|]*)", rest)  # that is a format's name
    return [shlex.split(line) for line in found]


def in_block(block):
    return re.findall(rf"(?m)^{PROGRAM} ([a-z][^\n#|]*)", block)


def cli_commands():
    """Each command of the command line with the options that it takes."""
    import typer.main

    from sim.cli import app

    group = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page):
    known, used = cli_commands(), commands(page)
    assert used or page not in (ROOT / "README.md", GUIDE, DEVICE_GUIDE, ROOT / "scenarios" / "README.md")
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
