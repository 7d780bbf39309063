"""SIGTERM, which a pod receives when it is preempted or moved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def catch_sigterm(on_signal: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """Within the block SIGTERM sets an event instead of ending the process, so that work can stop between two steps.

    Outside the main thread, where Python cannot handle signals, the event is never set.

    Args:
        on_signal: called when the signal arrives, after the event is set.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        received.set()
        if on_signal is not None:
            on_signal()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
