"""Runs the notebooks, and stores them with what they print and draw: notebooks/NAME.py -> notebooks/NAME.ipynb.

    python docs/make_notebooks.py [NAME...]            all, or these
    python docs/make_notebooks.py --check [NAME...]    write nothing; exit code 1 where a stored one would change

The text form is what is edited. Times, versions and random cell numbers are left out of the other, so that the same
sources give the same file. `--check` compares text and numbers; of figures only that there are as many, because their
bytes depend on the version of matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "notebooks"
SECONDS = 600  # a cell may take, compilation included


def made(name: str):
    """The notebook of that name, run in its folder, as nbformat has it. Raises CellExecutionError."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(FOLDER / f"{name}.py")
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": FOLDER}}, record_timing=False)
    client.execute()
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


def shown(notebook) -> list[tuple[str, list[str]]]:
    """Each cell's source, and the text of each of its outputs; of a figure, that it is one."""
    return [(cell.source, [_text(one) for one in cell.get("outputs", ())]) for cell in notebook.cells]


def _text(output) -> str:
    if output.output_type == "stream":
        return output.text
    data = output.get("data", {})
    return "a figure" if "image/png" in data else data.get("text/plain", output.output_type)


def main() -> None:
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    known = sorted(path.stem for path in FOLDER.glob("*.py"))
    unknown = set(asked.names) - set(known)
    if unknown:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    stale = []
    for name in asked.names or known:
        notebook, path = made(name), FOLDER / f"{name}.ipynb"
        if not asked.check:
            nbformat.write(notebook, path)
        elif not path.is_file() or shown(notebook) != shown(nbformat.read(path, as_version=4)):
            stale.append(name)
    if stale:
        sys.exit(f"{', '.join(stale)}: what is stored is not what it gives now; run docs/make_notebooks.py")


if __name__ == "__main__":
    main()
