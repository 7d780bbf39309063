"""An S3 server that takes any key and misbehaves as told; a well-made store takes neither odd keys nor such orders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlsplit

BUCKET = "landing"


@dataclass
class OddStore:
    """The objects of the bucket `landing`, and what goes wrong.

    Attributes:
        objects: content by key.
        errors: status and code of the answer to a GET of a key.
        headers: added to the answer to a GET of a key; its content stays.
        listing: what is answered to every listing, if not None.
        rejected: what no key may have that is put.
        page: objects in a page of the listing.
        address: of the server.
        requests: paths that were asked for, as they came.
    """

    objects: dict[bytes, bytes] = field(default_factory=dict)
    errors: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    headers: dict[bytes, dict[str, str]] = field(default_factory=dict)
    listing: bytes | None = None
    rejected: bytes = b"\x00none"
    page: int = 1000
    address: str = ""
    requests: list[str] = field(default_factory=list)

    def deliver(self, files: dict[Any, bytes]) -> None:
        for name, content in files.items():
            self.objects[b"lab/" + (name if isinstance(name, bytes) else name.encode())] = content

    def below(self, prefix: bytes) -> dict[bytes, bytes]:
        return {key: content for key, content in self.objects.items() if key.startswith(prefix)}

    def etag(self, key: bytes) -> str:
        """No MD5, as of an object that is encrypted with a key of KMS."""
        return hashlib.sha256(self.objects[key]).hexdigest()[:32]

    def list(self, query: dict[str, list[str]]) -> bytes:
        if self.listing is not None:
            return self.listing
        prefix = query.get("prefix", [""])[0].encode()
        after = unquote_to_bytes(query.get("continuation-token", [""])[0])
        keys = sorted(key for key in self.below(prefix) if key > after)
        now = keys[: self.page]
        entries = "".join(
            f"<Contents><Key>{quote(key, safe='/')}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self.etag(key)}&quot;</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in now
        )
        more = len(keys) > len(now)
        token = f"<NextContinuationToken>{quote(now[-1], safe='')}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{entries}</ListBucketResult>"
        ).encode()


@contextmanager
def running() -> Iterator[OddStore]:
    """The store, behind HTTP."""
    store = OddStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            if headers and "Content-Length" in headers:
                self.close_connection = True

        def error(self, status: int, code: str) -> None:
            self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

        def do_GET(self) -> None:
            store.requests.append(self.path)
            url = urlsplit(self.path)
            key = unquote_to_bytes(url.path).removeprefix(f"/{BUCKET}".encode()).removeprefix(b"/")
            if not key:
                self.answer(200, store.list(parse_qs(url.query)))
            elif key in store.errors:
                self.error(*store.errors[key])
            elif key not in store.objects:
                self.error(404, "NoSuchKey")
            elif self.headers.get("If-Match", "").strip('"') != store.etag(key):
                self.error(412, "PreconditionFailed")
            else:
                self.answer(200, store.objects[key], store.headers.get(key))

        do_HEAD = do_GET

        def do_PUT(self) -> None:
            key = unquote_to_bytes(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/".encode())
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if store.rejected in key:
                self.error(400, "InvalidRequest")
                return
            if len(key) > 1024:
                self.error(400, "KeyTooLongError")
                return
            store.objects[key] = content
            self.answer(200, b"", {"ETag": f'"{store.etag(key)}"'})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    store.address = f"http://127.0.0.1:{server.server_port}"
    yield store
    server.shutdown()
    server.server_close()
