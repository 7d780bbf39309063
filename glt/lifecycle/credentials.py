"""Credentials of git repositories. They come from the environment, because addresses are stored with every run."""

from __future__ import annotations

from urllib.parse import quote

from glt import settings


def with_credentials(url: str) -> str:
    """The URL of a git repository with GLT_GIT_USER and GLT_GIT_TOKEN in it.

    Unchanged if no token is set, if the URL holds credentials already, or if it is not HTTP.
    """
    scheme, separator, rest = url.partition("://")
    token = settings.git_token()
    if not token or scheme not in ("http", "https") or "@" in rest.partition("/")[0]:
        return url
    return f"{scheme}{separator}{quote(settings.git_user(), safe='')}:{quote(token, safe='')}@{rest}"
