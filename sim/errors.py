"""What a person did wrong, said in one line: file, field, value, what was expected, nearest valid name.

Everything that reads input raises `InputError` (or `InputErrors`, several at once); the command line prints the
lines and exits with 2. Any other exception is a defect of memhier.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_NOT_GIVEN = object()
_LONGEST_VALUE = 80
_MOST_LISTED, _FEW_LISTED = 60, 6


def _listed(wanted: str, names: Iterable[str]) -> str:
    """All names, or of many the few that are most alike."""
    names = sorted(names)
    if len(names) <= _MOST_LISTED:
        return f"there is: {', '.join(names)}"
    alike = difflib.get_close_matches(wanted, names, n=_FEW_LISTED, cutoff=0.0)
    return f"there are {len(names)}, the most alike: {', '.join(alike)}"


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was probably meant to be, or None."""
    candidates = list(candidates)
    by_folded = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(str(name).lower(), by_folded, n=1, cutoff=0.5)
    return by_folded[matches[0]] if matches else None


def shorten(value: object) -> str:
    """`value` as a person would write it, cut to a length that fits a line."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


class InputError(ValueError):
    """One thing wrong with one input.

    problem: what is wrong, as a clause ("unknown policy"); file, line, field: where; value: what stood there;
    expected: what may stand there, as a phrase; candidates: valid names, of which the nearest is suggested.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: object = None,
        line: int | None = None,
        field: str | None = None,
        value: object = _NOT_GIVEN,
        expected: str | None = None,
        candidates: Iterable[str] = (),
    ):
        self.problem, self.file, self.line, self.field, self.expected = problem, file, line, field, expected
        self.has_value = value is not _NOT_GIVEN
        self.value = value if self.has_value else None
        self.candidates = tuple(candidates)
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        where = str(self.file) if self.file is not None else ""
        if self.line is not None:
            where += f":{self.line}" if where else f"line {self.line}"
        parts = [part for part in (where, self.field) if part]
        text = self.problem
        if self.has_value:
            text += f" {shorten(self.value)}"
        if self.expected:
            text += f"; expected {self.expected}"
        near = nearest_name(str(self.value), self.candidates) if self.has_value and self.candidates else None
        if near is not None:
            text += f"; did you mean {near!r}?"
        elif self.candidates:
            text += f"; {_listed(str(self.value), self.candidates)}"
        return " ".join(": ".join([*parts, text]).split())

    @property
    def lines(self) -> list[str]:
        return [str(self)]


class InputErrors(InputError):
    """Several things wrong at once, each an `InputError`."""

    def __init__(self, errors: Iterable[InputError]):
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in self.errors))

    @property
    def lines(self) -> list[str]:
        return [line for error in self.errors for line in error.lines]
