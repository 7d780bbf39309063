from __future__ import annotations

import unicodedata
import zipfile
from pathlib import Path

import pytest

from glt.data import label_account
from glt.data.formats import FORMATS
from glt.data.label_account import LabelAccount
from glt.data.listing import Names, list_recordings

FORMAT = FORMATS["table"]


def count(folder: Path, files: dict[str, str]) -> LabelAccount | None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    listing = list_recordings(folder, Names(FORMAT.suffixes, FORMAT.sidecars))
    return label_account.match([*listing.batches, *listing.unused])


def test_all_rows_and_files_match(tmp_path: Path) -> None:
    account = count(tmp_path, {"labels.csv": "name,label\na,x\nsub/b.npz,y\n", "a.npz": "", "sub/b.npz": ""})
    assert account == LabelAccount(2, 0, 2, 0)
    assert account.text == ""
    assert label_account.findings(account.to_dict()) == []


@pytest.mark.fault(
    "rows of labels.csv without a file, files without a row", "counted on the console and in the data report"
)
def test_rows_without_a_file_and_files_without_a_row_are_counted(tmp_path: Path) -> None:
    files = {"labels.csv": "name,label\na,x\nc,y\nd,z\n", "a.npz": "", "b.npz": ""}
    account = count(tmp_path, files)
    assert account == LabelAccount(3, 2, 2, 1, ("labels.csv line 3: c", "labels.csv line 4: d"), ("b.npz",))
    (finding,) = label_account.findings(account.to_dict())
    assert (finding.check, finding.severity) == (label_account.CHECK, "warning")
    assert "2 of 3 rows match no file (e.g. labels.csv line 3: c); " in finding.text
    assert "; 1 of 2 files have no row (e.g. b.npz)" in finding.text
    (note,) = label_account.findings(LabelAccount(1, 0, 2, 1, (), ("b.npz",)).to_dict())
    assert note.severity == "note"


@pytest.mark.parametrize(
    "files",
    [
        {"labels.csv": "name,label\nx,1\n", "a.npz": ""},
        {"elsewhere/labels.csv": "name,label\na,1\n", "a.npz": ""},
    ],
    ids=["names", "folder"],
)
@pytest.mark.fault("labels.csv whose rows all match no file", "an alarm")
def test_no_match_at_all_is_an_alarm(files: dict[str, str], tmp_path: Path) -> None:
    account = count(tmp_path, files)
    assert account is not None
    (finding,) = label_account.findings(account.to_dict())
    assert finding.severity == "alarm"
    assert "none of its row matches a file" in finding.text


def test_the_nearest_table_counts_also_in_archives_and_in_nfc(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("labels.csv", "name,label\na,x\n")
        archive.writestr("day/labels.csv", "name,label\n걷기,y\n")
        archive.writestr(f"day/{unicodedata.normalize('NFD', '걷기')}.npz", "")
        archive.writestr("a.npz", "")
    assert count(tmp_path, {"loose.npz": ""}) == LabelAccount(2, 0, 2, 0)
    assert count(tmp_path, {"day/a.npz": ""}) == LabelAccount(2, 0, 2, 0)


@pytest.mark.fault("labels.csv beside the archive of recordings instead of in it", "an alarm")
def test_a_table_beside_an_archive_is_not_forgotten(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.npz", "")
    account = count(tmp_path, {"labels.csv": "name,label\na,x\n"})
    assert account == LabelAccount(1, 1, 0, 0, ("labels.csv line 2: a",))
    assert label_account.findings(account.to_dict())[0].severity == "alarm"


def test_without_a_table_there_is_no_account(tmp_path: Path) -> None:
    assert count(tmp_path, {"a.npz": ""}) is None
    assert count(tmp_path, {"labels.csv": "no table"}) is None
    assert label_account.findings(None) == []


def test_no_rows_at_all_are_an_alarm(tmp_path: Path) -> None:
    account = count(tmp_path, {"labels.csv": "name,label\n", "a.npz": ""})
    assert account is not None
    (finding,) = label_account.findings(account.to_dict())
    assert finding.severity == "alarm"
    assert "it has no rows" in finding.text
