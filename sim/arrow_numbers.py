"""Columns of Arrow as arrays of numpy. Arrow's own way there imports pandas, which takes a tenth of a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow


def numbers_of(array: pyarrow.Array) -> np.ndarray:
    """The memory of an array of integers or floats as it is, not to be written to; nulls are NaN, as Arrow makes them.

    Raises pyarrow.ArrowException for what is no array of numbers.
    """
    import pyarrow

    kind = array.type
    if array.null_count or not len(array) or not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
        return array.to_numpy(zero_copy_only=False)
    values = np.frombuffer(array.buffers()[1], kind.to_pandas_dtype())
    return values[array.offset : array.offset + len(array)]
