"""Keys that sign models: made once, read from files or variables, and never overwritten."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from typer.testing import CliRunner

from glt import cli
from glt.errors import GltError
from glt.serving import keys, signature
from glt.serving.keys import PRIVATE, PUBLIC


@pytest.fixture(autouse=True)
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLT_SIGNING_KEY", "GLT_VERIFYING_KEYS"):
        monkeypatch.delenv(name, raising=False)


def test_the_command_makes_a_pair_that_only_its_owner_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = CliRunner().invoke(cli.app, ["new-key", str(tmp_path / "keys")])
    assert said.exit_code == 0, said.output
    private, public = tmp_path / "keys" / PRIVATE, tmp_path / "keys" / PUBLIC
    assert [stat.S_IMODE(path.stat().st_mode) for path in (private.parent, private)] == [0o700, 0o600]
    lines = [line.removeprefix("export ").partition("#")[0].strip() for line in said.output.splitlines()[1:]]
    exported = dict(line.split("=") for line in lines)
    assert exported == {"GLT_SIGNING_KEY": str(private), "GLT_VERIFYING_KEYS": str(public)}
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    signing, (verifying,) = keys.signing_key(), keys.verifying_keys()
    assert signing is not None
    assert signing.id == verifying.id
    assert verifying.short_id in said.output
    assert b"PRIVATE" not in public.read_bytes()
    before = private.read_bytes()
    again = CliRunner().invoke(cli.app, ["new-key", str(tmp_path / "keys")])
    assert "exists, and keys are never overwritten; give another folder" in str(again.exception)
    monkeypatch.chdir(tmp_path)
    assert "the working directory" in str(CliRunner().invoke(cli.app, ["new-key", "."]).exception)
    assert private.read_bytes() == before


@pytest.mark.parametrize("folder", ["file/x", "x" * 300, "/proc/x", "a\0b"])
def test_a_folder_that_cannot_be_made_is_one_line(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GltError, match=r"give another (path|folder)"):
        keys.new_keys(Path(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_key_may_be_the_variable_s_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Secret gives it to a pod; several public keys are one text."""
    pairs = [keys.new_keys(tmp_path / name) for name in ("one", "two")]
    monkeypatch.setenv("GLT_SIGNING_KEY", pairs[1][0].read_text())
    monkeypatch.setenv("GLT_VERIFYING_KEYS", pairs[0][1].read_text() + pairs[1][1].read_text())
    assert [key.id for key in keys.verifying_keys()] == [pair[2].id for pair in pairs]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("x")
    signed = signature.sign(tmp_path / "model")
    assert signed is not None
    assert signed.id == pairs[1][2].id
    signature.verify(tmp_path / "model", "m v1")


def test_without_keys_nothing_is_signed_or_asked_for(tmp_path: Path) -> None:
    assert signature.sign(tmp_path) is None
    signature.verify(tmp_path, "m v1")
    assert list(tmp_path.iterdir()) == []


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes = b"") -> str:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()


def public_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
K1 = ec.generate_private_key(ec.SECP256K1())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no private key in PEM without a password"),
        (pem(P256, b"secret"), "no private key in PEM without a password"),
        (public_pem(P256), "no private key in PEM without a password"),
        (pem(RSA), "no elliptic-curve key on P-256"),
        (pem(K1), "no elliptic-curve key on P-256"),
        (None, "neither a file that exists nor a private key in PEM"),
    ],
    ids=["empty", "password", "public", "RSA", "another curve", "missing"],
)
def test_an_unusable_signing_key_is_one_line(
    tmp_path: Path, content: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "key.pem").write_text(content)
    monkeypatch.setenv("GLT_SIGNING_KEY", str(tmp_path / "key.pem"))
    with pytest.raises(GltError, match=words) as said:
        keys.signing_key()
    assert str(said.value).startswith("GLT_SIGNING_KEY")
    assert "glt new-key FOLDER" in str(said.value)
    assert "secret" not in str(said.value)


BODY = "".join(pem(P256).splitlines()[1:-1])


@pytest.mark.parametrize(
    ("value", "works"),
    [
        (f'"{pem(P256)}"', True),
        (f"\ufeff{pem(P256)}", True),
        (f"# the key of 2026\n{pem(P256)}", True),
        (f"Bag Attributes: none\n{pem(P256)}", True),
        (BODY, False),
        (f"/{BODY}", False),
        (BODY + "=" * 5000, False),
    ],
    ids=["quoted", "BOM", "comment", "bag", "base64", "base64 as a path", "long"],
)
@pytest.mark.fault("the private key in another form than expected", "read, or an error that does not show it")
def test_no_message_shows_a_private_key(value: str, works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_SIGNING_KEY", value)
    if works:
        assert keys.signing_key() is not None
        return
    with pytest.raises(GltError) as said:
        keys.signing_key()
    assert BODY[:20] not in str(said.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no key in PEM"),
        (pem(P256), "a private key; move it away"),
        (public_pem(P256) + pem(P256), "a private key; move it away"),
        (public_pem(RSA), "no elliptic-curve key on P-256"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key in PEM"),
        (None, "cannot be read"),
    ],
    ids=["empty", "private", "both", "RSA", "damaged", "missing"],
)
def test_unusable_public_keys_are_one_line(
    tmp_path: Path, content: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "key.pem").write_text(content)
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(tmp_path / "key.pem"))
    with pytest.raises(GltError, match=words):
        keys.verifying_keys()


def test_a_folder_without_keys_is_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a mount that is missing would switch the verification off."""
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(tmp_path))
    with pytest.raises(GltError, match=r"holds no \*\.pem file"):
        signature.verify(tmp_path, "m v1")


@pytest.mark.fault("new keys in a folder that holds other files", "refused, nothing is written")
def test_keys_get_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "take.npz").write_bytes(b"x")
    with pytest.raises(GltError, match="holds other files; give a new folder"):
        keys.new_keys(tmp_path / "recordings")
    assert [file.name for file in (tmp_path / "recordings").iterdir()] == ["take.npz"]
