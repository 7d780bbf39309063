"""All targets by name."""

from __future__ import annotations

from tests.fuzz import recordings
from tests.fuzz.target_commands import Commands
from tests.fuzz.target_data import Archive, Ingest, Reader
from tests.fuzz.target_delivery import Delivery
from tests.fuzz.target_stored import Stored
from tests.fuzz.target_texts import Layouts, Recipes, Studies, Texts
from tests.fuzz.worker import Target

_ALL: tuple[Target, ...] = (
    *(Reader(kind) for kind in recordings.NAMES),
    *(Archive(), Ingest(), Delivery(), Recipes(), Studies(), Layouts(), Texts(), Stored(), Commands()),
)
TARGETS = {target.name: target for target in _ALL}
