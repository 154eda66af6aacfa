"""The bytes of a file that may be compressed, and no more of them than somebody allowed."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sim.errors import InputError


def _open_zstd(file: BinaryIO) -> BinaryIO:
    # of the bindings at hand, Arrow's is the one that notices a truncated frame
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


_DECOMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    "xz": lambda file: lzma.LZMAFile(file),  # noqa: SIM115 - closed by the stream
    "zst": _open_zstd,
}
_MAGIC = {"gz": b"\x1f\x8b", "xz": b"\xfd7zXZ\x00", "zst": b"\x28\xb5\x2f\xfd"}


def without_compression(file_name: str) -> str:
    """A file's name without the extensions of compressions at its end."""
    stem, dot, extension = file_name.rpartition(".")
    return without_compression(stem) if dot and extension.lower() in _DECOMPRESSORS else file_name


def open_stream(path: Path, max_bytes: int, truncate: bool = False) -> io.BufferedReader:
    """The decompressed bytes of `path`; .gz, .zst and .xz by the end of its name.

    Reading raises InputError for a corrupt or truncated file, and beyond `max_bytes` (where `truncate`, it ends there).
    """
    kind = path.name.lower().rsplit(".", 1)[-1]
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by the stream
    except OSError as error:
        raise InputError(f"cannot read the trace: {error.strerror}", file=path) from error
    if kind not in _DECOMPRESSORS:
        return io.BufferedReader(_Stream(path, file, [file], "", max_bytes, truncate), 1 << 20)
    magic = file.read(len(_MAGIC[kind]))
    file.seek(0)
    if magic != _MAGIC[kind]:
        file.close()
        problem = "the file is empty" if not magic else f"not a .{kind} file, whatever its name says"
        raise InputError(problem, file=path)
    stream = _DECOMPRESSORS[kind](file)
    return io.BufferedReader(_Stream(path, stream, [stream, file], kind, max_bytes, truncate), 1 << 20)


class _Stream(io.RawIOBase):
    """A stream that counts what it gives and whose only failure is InputError."""

    def __init__(self, path: Path, source: BinaryIO, owned: list, kind: str, max_bytes: int, truncate: bool):
        self.path, self.source, self.owned, self.kind = path, source, owned, kind
        self.left, self.max_bytes, self.truncate = max_bytes, max_bytes, truncate

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            count = self.source.readinto(memoryview(buffer)[: self.left + 1])
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            problem = f"corrupt or truncated .{self.kind} file" if self.kind else "cannot read the trace"
            raise InputError(f"{problem}: {error}", file=self.path) from error
        if count > self.left:
            if not self.truncate:
                raise InputError(
                    f"the file holds more than {self.max_bytes} bytes",
                    file=self.path,
                    expected="the option max_bytes to allow more",
                )
            count = self.left
        self.left -= count
        return count

    def close(self) -> None:
        if not self.closed:
            for source in self.owned:
                source.close()
        super().close()
