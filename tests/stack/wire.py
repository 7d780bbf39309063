"""A connection that can be cut: a port of its own, behind which a server is."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable

WRITES = re.compile(rb"(?:POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r\n")


class Wire:
    """Passes on what clients and a server say to one another, and looks at what the clients say.

    Args:
        port: the server's, on this machine.
        heard: called with each piece that a client sends, before it is passed on; what it raises cuts that connection.
    """

    def __init__(self, port: int, heard: Callable[[bytes], None]) -> None:
        self._server, self._heard = port, heard
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server))
                except ConnectionRefusedError:
                    client.close()
                    continue
                for ends in ((client, server, self._heard), (server, client, lambda piece: None)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


class Cut(Exception):
    """Raised by `heard`."""


def _pass_on(source: socket.socket, sink: socket.socket, heard: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError, Cut):
        while piece := source.recv(65536):
            heard(piece)
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
