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
    """The port, or else the next free one, which is logged.

    Raises:
        GltError: not a port number, reserved for root, or no free port among the first hundred from it.
    """
    if not 0 < port <= LARGEST:
        raise GltError(f"--port {port}: not a TCP port; give one from 1 to {LARGEST}")
    for candidate in range(port, min(port + _TRIED, LARGEST + 1)):
        if _is_free(candidate):
            if candidate != port:
                _LOG.warning("port %d: in use by another program; using port %d", port, candidate)
            return candidate
    raise GltError(f"--port {port}: in use, as are the ports after it; give another")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError as error:
            raise GltError(f"--port {port}: only root may open it; give one above 1023") from error
        except OSError:
            return False
    return True
