"""Draws figures in a second process, which imports matplotlib while this one runs the scenario.

Importing matplotlib takes longer than drawing, and neither needs the run; on a second core they cost no time. The two
talk in pickles: a function of `sim.report.figures` with its arguments goes in, what it returned or raised comes out.
The second process ends when its input does, so it does not outlive this one, however this one ends.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from sim.garbage import collect_rarely


class Drawing:
    """A context that has a second process to draw figures in."""

    def __enter__(self) -> Drawing:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            start_new_session=True,  # an interrupt from the keyboard is for this process alone
        )
        return self

    @contextmanager
    def drawn(self, draw: Callable[..., Any], *arguments: Any) -> Iterator[None]:
        """`draw(*arguments)` is done there while the body of the `with` is done here; its end waits for it.

        draw: a function of a module, which pickle finds there. Raises the InputError that it raised.
        """
        try:
            pickle.dump((draw, arguments), self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        yield
        try:
            error = pickle.load(self._process.stdout)
        except EOFError:
            raise self._ended() from None
        if error is not None:
            raise error

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"the process that draws figures ended with exit code {self._process.wait()}")

    def __exit__(self, *error: object) -> None:
        self._process.kill()  # nothing is left to do for it, and to tidy up would take it a while
        with suppress(BrokenPipeError):  # of what it had not read yet
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def main() -> None:
    """The second process: draw what is asked for, one thing after the other, until nothing more can be asked."""
    collect_rarely()
    from sim.report.figures import warm_up

    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever prints must not print between the pickles
    warm_up()
    _serve(sys.stdin.buffer, answers)


def _serve(asked: BinaryIO, answers: BinaryIO) -> None:
    while True:
        try:
            draw, arguments = pickle.load(asked)
        except EOFError:
            return
        pickle.dump(_error_of(draw, arguments), answers)
        answers.flush()


def _error_of(draw: Callable[..., Any], arguments: tuple) -> Exception | None:
    from sim.errors import InputError

    try:
        draw(*arguments)
    except InputError as error:  # anything else is a defect, whose traceback is worth more here than its pickle there
        return error
    return None


if __name__ == "__main__":
    main()
