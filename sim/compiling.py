"""Compiles a kernel for the state of a run, and says in one line which plugin's hook cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from numba.core.errors import NumbaError

from sim.engines.replay import wrong_return
from sim.errors import InputError
from sim.kernels.compile import specialised
from sim.policy import Plugin, explain_failure, hook_samples, sample_request

States = Iterable[tuple[Plugin, Any]]  # every plugin of a run with its state


def compiled(plugins: States, kernel: Callable, *arguments: Any) -> Callable:
    """A kernel for these arguments. Raises InputError, naming the hook, where a plugin's cannot be compiled."""
    try:
        return specialised(kernel, *arguments)
    except NumbaError as error:
        raise explained(plugins, error) from error


def explained(plugins: States, error: NumbaError) -> InputError:
    """The one line about a compilation that failed."""
    plugins = list(plugins)
    for plugin, state in plugins:
        found = explain_failure(plugin, hook_samples(plugin, state, sample_request())) or wrong_return(plugin)
        if found is not None:
            return found
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    names = sorted({f"{plugin.KIND} {plugin.name!r}" for plugin, _ in plugins})
    return InputError(f"these do not compile together: {', '.join(names)}: {first}")
