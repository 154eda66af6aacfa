"""Digests of what a run is made of beside its scenario, found before anything is run."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import catalog, registry
from sim.errors import InputError
from sim.remembering import remembered

if TYPE_CHECKING:
    from sim.policy import Plugin
    from sim.profile import Profile
    from sim.scenario import Workload


def of_profile(profile: Profile) -> dict[str, str]:
    """The system, and the models that time its parts."""
    devices = [*(tier.device for tier in profile.tiers), *profile.links.values()]
    models = [registry.load(registry.DEVICE_MODEL, name) for name in sorted({device.model for device in devices})]
    return {f"profile.{profile.name}": profile.digest, **of_plugins(models)}


def of_plugins(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Of their sources."""
    return {f"{plugin.KIND}.{plugin.name}": plugin.digest for plugin in plugins}


def of_content(what: str, content: Any) -> dict[str, str]:
    """Of something that was read from a file and has a name: of what was read."""
    return {f"{what}.{content.name}": hashlib.sha256(repr(content).encode()).hexdigest()}


def of_workload(workload: Workload) -> dict[str, str]:
    """Of a trace's file, or of what generates one."""
    if workload.generator is not None:
        generator = registry.load(registry.GENERATOR, workload.generator)
        return of_function(f"generator.{workload.generator}", generator.build)
    return of_trace(workload.trace)


def of_trace(trace: str) -> dict[str, str]:
    """Of a file or dense folder, or of that which the catalogue has under this name. Raises InputError where there is
    none, or it cannot be read.
    """
    path = Path(trace) if Path(trace).exists() else catalog.find(trace)
    if path is None:
        raise InputError(f"trace {trace!r} is not on this machine", expected=f"`run_sim.py traces get {trace}` first")
    return {f"trace.{path.name}": _file_digest(path / "manifest.json" if path.is_dir() else path)}


def of_function(name: str, function: Callable) -> dict[str, str]:
    """Of the sources of its module and of those whose functions that uses."""
    from sim.plugin_digest import digest_of_sources

    while isinstance(function, functools.partial):
        function = function.func
    return {name: digest_of_sources((inspect.unwrap(function),))}


@remembered
def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
