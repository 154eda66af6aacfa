"""The workers of a Dask cluster, which see the sweep's folder in a shared file system.

Dask does a run again elsewhere when its worker is lost; results appear whole or not at all, so that nothing is twice.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from sim.errors import InputError
from sim.sweep import work
from sim.sweep.executors import Workers

_CONNECT_SECONDS = 5
_INSTALL = "`pip install memhier[cluster]`"


class DaskWorkers(Workers):
    """A context that is connected to a scheduler. jobs: at most so many runs at a time, None: one a thread."""

    def __init__(self, address: str, jobs: int | None = None):
        self._address, self._jobs = address, jobs

    def __enter__(self) -> DaskWorkers:
        self._client = _connected(self._address)
        threads = sum(worker["nthreads"] for worker in self._workers().values())
        if not threads:
            self._client.close()
            raise InputError("a scheduler without workers:", value=self._address, expected="`dask worker` processes")
        self.width = min(threads, self._jobs or threads)
        self.executor: Executor = self._client.get_executor(pure=False)
        return self

    def __exit__(self, *error: object) -> None:
        self.executor.shutdown(wait=error[0] is None)  # without waiting, Dask gives up what is not done
        self._client.close()

    def check(self, folder: Path) -> None:
        """Each worker must have memhier in this version, and find a file that was put into the folder."""
        from sim import __version__

        mark = folder.absolute() / f".{os.getpid()}.seen"
        try:
            mark.touch()
            told = self._asked(str(mark))
        finally:
            mark.unlink(missing_ok=True)
        for worker, (version, seen) in told.items():
            if version != __version__:
                raise InputError(f"worker {worker} has memhier", value=version, expected=__version__)
            if not seen:
                problem = f"worker {worker} does not see the sweep's folder:"
                raise InputError(problem, value=str(mark.parent), expected="a folder that all workers share (--out)")

    def _asked(self, mark: str) -> dict[str, tuple[str, bool]]:
        try:
            return self._client.run(work.sees, mark)
        except Exception as error:  # of whatever kind the worker's was
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(f"a worker cannot work for memhier: {said}", expected=_INSTALL) from None

    def _workers(self) -> dict[str, Any]:
        return self._client.scheduler_info(n_workers=-1)["workers"]


def _connected(address: str) -> Any:
    """A client. Raises InputError where Dask is not installed, or nothing answers."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--executor dask needs Dask", expected=_INSTALL) from None
    try:
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        problem = f"no Dask scheduler answers ({said}):"
        raise InputError(problem, value=address, expected="its address, such as tcp://127.0.0.1:8786") from None
