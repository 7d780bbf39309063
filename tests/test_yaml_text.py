"""Recipes, studies and schedules as people write them: each mistake is one line, and none costs time or memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt import recipe, yaml_text
from glt.errors import GltError
from glt.recipe import study
from pipelines import cluster

GOOD = "name: mine\ndata: {dataset: mine, format: ntu, protocol: xsub}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def one_line(error: pytest.ExceptionInfo[GltError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 2000
    return text


@pytest.mark.fault(
    "a recipe with a duplicate key, deep nesting, endless aliases or huge numbers",
    "one line, with the line number",
)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "seed: 1\nseed: 2\n", "line 4: the key seed is given twice; remove one"),
        (GOOD + "model: {heads: 1, heads: 2}\n", "line 3: the key heads is given twice"),
        (GOOD + "fractions: " + "[" * 5000 + "]" * 5000 + "\n", "line 3: more than 32 nested values"),
        (GOOD + "seed: " + "9" * 401 + "\n", "line 3: a number of 401 digits"),
        (GOOD + "seed: '" + "9" * 5000 + "'\n", "seed: .*integer"),
        (GOOD + "pretrain: {lr: 1e400}\n", "pretrain.lr: .*finite"),
        (GOOD + "pretrain: {lr: -.inf}\n", "pretrain.lr: .*finite"),
        (BOMB + GOOD, "more than 20000 values"),
        (GOOD + "model: &a {heads: *a}\n", "contains itself|undefined alias"),
        ("a: &a [*a]\n", "contains itself"),
        (GOOD + "model:\n\theads: 2\n", "line 4: .*indent with spaces"),
        (GOOD + "1: 2\n", "line 3: the key 1 is not a name; put it in quotes"),
        (GOOD + "? [1]\n: 2\n", "is not a name"),
        (GOOD + "seed: !!python/object/apply:os.system [ls]\n", "line 3: could not determine a constructor"),
        (GOOD + "seed: 2024-99-99\n", "seed: .*integer"),
        (GOOD + "seed: 1:30\n", "seed: .*integer"),
        (GOOD + '"a\\nb": 1\n', "a%0Ab: unknown key"),
        (GOOD + 'arm: "\\ud800"\n', "arm: "),
        (GOOD + "x: \x07\n", "special characters are not allowed"),
        (GOOD + "---\na: 1\n", "another document"),
        ("", "expected `key: value` lines"),
    ],
)
def test_a_recipe_that_is_no_settings_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(GltError, match=f"^recipe {file}: .*({words})") as error:
        recipe.load(str(file))
    one_line(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "not a text file"),
        (GOOD.encode("utf-16-le"), "not YAML"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"a" * 300_000, "larger than 256 KiB"),
    ],
)
def test_a_file_that_is_no_text_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    for load, what in ((recipe.load, "recipe"), (study.load, "study")):
        with pytest.raises(GltError, match=f"^{what} {file}: .*{words}") as error:
            load(str(file))
        one_line(error)
    with pytest.raises(GltError, match=f"^schedules {file}: .*{words}") as error:
        cluster.read_schedules(file)
    one_line(error)


@pytest.mark.fault("a folder, a pipe or a device given as the recipe", "refused in one line, without reading it")
def test_what_is_no_file_is_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, words in (
        ("pipe.yaml", "not a regular file; give the path"),
        ("folder.yaml", "a folder; give the path"),
        ("zero.yaml", "not a regular file"),
        ("loop.yaml", "no such file|cannot be read"),
        ("none\0.yaml", "no such file|cannot be read"),
        (f"{'x' * 300}.yaml", "cannot be read"),
    ):
        with pytest.raises(GltError, match=words) as error:
            recipe.load(str(tmp_path / name))
        one_line(error)


def test_marks_of_an_encoding_are_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.YAML"
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_text(GOOD, encoding=encoding)
        assert recipe.load(str(file)).name == "mine"


def test_numbers_are_those_that_people_mean() -> None:
    assert yaml_text.load("[1e-4, 010, 1:30, 0x10, 1_000, .5, -3, 2024-01-01, yes, ~]", "here") == [
        *(1e-4, 10, "1:30", "0x10", "1_000", 0.5, -3, "2024-01-01", True, None)
    ]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text("[]{}&*:-,?!|>'\"#%@` \n\tab01.", max_size=200))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    with contextlib.suppress(GltError):
        yaml_text.load(text, "here")
