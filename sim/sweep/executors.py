"""Where points run: processes of this machine, a Dask cluster, or any executor of `concurrent.futures`."""

from __future__ import annotations

import multiprocessing
import os
from abc import ABC, abstractmethod
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

from sim.errors import InputError
from sim.sweep import work

LOCAL, DASK = "local", "dask"
EXECUTORS = (LOCAL, DASK)
_PRELOADED = "sim.sweep.preloaded"


class Workers(ABC):
    """A context with an executor. width: how many tasks run at a time."""

    executor: Executor
    width: int

    def begin(self) -> None:
        """Do in the background what takes a while before the first task."""
        return None

    @abstractmethod
    def __enter__(self) -> Workers: ...

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...

    def check(self, folder: Path) -> None:
        """Raises InputError where a worker does not see the folder."""
        return None

    def renew(self) -> bool:
        """Another executor in place of one whose process ended; False where there is none."""
        return False


class LocalWorkers(Workers):
    """Processes of this machine, which share the modules that they import, and end with this one."""

    def __init__(self, jobs: int):
        self.width = jobs
        self._context = multiprocessing.get_context("forkserver")

    def begin(self) -> None:
        """Let the imports of all processes begin, while this one finds out what there is to run."""
        self._context.set_forkserver_preload([_PRELOADED])
        forkserver.ensure_running()

    def __enter__(self) -> LocalWorkers:
        self.begin()
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end(at_once=error[0] is not None)

    def renew(self) -> bool:
        self._end(at_once=True)
        self._start()
        return True

    def _start(self) -> None:
        held, self._hold = self._context.Pipe(duplex=False)  # processes end when the other end is closed
        self.executor = ProcessPoolExecutor(
            self.width, mp_context=self._context, initializer=work.begin, initargs=(held,)
        )

    def _end(self, at_once: bool) -> None:
        """At once, what is being done is given up: results appear whole or not at all."""
        if at_once:
            self._hold.close()
        self.executor.shutdown(wait=True, cancel_futures=True)
        self._hold.close()


class GivenWorkers(Workers):
    """An executor that the caller has."""

    def __init__(self, executor: Executor, jobs: int):
        self.executor, self.width = executor, jobs

    def __enter__(self) -> GivenWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_of(name: str, jobs: int | None, scheduler: str | None) -> Workers:
    """Those that the command line asks for. Raises InputError for an unknown name, or what does not go together."""
    if name not in EXECUTORS:
        raise InputError("unknown executor", value=name, candidates=EXECUTORS)
    if name == LOCAL:
        if scheduler is not None:
            raise InputError("--scheduler without --executor dask", value=scheduler, expected="both, or neither")
        return LocalWorkers(jobs or cores())
    if scheduler is None:
        raise InputError("--executor dask without --scheduler", expected="its address, such as tcp://127.0.0.1:8786")
    from sim.sweep.dask_workers import DaskWorkers

    return DaskWorkers(scheduler, jobs)
