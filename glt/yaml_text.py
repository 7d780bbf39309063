"""Reads YAML that people write (recipes, studies, schedules), within bounds; each mistake is one line.

Numbers are those of YAML 1.2: 1e-4 is a number, 010 is ten and 1:30 is text. A key that is given twice is an error.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from glt.errors import GltError, first_line

LARGEST = 256 * 1024  # bytes of a file, characters of a text
DEEPEST = 32  # levels of nested lists and sections
MOST = 20_000  # values, including those that `*alias` repeats
_DIGITS = 40  # of an integer; no field takes more

_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read(path: Path, origin: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; errors name `origin`.

    Raises:
        GltError: it is not a regular text file, cannot be read, or is too large.
    """
    try:
        if not path.exists():
            raise GltError(f"{origin}: no such file; give the path of a YAML file")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            raise GltError(f"{origin}: this is {what}; give the path of a YAML file")
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise GltError(f"{origin}: cannot be read ({reason}); give the path of a YAML file") from error
    if len(content) > LARGEST:
        raise GltError(f"{origin}: larger than {LARGEST // 1024} KiB; this is not a file of settings, give another")
    mark = next((mark for mark in _BOMS if content.startswith(mark)), b"")
    try:
        return content.removeprefix(mark).decode(_BOMS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        raise GltError(f"{origin}: not a text file ({first_line(error)}); save it as UTF-8") from error


def load(text: str, origin: str) -> Any:
    """The value of a YAML or JSON text; errors name `origin`.

    Raises:
        GltError: not YAML, a duplicate key, too large or nested too deeply; names the line.
    """
    if len(text) > LARGEST:
        raise GltError(f"{origin}: larger than {LARGEST // 1024} Ki characters; this is not a text of settings")
    try:
        _check_depth(text, origin)
        value = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = error.problem or error.context or "a mistake"
        if isinstance(error, _Mistake):
            raise GltError(f"{origin}: {line}{problem}") from error
        raise GltError(f"{origin}: not YAML: {line}{problem}; {_remedy(text, error)}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise GltError(f"{origin}: not YAML: {first_line(error)}; correct that character or value") from error
    _count(value, origin, [0], ())
    return value


def _remedy(text: str, error: yaml.MarkedYAMLError) -> str:
    mark, lines = error.problem_mark, text.split("\n")
    if mark and mark.line < len(lines) and lines[mark.line][: mark.column + 1].strip(" ").startswith("\t"):
        return "indent with spaces, not with tabs"
    return "correct that line"


def _check_depth(text: str, origin: str) -> None:
    """Refuse deep nesting, before any recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            depth -= 1
        if depth > DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise GltError(f"{origin}: line {line}: more than {DEEPEST} nested values; remove the nesting")


def _count(value: Any, origin: str, counted: list[int], above: tuple[int, ...]) -> None:
    """Refuse a value that aliases make endless or huge."""
    counted[0] += 1
    if id(value) in above:
        raise GltError(f"{origin}: an alias (*name) contains itself; write the values out")
    if counted[0] > MOST:
        raise GltError(f"{origin}: more than {MOST} values, repeated ones (*name) included; remove some")
    if isinstance(value, (dict, list)):
        inner = (*value, *value.values()) if isinstance(value, dict) else value
        for one in inner:
            _count(one, origin, counted, (*above, id(value)))


_KEPT = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_NUMBER = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


class _Mistake(yaml.constructor.ConstructorError):
    """YAML that is not allowed in settings; its problem ends with the remedy."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's numbers, without duplicate keys or merge keys, which can grow endlessly."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # of the instance, say its stubs
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A section; its keys are names, each once."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _error(key_node, f"the key {str(key)[:50]} is not a name; put it in quotes")
            if key in seen:
                raise _error(key_node, f"the key {key} is given twice; remove one of the two")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """A decimal number."""
        if len(node.value) > _DIGITS:
            raise _error(node, f"a number of {len(node.value)} digits; no field takes it")
        return int(node.value)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A number with a point or an exponent; one that is too large is infinite."""
        return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _error(node: yaml.Node, problem: str) -> _Mistake:
    return _Mistake(None, None, problem, node.start_mark)


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
