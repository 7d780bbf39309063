"""The keys that sign and verify models: elliptic-curve keys in PEM files, as OpenSSF model-signing takes them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from glt import settings
from glt.artifact import check_parents, read_bytes
from glt.errors import GltError, first_line

_BEGIN = "-----BEGIN"
PRIVATE, PUBLIC = "signing.pem", "verifying.pem"
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # of model-signing
_LONGEST = 1 << 20  # bytes of a file of keys
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)
_NEW = "make a pair: glt new-key FOLDER"


@dataclass(frozen=True)
class Key:
    """A key in PEM.

    Attributes:
        id: hex SHA-256 of the public key's PEM, which model-signing writes into a signature as its hint.
        pem: the private or the public key.
        file: that it was read from; None if a variable holds it.
    """

    id: str
    pem: bytes
    file: Path | None

    @property
    def short_id(self) -> str:
        """The first twelve digits of `id`, for people."""
        return self.id[:12]


def new_keys(folder: Path) -> tuple[Path, Path, Key]:
    """Write a new pair of P-256 keys into a folder: the private key, which only its owner can read, and the public one.

    Returns:
        The files of the private and the public key, and the public key.

    Raises:
        GltError: the folder holds anything already, is the working directory, or cannot be written.
    """
    check_parents(folder / PRIVATE)
    if folder.resolve() == Path.cwd():
        raise GltError(f"{folder}: the working directory, whose files may be shared; give a folder of their own")
    private, public = folder / PRIVATE, folder / PUBLIC
    for file in (private, public):
        if os.path.lexists(file):
            raise GltError(f"{file}: exists, and keys are never overwritten; give another folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise GltError(f"{folder}: holds other files; give a new folder, for keys alone")
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(private, _private_pem(key), 0o600)
        _write(public, _public_pem(key.public_key()), 0o644)
    except OSError as error:
        raise GltError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error
    return private, public, _key(key.public_key(), _public_pem(key.public_key()), public)


def signing_key() -> Key | None:
    """The private key that GLT_SIGNING_KEY names or holds; None if it is not set.

    Raises:
        GltError: it is no private elliptic-curve key without a password.
    """
    value = settings.signing_key()
    if not value:
        return None
    ((place, file, content),) = _contents(value, settings.SIGNING_KEY)
    try:
        key = serialization.load_pem_private_key(content, None)
    except Exception as error:  # cryptography raises ValueError, TypeError and its own
        raise GltError(f"{place}: no private key in PEM without a password ({first_line(error)}); {_NEW}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise GltError(f"{place}: no elliptic-curve key on P-256, P-384 or P-521; {_NEW}")
    return _key(key.public_key(), _private_pem(key), file)


def verifying_keys() -> list[Key]:
    """The public keys that GLT_VERIFYING_KEYS names or holds; none if it is not set.

    Raises:
        GltError: there is no such file, it has no key, or something other than public elliptic-curve keys.
    """
    contents = _contents(settings.verifying_keys(), settings.VERIFYING_KEYS)
    return [key for place, file, content in contents for key in _public(place, file, content)]


def _public(place: str, file: Path | None, content: bytes) -> Iterator[Key]:
    blocks = list(_PEM.finditer(content))
    if not blocks:
        raise GltError(f"{place}: holds no key in PEM; {settings.VERIFYING_KEYS} names public keys ({PUBLIC})")
    for block in blocks:
        if b"PRIVATE" in block[1]:
            raise GltError(f"{place}: a private key; move it away: {settings.VERIFYING_KEYS} names public keys alone")
        try:
            key = serialization.load_pem_public_key(block[0])
        except Exception as error:
            raise GltError(f"{place}: no public key in PEM ({first_line(error)}); {_NEW}") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
            raise GltError(f"{place}: no elliptic-curve key on P-256, P-384 or P-521; {_NEW}")
        yield _key(key, _public_pem(key), file)


def _contents(value: str, variable: str) -> list[tuple[str, Path | None, bytes]]:
    """Place for messages, file, and content of each file that a variable names, or of the text that it holds."""
    if not value:
        return []
    if _BEGIN in value:
        return [(variable, None, value[value.index(_BEGIN) :].encode())]
    # It may be the key, in some other form. `Path.is_file` raises if a name is too long.
    if variable == settings.SIGNING_KEY and not os.path.isfile(value):  # noqa: PTH113
        problem = "neither a file that exists nor a private key in PEM; its value is not shown here"
        raise GltError(f"{variable}: {problem}; {_NEW}, or correct the variable")
    path = Path(value)
    visible = (file for file in path.glob("*.pem") if not file.name.startswith("."))
    files = sorted(visible) if path.is_dir() and variable == settings.VERIFYING_KEYS else [path]
    if not files:
        raise GltError(f"{variable}: {path} holds no *.pem file; {_NEW}, or unset the variable")
    try:
        return [(f"{variable} ({file})", file, read_bytes(file, _LONGEST)) for file in files]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise GltError(f"{variable}: {path} cannot be read ({reason}); {_NEW}, or correct the variable") from error


def _key(public: ec.EllipticCurvePublicKey, pem: bytes, file: Path | None) -> Key:
    return Key(hashlib.sha256(_public_pem(public)).hexdigest(), pem, file)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)


def _public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist, with these permissions from its first instant on."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(handle)
