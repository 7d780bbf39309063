from __future__ import annotations

import pandas as pd
import pytest

from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.schema import checked_index
from glt.errors import GltError
from glt.reporter import Silent
from tests.data import recorded


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("schema")
    recordings = recorded.write_folder(folder / "in", recorded.delivery())
    ingest(recordings, recorded.recipe(), folder / "clips", {}, Silent(), folder / "segments")
    return ClipStore(folder / "clips").index


def test_an_index_passes_as_it_is(index: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(checked_index(index), index, check_dtype=False)


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
    with pytest.raises(GltError, match=f"column {column}: .*of clip '{broken['name'][3]}'; mend it"):
        checked_index(broken)


def test_a_name_twice_is_named(index: pd.DataFrame) -> None:
    broken = index.copy()
    broken.loc[3, "name"] = broken["name"][2]
    with pytest.raises(GltError, match=r"column name: .*uplicate"):
        checked_index(broken)


@pytest.mark.parametrize("column", ["name", "length", "sha256", "label"])
def test_a_column_that_is_missing_is_named(index: pd.DataFrame, column: str) -> None:
    with pytest.raises(GltError, match=column):
        checked_index(index.drop(columns=column))
