"""SIGTERM, which a node of a TrainJob receives when it is preempted or moved, and a process when somebody ends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from glt.errors import Interrupted


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


@contextmanager
def ended_by_sigterm(name: str) -> Iterator[None]:
    """Raise `Interrupted` on SIGTERM within the block, unless SIGTERM already has a handler.

    Args:
        name: of the work, for the error message.
    """
    handled = threading.current_thread() is not threading.main_thread()
    if handled or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked child takes no part in ending the work
            os._exit(Interrupted.exit_code)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Interrupted(f"{name} was interrupted (SIGTERM); run the same again")

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
