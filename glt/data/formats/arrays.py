"""Arrays from untrusted files: pickles restricted to numpy arrays and plain values, and NPZ files of bounded size."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from glt.data.recording import Rejection

_LARGEST = 256 << 20  # bytes of an unpacked NPZ
_PLAIN = "biufSU"  # kinds of numpy's types that hold no Python objects


def plain_pickle(content: bytes) -> Any:
    """Load a pickle of arrays, numbers, strings, lists, tuples, dicts and sets. No code in it is ever run.

    Raises:
        Rejection: it holds anything else, is damaged, or requests more memory than its bytes can fill.
    """
    try:
        return _Unpickler(content).load()
    except Rejection:
        raise
    except Exception as error:  # damage to a pickle raises almost any error
        raise Rejection("format", f"not a readable pickle ({type(error).__name__}: {error!s:.80})") from None


def npz(content: bytes, most: int = _LARGEST) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ.

    Raises:
        Rejection: damaged, arrays of objects, or more than `most` bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > most:
            raise Rejection("too-large", f"unpacks to {size} bytes, more than {most >> 20} MiB")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Rejection:
        raise
    except Exception as error:  # zip, zlib, numpy's header parser: each raises its own
        raise Rejection("format", f"not a readable NPZ ({type(error).__name__}: {error!s:.80})") from None


class _Unpickler(pickle._Unpickler):
    """Allows only the parts of numpy arrays and scalars, and builds those itself.

    It derives from the unpickler in Python, since in the one in C a few bytes can allocate a table of 64 GB.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._left = 2 * len(content) + (1 << 20)  # bytes that arrays may occupy; the file must contain them

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Callable[..., Any] | type] = {
            ("multiarray", "_reconstruct"): self._empty,
            ("multiarray", "scalar"): self._scalar,
            ("numeric", "_frombuffer"): self._from_buffer,
        }
        package, _, last = module.rpartition(".")
        if package in ("numpy.core", "numpy._core") and (last, name) in allowed:
            return allowed[last, name]
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"  # only an argument of `_reconstruct`; if called it could allocate any amount of memory
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("_codecs", "encode"):  # bytes in pickle protocol 2
            return _encode
        raise Rejection("code", f"the pickle asks for {module}.{name}; only numpy arrays and plain values are read")

    def persistent_load(self, pid: Any) -> Any:
        raise Rejection("code", "the pickle refers to something outside of it")

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Kind)):  # type: ignore[attr-defined]
            raise Rejection("code", "the pickle changes an object that is no array")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build

    def _empty(self, *_: Any) -> _Array:
        return _Array(self._take)

    def _scalar(self, kind: Any, content: Any = None) -> Any:
        kind = _known(kind)
        if not isinstance(content, bytes) or len(content) != kind.itemsize:
            raise Rejection("format", "a numpy scalar without its bytes")
        return np.frombuffer(content, kind)[0]

    def _from_buffer(self, content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
        return self._array(content, _known(kind), shape, "F" if order == "F" else "C")

    def _array(self, content: Any, kind: np.dtype[Any], shape: Any, order: Any) -> NDArray[Any]:
        self._take(kind, shape)
        return np.frombuffer(content, kind).reshape(shape, order=order).copy()

    def _take(self, kind: np.dtype[Any], shape: Any) -> None:
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise Rejection("format", "an array without a shape")
        self._left -= math.prod(shape) * kind.itemsize
        if self._left < 0:
            raise Rejection("too-large", f"an array of shape {shape!s:.60}, more than the file can hold")


class _Array(np.ndarray):
    """An empty array that takes its content from a pickle's state after checking it."""

    _take: Callable[[np.dtype[Any], Any], None]

    def __new__(cls, take: Callable[[np.dtype[Any], Any], None]) -> _Array:
        array = super().__new__(cls, (0,), np.uint8)
        array._take = take
        return array

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        kind = _known(kind)
        self._take(kind, shape)
        if not isinstance(content, bytes):
            raise Rejection("code", "an array of objects; only numbers and texts are read")
        super().__setstate__((1, shape, kind, bool(fortran), content))  # type: ignore[arg-type]


class _Kind:
    """A numpy dtype in a pickle, whose byte order follows as its state."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        _, order, *rest = state
        if any(part is not None for part in rest[:3]):
            raise Rejection("format", "an array of records; only numbers and texts are read")
        self.dtype = self.dtype.newbyteorder(order) if order in "<>" else self.dtype


def _dtype(name: Any, *_: Any) -> _Kind:
    if not isinstance(name, str) or len(name) > 8:
        raise Rejection("format", "not a numpy type")
    return _Kind(np.dtype(name))


def _known(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Kind) or kind.dtype.kind not in _PLAIN:
        raise Rejection("code", "an array of objects; only numbers and texts are read")
    return kind.dtype


def _encode(text: Any, coding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise Rejection("code", "the pickle encodes something that is not bytes")
    return text.encode("latin1")
