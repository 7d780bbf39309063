"""Credentials of git repositories. They come from the environment, because addresses are stored with every run."""

from __future__ import annotations

import logging
from urllib.parse import quote, urlsplit

from glt import settings

_LOG = logging.getLogger(__name__)
_HERE = {"localhost", "127.0.0.1", "::1"}  # traffic stays on this machine


def with_credentials(url: str) -> str:
    """The URL of a git repository with GLT_GIT_USER and GLT_GIT_TOKEN in it.

    Unchanged if no token is set, if the URL holds credentials already, if it is not HTTPS (or HTTP on this machine), or
    if GLT_GIT_HOST does not name its host. This machine need not be named.
    """
    scheme, separator, rest = url.partition("://")
    token = settings.git_token()
    if not token or scheme not in ("http", "https") or "@" in rest.partition("/")[0]:
        return url
    if reason := _withheld(url):
        _LOG.warning("GLT_GIT_TOKEN is not sent to %s: %s", rest.partition("/")[0], reason)
        return url
    return f"{scheme}{separator}{quote(settings.git_user(), safe='')}:{quote(token, safe='')}@{rest}"


def _withheld(url: str) -> str:
    """The reason why the token is not sent to a host; empty if it is."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme == "http" and host not in _HERE:
        return "the address is not encrypted; write https://"
    hosts = settings.git_hosts()
    if host in hosts or parts.netloc.lower() in hosts or host in _HERE:
        return ""
    named = f"GLT_GIT_HOST is {', '.join(sorted(hosts))}" if hosts else "GLT_GIT_HOST is not set"
    return f"{named}; set it to the host that the token is for"
