"""Built-ins and other packages' entry points: what is found, what is refused, and what is imported when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace

import pytest

from sim import registry
from sim.errors import InputError

ROOT = Path(__file__).parent.parent
OTHERS = SimpleNamespace()  # what the entry points of these tests point at


def clear():
    for function in (registry._all_entries, registry._entries, registry._imported, registry._kind_or_none):
        function.cache_clear()


@pytest.fixture
def offers(monkeypatch):
    """Makes packages offer objects: offers("name", object) in the policies' group; a string is a path to import."""
    listed = []

    def offer(name, thing, group="memhier.policies"):
        target = thing
        if not isinstance(thing, str):
            setattr(OTHERS, f"thing{len(listed)}", thing)
            target = f"{__name__}:OTHERS.thing{len(listed)}"
        listed.append(EntryPoint(name, target, group))
        clear()

    sys.modules.setdefault(__name__, sys.modules[offer.__module__])
    monkeypatch.setattr(registry, "entry_points", lambda: EntryPoints(listed))
    clear()
    yield offer
    clear()


def eviction(name):
    from dataclasses import replace

    from policies.eviction.lru import POLICY

    return replace(POLICY, name=name)


def admission(name):
    from dataclasses import replace

    from policies.admission.always import POLICY

    return replace(POLICY, name=name)


def test_built_ins_are_found_without_importing_them():
    code = (
        "import sys; from sim import registry as r; print(r.names(r.EVICTION)); "
        "print([m for m in sys.modules if m.startswith('policies.eviction.')], 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names, imported = done.stdout.splitlines()
    assert "'lru'" in names and "'belady'" in names
    assert imported == "[] False"


@pytest.mark.parametrize("kind", registry.KINDS, ids=lambda kind: kind.name)
def test_every_built_in_is_of_its_kind_and_has_its_own_name(kind):
    for name in registry.names(kind):
        assert registry.load(kind, name).name == name


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown eviction policy 'siev'; did you mean 'sieve'"):
        registry.load(registry.EVICTION, "siev")


def test_a_policys_class_tells_its_kind(offers):
    offers("theirs", eviction("theirs"))
    offers("guard", admission("guard"))
    assert "theirs" in registry.names(registry.EVICTION) and "theirs" not in registry.names(registry.ADMISSION)
    assert "guard" in registry.names(registry.ADMISSION)
    assert registry.load(registry.EVICTION, "theirs").name == "theirs"
    with pytest.raises(InputError, match=r"'guard' of .* is of the kind 'admission', no eviction policy"):
        registry.load(registry.EVICTION, "guard")


def test_a_name_can_be_taken_only_once(offers):
    offers("lru", eviction("lru"))
    for look in (lambda: registry.names(registry.EVICTION), lambda: registry.load(registry.EVICTION, "lru")):
        with pytest.raises(InputError, match=r"eviction policy 'lru' is built in; module .* another name"):
            look()
    assert registry.load(registry.EVICTION, "fifo").name == "fifo"


def test_a_built_in_name_of_another_kind_is_free(offers):
    offers("always", eviction("always"))
    assert registry.load(registry.EVICTION, "always").KIND == "eviction"
    assert registry.load(registry.ADMISSION, "always").KIND == "admission"


def test_two_packages_cannot_offer_one_name(offers):
    offers("theirs", eviction("theirs"))
    offers("theirs", eviction("theirs"))
    with pytest.raises(InputError, match=r"'theirs' of memhier\.policies is offered by both"):
        registry.load(registry.EVICTION, "theirs")


def test_a_package_that_cannot_be_imported_is_named_and_spoils_nothing_else(offers):
    offers("broken", "no_such_module_anywhere:POLICY")
    with pytest.warns(UserWarning, match="'broken' of .* could not be imported: ModuleNotFoundError"):
        assert "broken" not in registry.names(registry.EVICTION)
    assert registry.load(registry.EVICTION, "lru").name == "lru"
    with pytest.raises(InputError, match="could not be imported"):
        registry.load(registry.EVICTION, "broken")


@pytest.mark.parametrize(
    ("name", "thing", "told"),
    [
        ("number", 3, "is no object for memhier.policies: a int; expected an instance of sim.EvictionPolicy or"),
        ("alias", eviction("theirs"), "'alias' of .* calls itself 'theirs'"),
    ],
)
def test_what_an_entry_point_gives_must_be_right(offers, name, thing, told):
    offers(name, thing)
    with pytest.raises(InputError, match=told):
        registry.load(registry.EVICTION, name)


def surroundings(path):
    """The environment of a process that finds the package; it keeps its compiled code away from everyone else's."""
    return {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}", "NUMBA_CACHE_DIR": str(path / "numba")}


def command(*arguments, path):
    line = [sys.executable, str(ROOT / "run_sim.py"), *arguments]
    return subprocess.run(line, cwd=path, env=surroundings(path), capture_output=True, text=True, check=False)


def test_an_installed_package_adds_a_policy(tmp_path):
    """Installed as anybody would, offline, into a folder of its own."""
    import shutil

    source, target = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(ROOT / "tests" / "third_party" / "memhier_example_policy", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    (target / "t.csv").write_text("arrival_ns,id,size_bytes,op\n0,1,4,read\n1,2,4,read\n2,1,4,read\n3,3,4,read\n")

    listed = command("list", "policies", "--json", path=target)
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert rows["shortest_prompt"]["kind"] == "scheduling" and rows["shortest_prompt"]["parameters"] == {
        "patience": 256
    }
    row = rows["scan_aware"]
    assert row["kind"] == "eviction" and row["parameters"] == {"patience": 16}
    assert row["description"].startswith("Least recently used, but in a scan")

    played = command("replay", "t.csv", "--policy", "scan_aware", "--capacity", "8", "--json", path=target)
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout)["hits"] == 1

    played = command("replay", "t.csv", "--policy", "most_recent", "--capacity", "8", "--json", path=target)
    assert played.returncode == 0 and "plain Python class" in played.stderr
    assert json.loads(played.stdout)["hits"] == 1


def test_of_many_names_the_most_alike_are_told():
    from sim.errors import InputError

    names = [f"device_{number}" for number in range(99)] + ["ssd_gen5"]
    told = str(InputError("unknown device", value="pm_ssd", candidates=names))
    assert "there are 100, the most alike: " in told and "ssd_gen5" in told and len(told) < 200
