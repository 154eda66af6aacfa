"""Options of a reader, as they are given on the command line."""

from __future__ import annotations

from typing import Any

from sim.errors import InputError


def reader_options(given: list[str] | None) -> dict[str, Any]:
    """`--option key=value` as a mapping; a value is read as YAML, so that `columns={id: lbn}` says what it says."""
    if not given:
        return {}
    import yaml

    options = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError("bad --option", value=text, expected="key=value, such as block_bytes=4096")
        try:
            options[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError("bad --option", value=text, expected="a value as in YAML") from error
    return options
