"""TCP ports of this machine's loopback, for the commands that serve."""

from __future__ import annotations

import logging
import socket

from glt.errors import GltError

LOOPBACK = "127.0.0.1"
LARGEST = 65535
_TRIED = 100
_LOG = logging.getLogger(__name__)


def next_free(port: int) -> int:
    """The port itself, or the next one on which no program listens, and then a line that says so.

    Raises:
        GltError: it is none of the 65,535 ports, needs other rights, or it and the next hundred are taken.
    """
    if not 0 < port <= LARGEST:
        raise GltError(f"--port {port}: there are ports 1 to {LARGEST}; give one of them")
    for candidate in range(port, min(port + _TRIED, LARGEST + 1)):
        if _is_free(candidate):
            if candidate != port:
                _LOG.warning("port %d: another program has it; this is port %d", port, candidate)
            return candidate
    raise GltError(f"--port {port}: other programs have it and those after it; give another")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((LOOPBACK, port))
        except PermissionError as error:
            raise GltError(f"--port {port}: only root may open it; give one from 1024 on") from error
        except OSError:
            return False
    return True
