"""Signatures of models in the format of OpenSSF model-signing, by keys of our own; nothing is asked of the network.

A signature is a Sigstore bundle around an in-toto statement: the SHA-256 of every file, signed with ECDSA.
`model_signing verify key` reads it, too.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from glt.artifact import read_bytes
from glt.errors import GltError, first_line
from glt.serving.keys import Key, signing_key, verifying_keys
from glt.serving.model_folder import DO_NOT_USE, SIGNATURE, UNSIGNED
from glt.settings import SIGNING_KEY, VERIFYING_KEYS

if TYPE_CHECKING:
    from model_signing.hashing import Config

_LONGEST = 1 << 20  # bytes of a signature; one of ten files has 3 KB
_NAMES = re.compile(r"(?:Hash mismatch for \\?'|(?:Extra files found|Missing files) in model \\?'[^']*': )([^',\"\\]+)")
_AGAIN = (
    f"do not use it unless you know why; then register it again with {SIGNING_KEY} set, or sign it as it is: "
    f"{VERIFYING_KEYS}= glt sign"
)


def sign(folder: Path) -> Key | None:
    """Sign the files of a model's folder with the key in GLT_SIGNING_KEY; the signature goes to `model.sig` in it.

    Returns:
        The key; None, and nothing is written, if none is set.

    Raises:
        GltError: the key cannot be used.
    """
    key = signing_key()
    if key is None:
        return None
    from model_signing import signing

    with _file(key.pem) as private:
        signer = signing.Config()  # type: ignore[no-untyped-call]
        signer.use_elliptic_key_signer(private_key=private).set_hashing_config(_hashing())
        signer.sign(folder, folder / SIGNATURE)
    return key


def verify(folder: Path, model: str, version: str = "NAME/VERSION") -> None:
    """Verify that one of the keys in GLT_VERIFYING_KEYS signed every file of a model's folder; nothing without keys.

    Args:
        folder: the model's folder.
        model: name of the model, for messages.
        version: the argument of `glt sign` for it, for messages.

    Raises:
        GltError: there is no signature, it is by another key, or of other files.
    """
    keys = verifying_keys()
    if not keys:
        return
    file = folder / SIGNATURE
    try:
        read_bytes(file, _LONGEST)
    except FileNotFoundError:
        raise GltError(f"{model}: {SIGNATURE}: missing, so it is not signed; {_AGAIN} {version}") from None
    except (OSError, ValueError) as error:
        raise GltError(f"{model}: {SIGNATURE}: cannot be read ({first_line(error)}); {_AGAIN} {version}") from error
    if not any(_is_signed_by(key, folder, file, model) for key in keys):
        known = ", ".join(key.short_id for key in keys)
        remedy = f"if you trust its signer, add the signer's public key there, else {DO_NOT_USE}"
        raise GltError(f"{model}: {SIGNATURE}: by none of the keys in {VERIFYING_KEYS} ({known}); {remedy}")


def _is_signed_by(key: Key, folder: Path, file: Path, model: str) -> bool:
    """True if the signature is by the key, and of these files; False if it is by another key.

    Raises:
        GltError: it is damaged, or by the key but of other files.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    with _file(key.pem) as public, contextlib.redirect_stdout(io.StringIO()):  # it prints a warning of old formats
        verifier = verifying.Config()  # type: ignore[no-untyped-call]
        verifier.use_elliptic_key_verifier(public_key=public).set_hashing_config(_hashing())
        try:
            verifier.verify(folder, file)
        except InvalidSignature as error:
            problem = f"its signature is not by the key that it names ({key.short_id})"
            raise GltError(f"{model}: {SIGNATURE}: {problem}; {DO_NOT_USE}") from error
        except Exception as error:  # ValueError for three reasons, and what its parsers raise
            if "Key mismatch" in str(error):
                return False
            if "Signature mismatch" in str(error):
                names = ", ".join(sorted(set(_NAMES.findall(str(error))))[:3])
                problem = f"not of these files ({names or first_line(error)})"
            else:
                problem = f"damaged ({first_line(error)})"
            raise GltError(f"{model}: {SIGNATURE}: {problem}; {DO_NOT_USE}") from error
    return True


def _hashing() -> Config:
    from model_signing import hashing

    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=sorted(UNSIGNED), ignore_git_paths=False)


@contextmanager
def _file(pem: bytes) -> Iterator[Path]:
    """A key as the file that model-signing takes, which only this user can read."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "key.pem"
        file.touch(0o600)
        file.write_bytes(pem)
        yield file
