"""What every kind of run leaves: a summary, a manifest and tables, in memory or as a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sim import result_files
from sim.result_files import Coded, Columns

if TYPE_CHECKING:
    import pyarrow

Beside = Callable[[Any, Path], AbstractContextManager]


@dataclass(frozen=True)
class SavedResult:
    """One run's results, the same whether just computed or read from its folder.

    summary: metric name to value; manifest: what made them; timing: how long it took; folder: where they are saved, or
    None; columns: by table, read from the folder when first used where there are none.
    """

    FORMAT: ClassVar[str]
    TABLES: ClassVar[tuple[str, ...]]

    summary: dict[str, float | int]
    manifest: dict[str, Any]
    timing: dict[str, float]
    folder: Path | None = None
    columns: Mapping[str, Columns] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """What to call the run beside others."""
        return self.manifest["label"]

    def table(self, name: str) -> pyarrow.Table:
        """One of TABLES as an Arrow table. Raises InputError where its file cannot be read."""
        return result_files.arrow(self.columns[name]) if self.columns else result_files.read_parquet(self._file(name))

    def column(self, table: str, name: str) -> np.ndarray | Coded:
        """One column of a table, without pandas. Raises InputError where its file cannot be read."""
        if self.columns:
            return self.columns[table][name]
        return result_files.numpy_column(result_files.read_parquet(self._file(table), [name]))

    def column_names(self, table: str) -> list[str]:
        """Of what there are columns in a table. Raises InputError where its file cannot be read."""
        return list(self.columns[table]) if self.columns else result_files.parquet_columns(self._file(table))

    def _file(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"

    def saved(self, folder: str | Path, beside: Beside | None = None) -> Self:
        """Write the results into one folder, which replaces results that are there; the same, with its folder.

        beside: given the result and the folder in which it is written at first, a context within which that is done;
        it may add files of its own. Raises InputError where the folder cannot be written or holds anything but results.
        """
        documents = {name: getattr(self, name) for name in result_files.DOCUMENTS}
        with result_files.written(folder) as unfinished, beside(self, unfinished) if beside else nullcontext():
            result_files.write_files(unfinished, {name: self.table(name) for name in self.TABLES}, documents)
        return replace(self, folder=Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The results in a folder; its tables are read when first used.

        Raises InputError where a file is missing, it is of another kind or version, or what it says is not of a run.
        """
        from sim.result_shapes import check_manifest, check_summary

        folder = Path(folder)
        result = cls(*result_files.read_documents(folder, cls.TABLES, cls.FORMAT), folder)
        check_manifest(result.manifest, cls.manifest_shape(), folder / "manifest.json")
        check_summary(result.summary, result.required_metrics(), folder / "summary.json")
        return result

    @classmethod
    def manifest_shape(cls) -> type:
        """What the manifest holds at the least, as `sim.result_shapes` has it."""
        raise NotImplementedError

    def required_metrics(self) -> list[str]:
        """Names that every summary of such a run has."""
        raise NotImplementedError
