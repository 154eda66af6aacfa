"""Parameters of device models as pydantic has them, checked so that one line tells the first fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sim.errors import InputError


def checked(model: type[BaseModel], fields: Mapping[str, Any], what: str) -> Any:
    """An instance of a pydantic model; `what` is what one of its fields is called. Raises InputError."""
    for name in fields:
        if name not in model.model_fields:
            raise InputError(f"unknown {what}", value=name, candidates=model.model_fields)
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        told = fault.get("ctx", {}).get("error")
        if isinstance(told, InputError):
            raise told from None
        place = ".".join(map(str, fault["loc"]))
        if fault["type"] == "missing":
            raise InputError(f"missing {what} {place!r}") from None
        expected = fault["msg"].replace("Input should be ", "")
        raise InputError(f"{what} {place} is", value=fault["input"], expected=expected) from None
