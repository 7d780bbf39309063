"""The version of a model that is in service: the history decides; aliases and tags are derived from it.

A promotion takes effect with one request, which records it as a tag of the registered model. The aliases, and the tags
of the version, are set afterwards. If a promotion is cut short, or a late request of it arrives after another one, they
are wrong until the next command on the model corrects them. The champion is right all the time, since it is resolved
from the history.
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from glt import settings
from glt.errors import GltError, first_line
from glt.lifecycle import outbox
from glt.lifecycle.locks import PATIENCE, EnsureHeld, distributed_lock
from glt.text import clean

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

_LOG = logging.getLogger(__name__)

CHAMPION, PREVIOUS = "champion", "previous"
UNREADABLE = "unreadable"  # action of an event whose tag cannot be read
_HISTORY = "history."  # prefix of the tags of a registered model that record events, one tag per event
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_KEY = re.compile(r"history\.(\d{8}T\d{6}\.\d{6}Z)", re.ASCII)
_VERSION = re.compile(r"[1-9]\d*", re.ASCII)
_FORMER_FIELDS = {"what": "action", "over": "replaced", "because": "reason"}  # of events that earlier versions wrote
_LONGEST = 2000  # characters of a reason; with the other fields it fits a tag of 5,000
# A request of a promotion ends before its lock expires (`locks.EXPIRY`).
_REQUEST_SECONDS, _RETRIES = 15, 2


@dataclass(frozen=True)
class Event:
    """A change of the model in service.

    Attributes:
        at: when, UTC, ISO 8601.
        action: promoted, rolled back, or unreadable.
        version: in service from then on.
        replaced: version in service before; empty if there was none.
        reason: of the change, as text.
        by: the user or pipeline run.
    """

    at: str
    action: str
    version: str
    replaced: str
    reason: str
    by: str

    @staticmethod
    def from_json(text: str) -> Event:
        """The event of a history tag, of this version or an earlier one.

        Raises:
            ValueError: it holds something else.
        """
        try:
            fields = json.loads(text)
            event = Event(**{_FORMER_FIELDS.get(name, name): value for name, value in fields.items()})
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError("no event") from error
        if not all(isinstance(value, str) for value in asdict(event).values()) or not _VERSION.fullmatch(event.version):
            raise ValueError("no event")
        return Event(**{name: clean(value) for name, value in asdict(event).items()})


def read_history(tags: Mapping[str, str]) -> list[Event]:
    """The events in the tags of a registered model, the oldest first; a tag that holds none is an unreadable event."""
    return [_event(key, tags[key]) for key in _keys(tags)]


def _keys(tags: Mapping[str, str]) -> list[str]:
    """Keys of events, the oldest first; keys without a time, which other tools wrote, come before all."""
    return sorted((key for key in tags if key.startswith(_HISTORY)), key=lambda key: (_has_time(key), key))


def _has_time(key: str) -> bool:
    """True if the key is one that `_next_key` may have made, and has a successor."""
    match = _KEY.fullmatch(key)
    try:
        return match is not None and dt.datetime.strptime(match[1], _STAMP).year < dt.MAXYEAR
    except ValueError:
        return False


def _event(key: str, text: str) -> Event:
    try:
        return Event.from_json(text)
    except ValueError:
        at = ""
        if _has_time(key):
            stamp = key.removeprefix(_HISTORY)
            at = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}+00:00"
        return Event(at, UNREADABLE, "", "", f"tag {clean(key)} holds no event: {clean(str(text)[:80])}", "")


@dataclass(frozen=True)
class InService:
    """The versions of a registered model that are, or were last, in service.

    Attributes:
        champion: the version in service; empty if none is.
        previous: the version that `rollback` returns to; empty if there is none.
        event: the event that decided it; None if the aliases did.
        deleted: the version in service by the history, if it was deleted.
    """

    champion: str
    previous: str
    event: Event | None = None
    deleted: str = ""


def in_service(model: RegisteredModel, versions: Mapping[str, object]) -> InService:
    """Resolve the version in service from the last event.

    Without a history, or if its last tag is unreadable, the aliases decide.

    Args:
        model: the registered model.
        versions: its versions by number; those that were deleted are not among them.
    """
    alias = {name: str(version) for name, version in model.aliases.items() if str(version) in versions}
    events = [event for key, event in zip(_keys(model.tags), read_history(model.tags), strict=True) if _has_time(key)]
    if not events or events[-1].action == UNREADABLE:
        champion = alias.get(CHAMPION, "")
        return InService(champion, alias.get(PREVIOUS, "") if alias.get(PREVIOUS) != champion else "")
    last = events[-1]
    champion = last.version if last.version in versions else ""
    before = [last.replaced, alias.get(PREVIOUS, ""), *(event.version for event in reversed(events))]
    previous = next((version for version in before if version in versions and version != champion), "")
    return InService(champion, previous, last, "" if champion else last.version)


def settle(client: MlflowClient, name: str, versions: Mapping[str, Mapping[str, str]]) -> InService:
    """Resolve the version in service, and correct aliases and tags that disagree with the history.

    Aliases and tags are left alone while another process changes them, or if this process may not.

    Args:
        client: of `connection.connect`.
        name: of the registered model.
        versions: the tags of its versions, by number.
    """
    model = client.get_registered_model(name)
    state = in_service(model, versions)
    if not _differences(model, state, versions):
        return state
    try:
        with aliases_lock(name, patience=0) as ensure_held:
            model = client.get_registered_model(name)
            state = in_service(model, versions)
            _follow(client, model, state, versions, ensure_held)
            _LOG.info("%s: its last promotion was cut short; aliases and tags are corrected", name)
    except Exception as error:  # the lock, MLflow and its permissions each raise their own; reading needs none of them
        _LOG.debug("%s: aliases and tags stay as they are: %s", name, first_line(error))
    return state


def put_in_service(
    client: MlflowClient,
    name: str,
    version: str,
    action: str,
    reason: str,
    versions: Mapping[str, Mapping[str, str]],
    ensure_held: EnsureHeld,
) -> None:
    """Record that `version` is in service from now on, and set aliases and tags accordingly.

    Args:
        client: of `connection.connect`.
        name: of the registered model.
        version: to put in service.
        action: promoted or rolled back.
        reason: of the change, as text.
        versions: the tags of the model's versions, by number.
        ensure_held: of `aliases_lock`.

    Raises:
        GltError: another process changed the version in service at the same time.
    """
    model = client.get_registered_model(name)
    key, at = _next_key(model.tags), dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    replaced = in_service(model, versions).champion
    event = Event(at, action, version, replaced, clean(reason)[:_LONGEST], clean(_who())[:200])
    ensure_held()
    with outbox.without_retries(_REQUEST_SECONDS, _RETRIES):
        client.set_registered_model_tag(name, key, json.dumps(asdict(event), ensure_ascii=False))
        for _ in range(2):  # the second time there is nothing to do, unless another process interfered
            model = client.get_registered_model(name)
            state = in_service(model, versions)
            if state.event != event:
                raise GltError(
                    f"{name} v{version}: another process put v{state.champion or '?'} in service at the same time; see "
                    "`glt history` and try again"
                )
            _follow(client, model, state, versions, ensure_held)
            versions = {**versions, version: {**versions.get(version, {}), **_evidence(event)}}


@contextmanager
def aliases_lock(name: str, patience: float = PATIENCE) -> Iterator[EnsureHeld]:
    """The lock for every change of the version in service: MLflow moves an alias unconditionally."""
    file = name if re.fullmatch(r"\w[\w.-]{0,60}", name) else hashlib.sha256(name.encode()).hexdigest()
    with distributed_lock(f"registry/{file}", f"changing the version of {name} in service", patience) as ensure_held:
        yield ensure_held


def _next_key(tags: Mapping[str, str]) -> str:
    """The key of an event that sorts after all others, even if the clocks of machines differ."""
    now = dt.datetime.now(dt.UTC)
    last = [key for key in _keys(tags) if _has_time(key)][-1:]
    for key in last:
        written = dt.datetime.strptime(key.removeprefix(_HISTORY), _STAMP).replace(tzinfo=dt.UTC)
        now = max(now, written + dt.timedelta(microseconds=1))
    return f"{_HISTORY}{now:{_STAMP}}"


def _differences(
    model: RegisteredModel, state: InService, versions: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, str], dict[str, str]] | None:
    """The right values of wrong aliases, and of wrong tags of the champion; None if all are right."""
    if state.event is None:
        return None
    wanted = {CHAMPION: state.champion, PREVIOUS: state.previous}
    aliases = {name: version for name, version in wanted.items() if str(model.aliases.get(name, "")) != version}
    known = versions.get(state.champion, {})
    tags = {name: value for name, value in _evidence(state.event).items() if known.get(name) != value}
    return (aliases, tags if state.champion else {}) if aliases or (tags and state.champion) else None


def _follow(
    client: MlflowClient,
    model: RegisteredModel,
    state: InService,
    versions: Mapping[str, Mapping[str, str]],
    ensure_held: EnsureHeld,
) -> None:
    """Correct wrong aliases and tags."""
    aliases, tags = _differences(model, state, versions) or ({}, {})
    for alias in (PREVIOUS, CHAMPION):
        if alias in aliases:
            ensure_held()
            if aliases[alias]:
                client.set_registered_model_alias(model.name, alias, aliases[alias])
            else:
                client.delete_registered_model_alias(model.name, alias)
    for tag, value in tags.items():
        ensure_held()
        client.set_model_version_tag(model.name, state.champion, tag, value)


def _evidence(event: Event) -> dict[str, str]:
    return {
        "promoted.at": event.at,
        "promoted.reason": event.reason,
        "promoted.by": event.by,
        "promoted.replaced": event.replaced or "none",
    }


def _who() -> str:
    if run := settings.run_id():
        return f"pipeline run {run}"
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"
