"""Removes user names and passwords of tracking addresses from files, tags and messages."""

from __future__ import annotations

import re
from urllib.parse import unquote

_LOCAL = ("sqlite:", "file:")
_USER_INFO = re.compile(r"(?<=://)[^\s/?#]*@")


def safe_uri(uri: str) -> str:
    """Return ``uri`` without user name, password and query, safe to store and to show."""
    if uri.startswith(_LOCAL) or "://" not in uri:
        return uri  # a path on this machine, where "@" and "?" are ordinary characters
    scheme, _, rest = uri.partition("://")
    # Up to the last "@", so that nothing remains of a password with an unescaped "/" or "@".
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def redact(text: str, uri: str) -> str:
    """Return ``text`` without the secrets of ``uri`` and without user names and passwords in any other address."""
    text = text.replace(uri, safe_uri(uri))
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    return _USER_INFO.sub("", text)


def _secrets(uri: str) -> list[str]:
    if uri.startswith(_LOCAL) or "://" not in uri:
        return []
    address, _, query = uri.partition("://")[2].partition("?")
    user_info = address.rpartition("@")[0]
    password = user_info.partition(":")[2]
    # Longest first, so that no part of a secret remains next to a replaced one.
    found = {user_info, password, unquote(user_info), unquote(password), query, unquote(query)}
    return sorted((text for text in found if text), key=len, reverse=True)
