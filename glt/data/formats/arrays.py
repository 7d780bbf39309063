"""Arrays from untrusted files: pickles restricted to numpy arrays and plain values, and NPZ files of bounded size."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from glt.data import limits
from glt.data.recording import Rejection

_KEY_DEPTH, _KEY_PARTS = 2, 8  # of a tuple as a key: hashing a deep one takes for ever, or crashes the process
_LARGEST_KEY = 2**53  # larger integers can be made to collide
_SETS = 10_000  # in a pickle; an empty one takes a byte of it and 200 of memory
_MEMBERS = 64  # of an NPZ
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
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


def npz(content: bytes, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read the arrays of an NPZ, which may be any of `names`. Headers are checked before anything is unpacked.

    Raises:
        Rejection: damaged, another name, arrays of objects, or more than `limits` allow.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()[:_MEMBERS]
            arrays: dict[str, zipfile.ZipInfo] = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name not in names:
                    raise Rejection("format", f"array {name!r:.40}: expected {', '.join(names)}")
                if name in arrays:
                    raise Rejection("format", f"array {name} is given twice")
                arrays[name] = member
            if sum(member.file_size for member in members) > limits.UNPACKED:
                raise Rejection("too-large", f"unpacks to more than {limits.UNPACKED >> 20} MiB")
            for name, member in arrays.items():
                _check_header(archive, member, name)
            return {name: _read(archive, member) for name, member in arrays.items()}
    except Rejection:
        raise
    except Exception as error:  # zip, zlib, numpy's header parser: each raises its own
        raise Rejection("format", f"not a readable NPZ ({type(error).__name__}: {error!s:.80})") from None


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> None:
    with archive.open(member) as stream:
        try:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
        except (KeyError, ValueError):
            raise Rejection(
                "format", f"array {name} has no header that numpy writes; store it with numpy.savez"
            ) from None
        room = member.file_size - stream.tell()
    if dtype.kind not in _PLAIN:
        raise Rejection("format", f"array {name} is not of numbers")
    if reason := limits.too_large(shape):
        raise Rejection("too-large", f"array {name}: {reason}")
    if math.prod(shape) * dtype.itemsize > room:
        raise Rejection("format", f"array {name} has shape {limits.shown(shape)}, more than the file holds")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


class _Unpickler(pickle._Unpickler):
    """Allows only the parts of numpy arrays and scalars, and builds those itself.

    It derives from the unpickler in Python, since in the one in C a few bytes can allocate a table of 64 GB.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._left = 2 * len(content) + (1 << 20)  # bytes that arrays may occupy; the file must contain them
        self._size, self._sets = len(content), _SETS

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
            return _ordered
        # Pickle protocols 0 to 3 have no operations of their own for some plain values.
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        plain: dict[str, Callable[..., Any]] = {
            **{"bytes": self._bytes, "bytearray": self._bytes, "set": self._set, "frozenset": self._set},
            **{"complex": _complex},
        }
        if module in ("builtins", "__builtin__") and name in plain:
            return plain[name]
        raise Rejection("code", f"the pickle asks for {module}.{name}; only numpy arrays and plain values are read")

    def persistent_load(self, pid: Any) -> Any:
        raise Rejection("code", "the pickle refers to something outside of it")

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Kind)):  # type: ignore[attr-defined]
            raise Rejection("code", "the pickle changes an object that is no array")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        _check_key(self.stack[-2])  # type: ignore[attr-defined]
        super().load_setitem()  # type: ignore[misc]

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        for key in self.stack[::2]:  # type: ignore[attr-defined]
            _check_key(key)
        super().load_setitems()  # type: ignore[misc]

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        for key in self.stack[::2]:  # type: ignore[attr-defined]
            _check_key(key)
        super().load_dict()  # type: ignore[misc]

    dispatch[pickle.DICT[0]] = load_dict

    def load_additems(self) -> None:
        for key in self.stack:  # type: ignore[attr-defined]
            _check_key(key)
        super().load_additems()  # type: ignore[misc]

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        for key in self.stack:  # type: ignore[attr-defined]
            _check_key(key)
        self._count_set()
        super().load_frozenset()  # type: ignore[misc]

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def load_empty_set(self) -> None:
        self._count_set()
        super().load_empty_set()  # type: ignore[misc]

    dispatch[pickle.EMPTY_SET[0]] = load_empty_set

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        if size > self._size:
            raise Rejection("format", "a bytearray larger than the file")
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def _count_set(self) -> None:
        self._sets -= 1
        if self._sets < 0:
            raise Rejection("too-large", f"more than {_SETS} sets")

    def _empty(self, *_: Any) -> _Array:
        return _Array(self._take)

    def _scalar(self, kind: Any, content: Any = None) -> Any:
        kind = _known(kind)
        if not isinstance(content, bytes) or len(content) != kind.itemsize:
            raise Rejection("format", "a numpy scalar without its bytes")
        self._take(kind, (1,))
        return np.frombuffer(content, kind)[0]

    def _from_buffer(self, content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
        return self._array(content, _known(kind), shape, "F" if order == "F" else "C")

    def _array(self, content: Any, kind: np.dtype[Any], shape: Any, order: Any) -> NDArray[Any]:
        self._take(kind, shape)
        return np.frombuffer(content, kind).reshape(shape, order=order).copy()

    def _take(self, kind: np.dtype[Any], shape: Any) -> None:
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise Rejection("format", "an array without a shape")
        size = math.prod(shape) * kind.itemsize
        self._left -= size
        if self._left < 0 or (not size and max(shape, default=0) > limits.FRAMES):
            raise Rejection("too-large", f"an array of shape {limits.shown(shape)}, more than the file can hold")

    def _encode(self, text: Any, coding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
            raise Rejection("code", "the pickle encodes something that is not bytes")
        self._take(np.dtype(np.uint8), (len(text),))
        return text.encode("latin1")

    def _bytes(self, given: Any = "", coding: Any = "latin1") -> bytes:
        return given if isinstance(given, bytes) else self._encode(given, coding)

    def _set(self, given: Any = ()) -> set[Any]:
        if not isinstance(given, (list, tuple)):
            raise Rejection("format", "a set that is not made of a list")
        for key in given:
            _check_key(key)
        self._count_set()
        return set(given)


class _Array(np.ndarray):
    """An empty array that takes its content from a pickle's state after checking it.

    Attributes:
        objects: the values of a one-dimensional array of Python objects; None for an array of numbers or texts.
    """

    _take: Callable[[np.dtype[Any], Any], None]
    objects: list[Any] | None = None

    def __new__(cls, take: Callable[[np.dtype[Any], Any], None]) -> _Array:
        array = super().__new__(cls, (0,), np.uint8)
        array._take = take
        return array

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if isinstance(content, list) and shape == (len(content),):
            self.objects = content
            return
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


def items(value: Any) -> list[Any] | None:
    """The items of a list, a tuple, a set, or a one-dimensional array of texts, numbers or objects; else None."""
    if isinstance(value, _Array) and value.objects is not None:
        return value.objects
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim == 1 and value.dtype.kind in _PLAIN else None
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else None


def _check_key(key: Any, depth: int = _KEY_DEPTH) -> None:
    """Reject a dict's key, or an item of a set, that may take long to hash."""
    if isinstance(key, tuple) and depth and len(key) <= _KEY_PARTS:
        for part in key:
            _check_key(part, depth - 1)
    elif isinstance(key, (int, np.integer)):
        if not -_LARGEST_KEY < key < _LARGEST_KEY:
            raise Rejection("format", "a key that is a huge number")
    elif not isinstance(key, (str, bytes, float, np.floating, type(None))):
        raise Rejection("format", f"a key that is a {type(key).__name__}; expected text or a number")


def _ordered(*arguments: Any) -> OrderedDict[Any, Any]:
    """An OrderedDict, empty or from pairs, the two ways in which pickles make one."""
    pairs = items(arguments[0]) if len(arguments) == 1 else [] if not arguments else None
    if pairs is None or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise Rejection("format", "an OrderedDict that is not made of pairs")
    for key, _ in pairs:
        _check_key(key)
    return OrderedDict(pairs)


def _complex(*parts: Any) -> complex:
    if not all(isinstance(part, float) for part in parts):
        raise Rejection("format", "a complex number that is not made of two numbers")
    return complex(*parts)


def _dtype(name: Any, *_: Any) -> _Kind:
    if not isinstance(name, str) or len(name) > 8:
        raise Rejection("format", "not a numpy type")
    return _Kind(np.dtype(name))


def _known(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Kind) or kind.dtype.kind not in _PLAIN:
        raise Rejection("code", "an array of objects; only numbers and texts are read")
    return kind.dtype
