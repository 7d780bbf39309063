"""A wheel of glt as it runs here, for models that are loaded where glt is not installed.

It is made of the installed package, since an image holds no source tree. The same code gives the same bytes: files in
order, without compression (whose result depends on the zlib at hand) and without times.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import glt
from glt import artifact
from glt.errors import GltError
from glt.lifecycle.code_version import SUFFIXES, current_code_version

_NOT_IN_VERSIONS = re.compile(r"[^a-z0-9]+")  # what may not follow the + of a version (PEP 440)
_TYPED = "py.typed"


def write_wheel(folder: Path) -> str:
    """Write the wheel into a folder, which is created.

    Returns:
        Its requirement: name, path relative to the folder above, and SHA-256, as pip and uv take it.

    Raises:
        GltError: glt is not installed, so its dependencies are not known.
    """
    version, files = _version(), _files()
    name = f"glt-{version}-py3-none-any.whl"
    info = f"glt-{version}.dist-info"
    files |= {f"{info}/{file}": content for file, content in _metadata(version).items()}
    record = [f"{file},sha256={_digest(content)},{len(content)}" for file, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as wheel:
        for file, content in files.items():
            entry = zipfile.ZipInfo(file)  # 1980
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, wherever it is written
            wheel.writestr(entry, content)
    return f"glt @ file:{folder.name}/{name}#sha256={artifact.file_sha256(folder / name)}"


def _version() -> str:
    """The version of the distribution with the code version behind the +, so that two codes have two versions."""
    code = _NOT_IN_VERSIONS.sub(".", current_code_version().lower())[:60].strip(".")
    base = _distribution().version.partition("+")[0]
    return f"{base}+{code}" if code else base


def _files() -> dict[str, bytes]:
    """The files of the package by their path in the wheel, in order."""
    package = Path(glt.__file__).parent
    found = (
        file
        for file in package.rglob("*")
        if file.is_file() and (file.suffix in SUFFIXES or file.name == _TYPED) and "__pycache__" not in file.parts
    )
    return {file.relative_to(package.parent).as_posix(): file.read_bytes() for file in sorted(found)}


def _metadata(version: str) -> Mapping[str, bytes]:
    distribution = _distribution()
    about = re.sub(r"(?m)^Version: .*$", f"Version: {version}", distribution.read_text("METADATA") or "", count=1)
    commands = distribution.read_text("entry_points.txt") or ""
    kind = "Wheel-Version: 1.0\nGenerator: glt\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return {"METADATA": about.encode(), "WHEEL": kind.encode(), "entry_points.txt": commands.encode()}


def _distribution() -> metadata.Distribution:
    """The installed distribution; the `glt.egg-info` that a build leaves in a source tree is none."""
    for found in metadata.distributions(name="glt"):
        if found.read_text("METADATA"):
            return found
    raise GltError("glt is not installed here, so no wheel of it can be made for the model; pip install .")


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
