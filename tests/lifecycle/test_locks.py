"""Locks: on a real S3 server, between processes that are killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from glt.errors import GltError
from glt.lifecycle import locks

HOLDER = """
import sys, time
from glt.lifecycle import locks
with locks.distributed_lock("model", "promoting") as ensure_held:
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["bucket", "machine"])
def place(request: pytest.FixtureRequest, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of lock."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if request.param == "bucket":
        monkeypatch.setenv("GLT_LOCKS", "s3://landing/locks")
    else:
        monkeypatch.delenv("GLT_LOCKS", raising=False)
    return str(request.param)


def test_one_at_a_time(place: str) -> None:
    inside, most = [0], [0]

    def work() -> None:
        with locks.distributed_lock("model", "promoting", patience=60) as ensure_held:
            ensure_held()
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_who_waits_too_long_is_reported_who_holds_it(place: str) -> None:
    with locks.distributed_lock("model", "promoting"):
        with pytest.raises(GltError, match=r"promoting: .* does that now"):
            with locks.distributed_lock("model", "promoting", patience=0):
                pass
        with locks.distributed_lock("another", "promoting", patience=0):
            pass
    with locks.distributed_lock("model", "promoting", patience=0):
        pass


@pytest.mark.fault(
    "the holder of the registry's lock is killed", "the lock expires after 120 s; exactly one waiter acquires it"
)
def test_a_lock_whose_holder_was_killed_is_free_again(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(GltError, match="now"):
        with locks.distributed_lock("model", "promoting", patience=0):
            pass
    holder.kill()
    holder.wait()
    if place == "bucket":
        with pytest.raises(GltError, match="now"):
            with locks.distributed_lock("model", "promoting", patience=0):
                pass
        monkeypatch.setattr(locks, "EXPIRY", 1.0)
    with locks.distributed_lock("model", "promoting", patience=20) as ensure_held:
        ensure_held()


@pytest.mark.fault(
    "the holder of the registry's lock is killed", "the lock expires after 120 s; exactly one waiter acquires it"
)
def test_an_expired_lock_has_one_heir_and_its_holder_learns_of_it(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_LOCKS", "s3://landing/locks")
    monkeypatch.setattr(locks, "EXPIRY", 1.0)
    with locks.distributed_lock("model", "promoting") as slow:
        time.sleep(2.5)
        with locks.distributed_lock("model", "promoting", patience=0) as ensure_held:
            ensure_held()
            with pytest.raises(GltError, match="longer than the lock holds"):
                slow()
    assert bucket.list_objects_v2(Bucket="landing", Prefix="locks").get("KeyCount", 0) == 0


def test_the_slow_holder_does_not_take_the_heirs_lock_away(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_LOCKS", "s3://landing/locks")
    monkeypatch.setattr(locks, "EXPIRY", 1.0)
    slow, heir = (locks.distributed_lock("model", "promoting", patience=0) for _ in range(2))
    slow.__enter__()
    time.sleep(2.5)
    heir.__enter__()
    monkeypatch.setattr(locks, "EXPIRY", 60.0)
    slow.__exit__(None, None, None)
    with pytest.raises(GltError, match="now"):
        with locks.distributed_lock("model", "promoting", patience=0):
            pass
    heir.__exit__(None, None, None)


def test_a_bucket_that_cannot_be_had_is_reported(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_LOCKS", "s3://landing/locks")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(GltError, match=r"lock s3://landing/locks/model: .*AWS_SECRET_ACCESS_KEY"):
        with locks.distributed_lock("model", "promoting"):
            pass
