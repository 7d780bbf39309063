"""Artifact folders: atomic writes, manifests, verification.

A folder that a step makes (clips, motions, encoder, classifier, ...) is complete or absent: it is written as a draft
beside its target, with ``manifest.json`` last, and then renamed to the target or exchanged with the folder there. The
manifest names the kind of artifact, its inputs, and the SHA-256 of every file.
"""

from glt.artifact.drafts import Draft, delete, draft, reserve, sweep
from glt.artifact.files import (
    file_sha256,
    json_bytes,
    link,
    parse_json,
    read_bytes,
    read_json,
    reading,
    write_bytes,
    write_json,
)
from glt.artifact.folders import (
    check_parents,
    check_replaceable,
    copy,
    create,
    digest,
    files,
    open_artifact,
    real_path,
)
from glt.artifact.manifest import MANIFEST, Manifest, read_manifest, seal

__all__ = [
    "MANIFEST",
    "Draft",
    "Manifest",
    "check_parents",
    "check_replaceable",
    "copy",
    "create",
    "delete",
    "digest",
    "draft",
    "file_sha256",
    "files",
    "json_bytes",
    "link",
    "open_artifact",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_manifest",
    "reading",
    "real_path",
    "reserve",
    "seal",
    "sweep",
    "write_bytes",
    "write_json",
]
