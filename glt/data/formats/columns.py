"""Columns of an untrusted Parquet file: read one at a time, after all sizes and types have been checked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from glt.data import limits
from glt.data.recording import Rejection

_METADATA = {"thrift_string_size_limit": 4 << 20, "thrift_container_size_limit": 20_000}


class Columns:
    """Reads the columns of a Parquet file.

    Attributes:
        names: those of the wanted columns that the file has.
    """

    def __init__(self, content: bytes, wanted: Sequence[str]) -> None:
        """Open the file and check its metadata.

        Raises:
            Rejection: not Parquet, more rows or bytes than `limits` allow, or a duplicate column.
        """
        import pyarrow.parquet as pq

        with _readable():
            self._content = content
            self._file = pq.ParquetFile(io.BytesIO(content), **_METADATA)
            schema = self._file.schema_arrow
        self.names = tuple(name for name in wanted if name in schema.names)
        for name in self.names:
            if schema.names.count(name) > 1:
                raise Rejection("format", f"column {name} is given twice")
        self._types = {name: schema.field(name).type for name in self.names}
        metadata = self._file.metadata
        if metadata.num_rows > limits.POINTS:
            raise Rejection("too-large", f"{metadata.num_rows} rows, more than {limits.POINTS}")
        size = 0
        for group in range(metadata.num_row_groups):
            for index in range(metadata.num_columns):
                column = metadata.row_group(group).column(index)
                if column.path_in_schema.partition(".")[0] in self.names:
                    size += column.total_uncompressed_size
        if size > limits.UNPACKED:
            raise Rejection("too-large", f"unpacks to {size} bytes, more than {limits.UNPACKED >> 20} MiB")

    def __enter__(self) -> Self:
        """Close the file on leaving the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def numbers(self, name: str) -> NDArray[Any]:
        """A column of numbers; missing ones are NaN.

        Raises:
            Rejection: not of numbers, or damaged.
        """
        import pyarrow.types as of

        return self._read(name, lambda kind: of.is_integer(kind) or of.is_floating(kind), "numbers")

    def counts(self, name: str, most: int) -> NDArray[np.int32]:
        """A column of whole numbers from 0 to `most`.

        Raises:
            Rejection: it has other values, or is damaged.
        """
        import pyarrow.types as of

        values = self._read(name, of.is_integer, "whole numbers")
        if values.dtype.kind not in "iu" or (values < 0).any() or (values > most).any():
            raise Rejection("format", f"{name}: expected whole numbers from 0 to {most}")
        return values.astype(np.int32)

    def texts(self, name: str, known: Sequence[str], what: str) -> NDArray[np.int32]:
        """A column of texts, as indices into `known`, which messages call `what`.

        Raises:
            Rejection: not of texts, a text that is not in `known`, or damaged.
        """
        import pyarrow.parquet as pq
        import pyarrow.types as of

        kind = self._types[name]
        kind = kind.value_type if of.is_dictionary(kind) else kind
        if not (of.is_string(kind) or of.is_large_string(kind)):
            raise Rejection("format", f"column {name} is of type {kind!s:.40}; expected text")
        index = {text: position for position, text in enumerate(known)}
        parts = [np.zeros(0, np.int32)]
        with _readable():
            # Read as a dictionary, a text that many rows share is stored once.
            file = pq.ParquetFile(io.BytesIO(self._content), read_dictionary=[name], **_METADATA)
            for chunk in file.read(columns=[name], use_threads=False).column(0).chunks:
                if chunk.null_count:
                    raise Rejection("format", f"column {name} is empty in {chunk.null_count} rows")
                indices = chunk.indices.to_numpy()
                positions = np.full(len(chunk.dictionary), -1, np.int32)
                for used in np.unique(indices).tolist():
                    text, fault = limits.stored_text(chunk.dictionary[used].as_py(), f"{name}: a text")
                    if fault or text not in index:
                        raise Rejection("joints", fault or f"{name} {text!r:.40} is not in {what}")
                    positions[used] = index[text]
                parts.append(positions[indices])
        return np.concatenate(parts)

    def _read(self, name: str, fits: Callable[[Any], bool], expected: str) -> NDArray[Any]:
        if not fits(self._types[name]):
            raise Rejection("format", f"column {name} is of type {self._types[name]!s:.40}; expected {expected}")
        with _readable():
            return np.asarray(self._file.read(columns=[name], use_threads=False).column(0).to_numpy())


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Rejection:
        raise
    except Exception as error:  # Arrow's errors share no base with Python's
        raise Rejection("format", f"not a readable Parquet ({type(error).__name__}: {error!s:.80})") from None
