from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from glt.data import clip_table
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.errors import GltError
from glt.reporter import Silent
from tests.data import recorded, stores


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("schema")
    recordings = recorded.write_folder(folder / "in", recorded.delivery())
    ingest(recordings, recorded.recipe(), folder / "clips", {}, Silent(), folder / "segments")
    return ClipStore(folder / "clips").index


def test_an_index_passes_as_it_is(index: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(clip_table.validate(index), index, check_dtype=False)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[("length", 0), ("offset", -1), ("persons", 0), ("subject", -3), ("sha256", "abc"), ("sha256", "g" * 64)],
        *[("name", ""), ("label", ""), ("source", ""), ("splits", "")],
    ],
)
def test_a_value_that_cannot_be_is_named(index: pd.DataFrame, column: str, value: object) -> None:
    broken = index.copy()
    broken.loc[3, column] = value
    with pytest.raises(GltError, match=f"column {column}: .*of clip '{broken['name'][3]}'; correct it"):
        clip_table.validate(broken)


def test_a_name_twice_is_named(index: pd.DataFrame) -> None:
    broken = index.copy()
    broken.loc[3, "name"] = broken["name"][2]
    with pytest.raises(GltError, match=r"column name: .*uplicate"):
        clip_table.validate(broken)


@pytest.mark.parametrize("column", ["name", "length", "sha256", "label"])
def test_a_column_that_is_missing_is_named(index: pd.DataFrame, column: str) -> None:
    with pytest.raises(GltError, match=column):
        clip_table.validate(index.drop(columns=column))


def test_a_segment_has_the_declared_columns_and_types(index: pd.DataFrame, tmp_path: Path) -> None:
    complete = replace(stores.recordings(1)[0], setup=1, replication=2, splits=("train",), warnings=("w",))
    clips = stores.store(tmp_path / "clips", [complete])
    stored = pq.read_table(clips.path / "segments" / "one" / "clips.parquet")
    assert stored.schema.remove_metadata() == clip_table.ARROW
    assert [stored.column(name).null_count for name in clip_table.NAMES] == [0] * len(clip_table.NAMES)
    assert list(index.columns) == ["name", "segment", *clip_table.NAMES[1:]]


def test_the_documentation_lists_the_columns() -> None:
    rows = [
        f"| `{column.name}` | {column.kind}{'' if column.required else ', or none'} | {column.meaning} |"
        for column in clip_table.COLUMNS
    ]
    table = "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])
    assert table in (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
