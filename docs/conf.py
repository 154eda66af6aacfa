"""How Sphinx builds the user guide (`make docs`).

The source folder is the whole repository, so that README.md, the pages beside profiles and scenarios, and the notebooks
are read where they are, and a link that leads somewhere on a code-hosting site leads there in the guide, too.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import is_dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def _version() -> str:
    """`sim.__version__`, without an import of the package."""
    tree = ast.parse((ROOT / "sim" / "__init__.py").read_text(encoding="utf-8"))
    assigned = (node for node in tree.body if isinstance(node, ast.Assign))
    return next(node.value.value for node in assigned if node.targets[0].id == "__version__")


project = "memhier"
author = "the authors of memhier"
copyright = "2026, the authors of memhier"
version = release = _version()

extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/**.md",
    "hardware_profiles/README.md",
    "scenarios/README.md",
    "workloads/traces/README.md",
    "notebooks/*.ipynb",
]
# the second keeps Sphinx from walking through the environment and through results
exclude_patterns = ["docs/_build", ".*", "**/__pycache__", "results", "build", "tests", "sim", "policies"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the outputs shown are those stored; the tests run each notebook
nb_ipywidgets_js = {}  # no notebook has widgets, and their scripts would come from a network

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
add_module_names = False

nitpicky = True
nitpick_ignore_regex = [("py:(class|data)", ".*")]  # types in signatures: not each of them has a place in the guide

html_theme = "furo"
html_title = f"memhier {version}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["guide.css"]
html_extra_path = ["start"]  # index.html, which leads to the guide's first page
html_theme_options = {"navigation_with_keys": True}
linkcheck_anchors = False  # sites make theirs by scripts
linkcheck_timeout = 20


# Docstrings are plain prose: `code` and indented blocks as in Markdown, and rows of `name: what it is`.
_CODE = re.compile(r"(`[^`]+`)")
_MARKUP = re.compile(r"([*|\\]|(?<=\w)_(?=\W|$))")
_ENTRY = re.compile(r"([a-z_]\w*(?:\([^)]*\))?(?: -> [\w ]+)?(?:, \w+)*): (.*)")


def _as_rst(line: str) -> str:
    parts = _CODE.split(line)
    return "".join(f"`{part}`" if _CODE.fullmatch(part) else _MARKUP.sub(r"\\\1", part) for part in parts)


def _entries(paragraph: list[str]) -> list[str]:
    """Rows of `name: what it is`, further lines of each indented, as a list; and what follows on them."""
    told: list[str] = []
    for line in paragraph:
        found = _ENTRY.fullmatch(line)
        if found:
            told.append(f"- ``{found[1]}``: {_as_rst(found[2])}")
        elif line.startswith(" "):
            told.append(f"  {_as_rst(line.strip())}")
        else:
            told += [*([""] if told and told[-1][:1] in "- " else []), _as_rst(line)]
    return told


def _paragraph_as_rst(paragraph: list[str]) -> list[str]:
    if paragraph[0].startswith("    "):
        return ["::", "", *paragraph]
    if all(_ENTRY.fullmatch(line) or line.startswith(" ") for line in paragraph[:2]) and len(paragraph) > 1:
        return _entries(paragraph)
    return [_as_rst(line) for line in paragraph]


def _docstring_as_rst(app, what, name, obj, options, lines: list[str]) -> None:
    paragraphs = [list(group) for full, group in groupby(lines, key=lambda line: bool(line.strip())) if full]
    lines[:] = [line for paragraph in paragraphs for line in (*_paragraph_as_rst(paragraph), "")]


def _no_signature(app, what, name, obj, options, signature, returned):
    """Of a class whose fields follow, with their types and defaults, the signature would say the same twice."""
    told_by_fields = what == "class" and (is_dataclass(obj) or hasattr(obj, "_fields"))
    return ("", None) if told_by_fields else None


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Constants of a class are how its methods work."""
    return True if what == "class" and name.isupper() else None


def setup(app) -> None:
    app.connect("autodoc-process-signature", _no_signature)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _docstring_as_rst)
