"""Target: a delivery as `collect` takes it, inspected, packed, and ingested from the pack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from glt import text
from glt.data import delivery
from glt.data.clips import ClipStore
from glt.data.formats import ntu_text
from glt.data.ingest import ingest
from glt.reporter import Silent
from tests.data import recorded
from tests.fuzz import promises, recordings
from tests.fuzz.outcome import Broken
from tests.fuzz.target_data import entries, place


class Delivery:
    """Every delivered file has its account, and what is packed is ingested: what is committed can be trained on."""

    name, seconds, mib, programs, weight = "deliveries", 90.0, 1500.0, True, 2.0

    def prepare(self) -> None:
        """Compile NTU's parser, and import what an ingest needs."""
        ntu_text.parse(b"0\n")
        import pandera.pandas  # noqa: F401

    def cases(self) -> Any:
        """Entries: kind, name, content."""
        return entries("ntu")

    def check(self, case: tuple[str, list[tuple[str, bytes, bytes]]], sandbox: Path) -> None:
        """Inspect, pack, ingest."""
        given = recorded.write_folder(sandbox / "given", {"good/S001C001P001R001A001.skeleton": recordings.good("ntu")})
        for what, raw, content in case[1]:
            if what == "file" and text.is_clean(os.fsdecode(raw)):  # a bucket's keys are cleaned by their source
                place(given / os.fsdecode(raw), what, content)
        names = [path.relative_to(given).as_posix() for path in given.rglob("*") if path.is_file()]
        recipe = recorded.recipe(persons=2, max_rejects=1.0)
        found = list(delivery.inspect(given, names, [], recipe.data, Silent()))
        if sorted(one.name for one in found) != sorted(names):
            raise Broken("account: a delivered file is missing, or there twice", f"{names} {found}"[:400])
        for one in found:
            promises.account({"account": one.account.to_dict()})
            if not (one.accepted or one.rejected or one.left_out):
                raise Broken("account: a delivered file without an outcome", one.name)
            for file in (*one.rejected, *one.left_out):
                promises.stored(file.file, "file in a delivery")
                promises.message(file.reason)
        accepted = [one for one in found if one.accepted]
        if "good/S001C001P001R001A001.skeleton" not in {one.name for one in accepted}:
            raise Broken("the good recording is not taken", str([one.name for one in accepted])[:300])
        delivery.pack(accepted, given, [], sandbox / "batch.zip")
        ingest(sandbox / "batch.zip", recipe, sandbox / "clips", {}, Silent(), sandbox / "segments", processes=1)
        clips = ClipStore(sandbox / "clips")
        packed = sum(one.clips for one in accepted)
        repeats = sum(clips.rejected["check"].isin(["repeat", "duplicate"]))
        if len(clips.index) + repeats < packed:
            raise Broken("a packed recording is not ingested", f"{packed} packed, {len(clips.index)} clips")
