"""Targets: recipes, studies, layouts, and text from outside."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import yaml
from hypothesis import strategies as st

from glt import recipe, text
from glt.data.skeleton_yaml import parse_skeleton
from glt.recipe import study
from tests.fuzz import promises, recordings, texts
from tests.fuzz.mutations import mutated
from tests.fuzz.outcome import ROOT, Broken

_RECIPES = {path.stem: path.read_bytes() for path in sorted((ROOT / "glt" / "recipes").glob("*.yaml"))}
_STUDIES = [path.read_bytes() for path in sorted((ROOT / "glt" / "studies").glob("*.yaml"))]
_FIELDS = sorted(recipe.recipe.flat(recipe.load("sample").model_dump()))


def _changed(changes: dict[str, Any], base: str) -> bytes:
    fields: dict[str, Any] = yaml.safe_load(_RECIPES[base])
    for name, value in changes.items():
        section, _, field = name.rpartition(".")
        inner = fields
        for part in filter(None, section.split(".")):
            inner[part] = inner[part] if isinstance(inner.get(part), dict) else {}
            inner = inner[part]
        inner[field] = value
    return yaml.dump(fields).encode("utf-8", "surrogatepass")


_BOMBS = (
    b"[" * 5000,
    b"{a: " * 3000,
    b"a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nname: [*b, *b, *b]\n",
    b"a: &a\n  b: *a\n",
    b"name: sample\nname: other\n",
    b"extends: sample\nextends: sbu\n",
    b"extends: [sample]\n",
    b"<<: {name: x}\n",
    b"? [a]\n: b\n",
    b"name: !!python/object/apply:os.system ['true']\n",
    b"seed: 0x" + b"F" * 5000,
    b"seed: " + b"9" * 5000,
    b"name: 2001-99-99\n",
    b"seed: 1_0:59:59\n",
    b"\xff\xfen\x00:\x00",
    b"--- a\n--- b\n",
    b"%YAML 9.9\n---\na: b\n",
)
yamls = st.one_of(
    mutated(list(_RECIPES.values())),
    st.builds(
        _changed,
        st.dictionaries(st.sampled_from(_FIELDS), texts.values, min_size=1, max_size=3),
        st.sampled_from(["sample", "sbu"]),
    ),
    st.builds(_changed, st.dictionaries(texts.texts.filter(bool), texts.values, max_size=2), st.just("sample")),
    st.sampled_from(_BOMBS),
    texts.values.map(lambda value: yaml.dump(value).encode("utf-8", "surrogatepass")),
)


class Recipes:
    """A recipe as text and as a file: it is a recipe, or one line names the field."""

    name, seconds, mib, programs, weight = "recipes", 10.0, 500.0, False, 1.5

    def prepare(self) -> None:
        """Nothing to import."""

    def cases(self) -> Any:
        """The way, and YAML."""
        return st.tuples(st.sampled_from(["text", "file", "name"]), yamls)

    def check(self, case: tuple[str, bytes], sandbox: Path) -> None:
        """What loads, loads again from its own text, and its names can name a model."""
        way, content = case
        if way == "file":
            path = sandbox / "mine.yaml"
            path.write_bytes(content)
            given = str(path)
        else:
            given = content.decode("utf-8", "replace") + ("\n" if way == "text" else "")
        made, _ = promises.refusal(lambda: recipe.load(given))
        if made is None:
            return
        if recipe.load(made.to_json() + "\n") != made:
            raise Broken("a recipe is not equal to its own text", made.to_json()[:200])
        promises.stored(made.model_name, "model's name")
        for name, value in recipe.recipe.flat(made.model_dump(mode="json")).items():
            json.dumps(value).encode()
            if isinstance(value, str) and name != "data.layout":
                promises.stored(value, name)


class Studies:
    """A study's YAML."""

    name, seconds, mib, programs, weight = "studies", 10.0, 500.0, False, 0.7

    def prepare(self) -> None:
        """Nothing to import."""

    def cases(self) -> Any:
        """YAML."""
        fields = st.dictionaries(
            st.sampled_from(["name", "recipe", "changes", "seeds", "arms", "tables", "other"]),
            st.one_of(
                texts.values, st.dictionaries(texts.texts, st.dictionaries(st.sampled_from(_FIELDS), texts.values))
            ),
            max_size=2,
        )
        valid = yaml.safe_load(_STUDIES[-1])
        built = fields.map(lambda changes: yaml.dump(valid | changes).encode("utf-8", "surrogatepass"))
        return st.one_of(mutated(_STUDIES), built, st.sampled_from(_BOMBS))

    def check(self, case: bytes, sandbox: Path) -> None:
        """A study gives its recipes, or one line."""
        (sandbox / "study.yaml").write_bytes(case)
        made, _ = promises.refusal(lambda: study.load(str(sandbox / "study.yaml")))
        if made is not None and len(made.arms) * len(made.seeds) < 100:
            promises.refusal(made.recipes)


class Layouts:
    """A skeleton.yaml."""

    name, seconds, mib, programs, weight = "layouts", 10.0, 500.0, False, 0.7

    def prepare(self) -> None:
        """Nothing to import."""

    def cases(self) -> Any:
        """YAML."""
        return st.one_of(recordings.skeletons, st.sampled_from(_BOMBS))

    def check(self, case: bytes, sandbox: Path) -> None:
        """A layout is a tree whose joints mirror each other, or one line says why not."""
        made, _ = promises.refusal(lambda: parse_skeleton(case.decode("utf-8", "replace")))
        if made is None:
            return
        for joint in made.joints:
            promises.stored(joint, "joint")
        mirrored = [joint for pair in made.pairs for joint in pair]
        if len(made.parents) != len(made.joints) or len(set(mirrored)) != len(mirrored) or made.centre in mirrored:
            raise Broken("a layout that no model can use", repr(made)[:300])


class Texts:
    """Any text and bytes through `glt.text`."""

    name, seconds, mib, programs, weight = "text", 10.0, 300.0, False, 0.4

    def prepare(self) -> None:
        """Nothing to import."""

    def cases(self) -> Any:
        """Text and bytes."""
        return st.tuples(texts.texts, st.one_of(st.binary(max_size=40), texts.file_names))

    def check(self, case: tuple[str, bytes], sandbox: Path) -> None:
        """Clean text is NFC, UTF-8, and clean again; the twins are equal; what cannot be decoded can be had back."""
        given, raw = case
        for cleaned in (text.clean(given), text.decode(raw)):
            promises.stored(cleaned, "clean text")
            promises.printed(cleaned)
            if unicodedata.normalize("NFC", cleaned) != cleaned:
                raise Broken("clean text is not NFC", repr(cleaned))
        if text.clean(unicodedata.normalize("NFD", given)) != text.clean(given):
            raise Broken("two forms of one text differ", repr(given))
        shown = text.printable(given)
        promises.printed(shown)
        shown.encode()
        if raw and not any(byte == 0x25 for byte in raw):
            try:
                raw.decode()
            except UnicodeDecodeError:
                twin = unquote_to_bytes(text.decode(raw))
                if unicodedata.normalize("NFC", twin.decode("utf-8", "surrogateescape")) != unicodedata.normalize(
                    "NFC", raw.decode("utf-8", "surrogateescape")
                ):
                    raise Broken("bytes do not come back", f"{raw!r} {twin!r}") from None
        if text.csv_cell(given).startswith(("=", "+", "-", "@")):
            raise Broken("a spreadsheet runs the cell", repr(given))
