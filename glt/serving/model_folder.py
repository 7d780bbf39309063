"""The folder of a registered model: an MLflow model that holds data only, and what must be true before it is loaded.

::

    MLmodel  conda.yaml  python_env.yaml  requirements.txt      written by MLflow
    input_example.json  serving_input_example.json              a generated clip, and the request that sends it
    model_card.md                                               what the model is for, its scores and limits
    wheels/glt-0.1.0+<code>-py3-none-any.whl                     glt, named in requirements.txt with its hash
    data/classifier/                                            a ``classifier`` artifact
    model.sig                                                   the signature of all others, if a key signed them

MLflow adds `registered_model_meta` to folders that it downloads.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from glt import artifact
from glt.artifact import MANIFEST
from glt.errors import GltError, first_line
from glt.training.classifier_files import FILES

LOADER = "glt.serving.pyfunc"
MLMODEL, SIGNATURE, META = "MLmodel", "model.sig", "registered_model_meta"
UNSIGNED = frozenset({SIGNATURE, META})  # files at the top that no digest covers
DO_NOT_USE = "do not use it: run glt rollback, and find out who changed the artifact store or the registry"
EXAMPLE, REQUEST, CARD = "input_example.json", "serving_input_example.json", "model_card.md"
_AT_TOP = frozenset({MLMODEL, "conda.yaml", "python_env.yaml", "requirements.txt", EXAMPLE, REQUEST, CARD})
WHEELS = "wheels"
_WHEEL = re.compile(rf"{WHEELS}/glt-[0-9][0-9a-z.+]*-py3-none-any\.whl")
_FLAVOUR = {"code", "data", "env", "loader_module", "python_version", "streamable"}
_LONGEST = 1 << 20  # bytes of MLmodel


def file_digests(folder: Path, model: str) -> dict[str, str]:
    """SHA-256 of each file of a model's folder but `UNSIGNED`, by its path in the folder.

    Args:
        folder: the model's folder.
        model: name of the model, for messages.

    Raises:
        GltError: there is a link, or something that is neither a file nor a folder.
    """
    files = {file.relative_to(folder).as_posix(): file for file in walk(folder, model)}
    return {name: artifact.file_sha256(file) for name, file in sorted(files.items()) if name not in UNSIGNED}


def check_names(names: Iterable[str], model: str) -> None:
    """Check that files at these paths are all that a model has.

    Raises:
        GltError: one does not belong to a model, such as code.
    """
    for name in names:
        parts = PurePosixPath(name).parts
        if name in _AT_TOP or _WHEEL.fullmatch(name):
            continue
        if not (len(parts) == 3 and parts[0] == "data" and parts[2] in FILES | {MANIFEST}):
            raise GltError(f"{model}: {name}: does not belong to a model of ours; {DO_NOT_USE}")


def walk(folder: Path, model: str) -> list[Path]:
    """The files below a folder.

    Raises:
        GltError: there is a link, or something that is neither a file nor a folder.
    """
    files = []
    for root, folders, names in os.walk(folder):
        for path in (Path(root) / name for name in (*folders, *names)):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                files.append(path)
            elif not stat.S_ISDIR(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
                raise GltError(f"{model}: {path.relative_to(folder).as_posix()}: {kind}; {DO_NOT_USE}")
    return files


def compare(found: Mapping[str, str], registered: Mapping[str, str], model: str) -> None:
    """Compare the digests of a model's files with those that were registered.

    Raises:
        GltError: names the first file that is missing, changed, or was not registered.
    """
    for name in sorted(found.keys() | registered.keys()):
        if name not in registered:
            problem = "was not registered"
        elif name not in found:
            problem = "missing"
        elif found[name] != registered[name]:
            problem = "not as it was registered"
        else:
            continue
        raise GltError(f"{model}: {name}: {problem}; {DO_NOT_USE}")


def check_mlmodel(folder: Path, model: str, model_id: str = "", registered_model: str = "") -> Path:
    """Check that MLflow, given this folder, calls our loader with our data, and imports nothing else.

    Args:
        folder: the model's folder.
        model: name of the model, for messages.
        model_id: MLflow's id of the logged model that it must be; any if not given.
        registered_model: name of the registered model that it must be; any if not given.

    Returns:
        The folder of the classifier.

    Raises:
        GltError: MLmodel cannot be read, or names something else.
    """

    def refuse(problem: str) -> GltError:
        return GltError(f"{model}: {MLMODEL}: {problem}; {DO_NOT_USE}")

    try:
        content = yaml.safe_load(artifact.read_bytes(folder / MLMODEL, _LONGEST))
        flavours, metadata = content["flavors"], content.get("metadata") or {}
        flavour: dict[str, Any] = flavours["python_function"]
        data, loader = PurePosixPath(flavour["data"]), flavour["loader_module"]
        known = flavour.keys() <= _FLAVOUR and flavours.keys() == {"python_function"}
    except Exception as error:  # yaml raises its own; a value of another type AttributeError, TypeError or KeyError
        raise refuse(f"cannot be read as a model's ({first_line(error)})") from error
    if loader != LOADER:
        raise refuse(f"its loader module is {_shown(loader)}, not {LOADER}")
    if flavour.get("code"):
        raise refuse(f"it adds {_shown(flavour['code'])} to the path of Python")
    if not known or len(data.parts) != 2 or data.parts[0] != "data" or data.parts[1] == "..":
        raise refuse("it asks MLflow for more than our loader needs")
    if model_id and content.get("model_id") != model_id:
        raise refuse(f"it is that of the logged model {content.get('model_id')!r:.80}, not of {model_id}")
    if registered_model and metadata.get("registered_model") != registered_model:
        raise refuse(f"it was registered as {metadata.get('registered_model')!r:.80}, not as {registered_model}")
    return folder / data


def _shown(value: object) -> str:
    """A value of MLmodel for a message; nested ones may be endless, because of aliases."""
    return repr(value[:80]) if isinstance(value, str) else f"a {type(value).__name__}"
