"""Draws docs/data-report.png: figures of the data report on the sample recordings with two planted faults.

    python -m docs.make.data_picture

A test recording is delivered once more under the name of a training subject, and a recording has a hand that is lost.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from benchmarks.hardware import ROOT
from glt.analysis import data_figures
from glt.analysis.data_report import analyse_clips
from glt.data import sample
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.rejects import read_examples
from glt.recipe import load
from glt.reporter import Silent


def main() -> None:
    """Ingest, look, draw."""
    recipe = load("sample")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _plant(place / "recordings")
        ingest(place / "recordings", recipe, place / "clips", {"data_version": "x"}, Silent(), place / "segments")
        store = ClipStore(place / "clips")
        analysis = analyse_clips(store, recipe, Silent())
        index, skeleton = store.index, store.skeleton
        drawn = []
        row = {name: number for number, name in enumerate(index["name"])}
        first, second = analysis.pairs[["first", "second"]].iloc[0]
        for name, said in (
            (first, f"Alarm: {first} ..."),
            (second, f"... is {second}, in the other split"),
        ):
            drawn.append(_titled(data_figures.strip(*store.clip(row[name]), skeleton), said))
        (segment,) = store.info["segments"]
        lost = read_examples(store.path / "segments" / segment / "rejected")[-1]
        picture = data_figures.strip(lost.frames, lost.present, lost.skeleton, lost.where)
        drawn.append(_titled(picture, f"Rejected: {lost.reason} (ringed, at the middle of the body)"))
        drawn.append(_titled(data_figures.counts(index, "subject"), "Labelled clips by class and subject"))
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in drawn]
    whole = Image.new("RGB", (max(image.width for image in pictures), sum(image.height for image in pictures)), "white")
    at = 0
    for image in pictures:
        whole.paste(image, (0, at))
        at += image.height
    whole.save(ROOT / "docs" / "data-report.png", optimize=True)


def _plant(folder: Path) -> None:
    """The sample recordings as loose files, and two more."""
    folder.mkdir()
    sample.write_sample(folder / sample.ARCHIVE)
    with zipfile.ZipFile(folder / sample.ARCHIVE) as archive:
        archive.extractall(folder)
    (folder / sample.ARCHIVE).unlink()
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.skeleton"))
    tested = next(name for name in names if "P003" in name.name)
    (folder / tested.name.replace("P003", "P001").replace("S001", "S099")).write_bytes((folder / tested).read_bytes())
    lines = (folder / names[0]).read_text().split("\n")
    hands = [number for number, line in enumerate(lines) if len(line.split()) == 12][7::25]  # joint 8: left hand
    for number in hands[12:17]:
        lines[number] = " ".join(["nan", "nan", "nan", *lines[number].split()[3:]])
    (folder / names[0].name.replace("S001", "S098")).write_text("\n".join(lines))


def _titled(figure: Figure, title: str) -> bytes:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


if __name__ == "__main__":
    main()
