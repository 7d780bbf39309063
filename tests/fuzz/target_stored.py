"""Target: what glt has stored (manifests, ledgers, caches, weights, verdicts), damaged or replaced by somebody."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st

from tests.fuzz import promises, texts
from tests.fuzz.mutations import mutated
from tests.fuzz.outcome import Broken

_MANIFEST = b'{"files": {"weights": "' + b"0" * 64 + b'"}, "info": {"seed": 1}, "kind": "thing"}\n'
_PIN = b"outs:\n- md5: " + b"a" * 32 + b".dir\n  size: 10\n  nfiles: 2\n  hash: md5\n  path: data\n"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _weights(header: bytes, claimed: int, body: bytes) -> bytes:
    return struct.pack("<Q", claimed % 2**64) + header + body


def _open_manifest(folder: Path) -> None:
    from glt import artifact

    artifact.open_artifact(folder, "thing")
    artifact.files(folder)
    artifact.digest(folder)


def _open_clips(folder: Path) -> None:
    from glt.data.clips import ClipStore

    store = ClipStore(folder)
    for row in range(len(store.index)):
        store.clip(row)


def _open_encoder(folder: Path) -> None:
    from glt.training.encoder import load_encoder

    load_encoder(folder)


def _read_verdict(folder: Path) -> None:
    from glt.lifecycle.gate import Verdict

    Verdict.read(folder / "file")


def _read_pin(folder: Path) -> None:
    from glt.lifecycle import data_pin

    data_pin.parse((folder / "file").read_bytes().decode("utf-8", "replace"), "data.dvc")


def _read_hashes(folder: Path) -> None:
    from glt.data.hashes import FileHashes

    cache = FileHashes(folder / "file")
    cache.of(folder / "file")
    cache.save()


class Stored:
    """A stored file with other content: it is read, or refused by one line."""

    name, seconds, mib, programs, weight = "stored files", 20.0, 700.0, False, 1.5
    _OPENERS: ClassVar[dict[str, tuple[str, Callable[[Path], None]]]] = {
        "manifest": ("manifest.json", _open_manifest),
        "clips": ("manifest.json", _open_clips),
        "encoder": ("config.json", _open_encoder),
        "weights": ("model.safetensors", _open_encoder),
        "verdict": ("file", _read_verdict),
        "pin": ("file", _read_pin),
        "hashes": ("file", _read_hashes),
    }

    def __init__(self) -> None:
        self.made: dict[str, Path] = {}

    def prepare(self) -> None:
        """Make a clip store and an encoder."""
        from glt.data.ingest import ingest
        from glt.model import GLTransformer
        from glt.recipe.sections import ModelConfig
        from glt.reporter import Silent
        from glt.training.encoder import save_encoder
        from tests.data import recorded

        here = Path.cwd() / "made"
        recorded.write_folder(here / "given", recorded.delivery(3))
        ingest(here / "given", recorded.recipe(), here / "clips", {}, Silent(), here / "segments", processes=1)
        small = ModelConfig(max_frames=16, head_dim=2, heads=2, depth=1, dropout=0.0, drop_path=0.0)
        save_encoder(GLTransformer(small, 1, 4, 1), [], here / "encoder", {})
        self.made = {"clips": here / "clips", "encoder": here / "encoder", "weights": here / "encoder"}

    def cases(self) -> Any:
        """The kind of file, the content, and if the manifest is to agree with it."""
        manifest = st.one_of(
            mutated([_MANIFEST]),
            texts.values.map(_json),
            st.builds(
                lambda kind, info, files: _json({"kind": kind, "info": info, "files": files}),
                st.one_of(st.just("thing"), st.just("clips"), texts.values),
                texts.values,
                st.one_of(texts.values, st.dictionaries(texts.texts, texts.values, max_size=3)),
            ),
            st.sampled_from([b"[" * 200_000, b'{"kind": ' * 50_000, b"1" * 5000, b'"' + b"\\ud800" * 10 + b'"']),
        )
        verdict = st.dictionaries(
            st.sampled_from(["passed", "reason", "p_value", "checks", "candidate_top1", "baseline"]),
            texts.values,
            max_size=6,
        ).map(_json)
        weights = st.one_of(
            mutated([_weights(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 54, bytes(4))]),
            st.builds(
                _weights,
                st.one_of(texts.values.map(_json), st.just(b"{" * 1000), st.just(b" " * 200_000)),
                st.sampled_from([0, 8, 54, 2**20, 90 << 20, 2**40, 2**63, -1]),
                st.binary(max_size=20),
            ),
        )
        encoder = st.one_of(
            texts.values.map(_json),
            st.builds(
                lambda name, value: _json(
                    {"model": {"depth": 1} | {name: value}, "persons": 1, "joints": 4, name: value}
                ),
                st.sampled_from(
                    ["max_frames", "head_dim", "heads", "depth", "persons", "joints", "global_tokens", "model"]
                ),
                st.one_of(texts.values, st.sampled_from([10**6, 10**12, -1, 0])),
            ),
        )
        pin = st.one_of(mutated([_PIN]), texts.values.map(_json), texts.values.map(lambda v: _json({"outs": [v]})))
        hashes = st.one_of(
            manifest,
            texts.values.map(lambda v: _json({"algorithm": "sha256", "files": v})),
        )
        return st.one_of(
            st.tuples(st.just("manifest"), manifest, st.just(False)),
            st.tuples(st.just("clips"), manifest, st.just(False)),
            st.tuples(st.just("encoder"), encoder, st.booleans()),
            st.tuples(st.just("weights"), weights, st.booleans()),
            st.tuples(st.just("verdict"), st.one_of(verdict, manifest), st.just(False)),
            st.tuples(st.just("pin"), pin, st.just(False)),
            st.tuples(st.just("hashes"), hashes, st.just(False)),
        )

    def check(self, case: tuple[str, bytes, bool], sandbox: Path) -> None:
        """Open what is stored; where the manifest agrees with the content it is the content that is refused."""
        kind, content, sealed = case
        file, opener = self._OPENERS[kind]
        folder = sandbox / "stored"
        if kind in self.made:
            shutil.copytree(self.made[kind], folder)
        else:
            folder.mkdir()
            (folder / "weights").write_bytes(b"")
        (folder / file).write_bytes(content)
        if sealed:
            from glt import artifact

            (folder / artifact.MANIFEST).unlink()
            artifact.seal(folder, "encoder", {})
        promises.refusal(lambda: opener(folder))
        if not folder.is_dir():
            raise Broken("outside: a damaged folder is deleted by reading it", kind)
