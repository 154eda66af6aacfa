"""Folders and files that are written beside results: the whole file or none."""

from __future__ import annotations

from pathlib import Path

from sim.errors import InputError


def make_folder(folder: Path) -> Path:
    """The folder, made where it is not there. Raises InputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write results: {error.strerror}", file=folder) from error
    return folder


def write_text(path: Path, text: str) -> None:
    """The whole file or none. Raises InputError where it cannot be written."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"cannot write results: {error.strerror}", file=path) from error
    finally:
        unfinished.unlink(missing_ok=True)
