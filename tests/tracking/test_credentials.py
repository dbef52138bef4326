"""No user name or password of a tracking address gets into anything that is written or shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tracking.credentials import redact, safe_uri


@pytest.mark.parametrize(
    ("uri", "safe"),
    [
        ("http://me:secret@host:5000", "http://host:5000"),
        ("https://token@host/path?key=secret", "https://host/path"),
        ("postgresql://me:p/w@x@host/db?sslmode=require&password=z", "postgresql://host/db"),
        ("sqlite:////home/me@work/runs/mlflow.db", "sqlite:////home/me@work/runs/mlflow.db"),
        ("runs/mlflow", "runs/mlflow"),
    ],
)
def test_safe_uri_keeps_the_place_and_drops_the_secrets(uri: str, safe: str) -> None:
    assert safe_uri(uri) == safe


def test_redact_finds_the_password_outside_the_address_and_other_addresses() -> None:
    uri = "http://me:p%40ss@host:5000"
    text = "login p@ss (p%40ss) at http://me:p%40ss@host:5000/api and git://you:other@elsewhere/x"
    assert redact(text, uri) == "login *** (***) at http://host:5000/api and git://elsewhere/x"


SECRET = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6)


@given(user=SECRET, password=SECRET, before=st.text(), after=st.text())
def test_the_password_never_survives(user: str, password: str, before: str, after: str) -> None:
    uri = f"http://{user}:{password}@host:5000"
    assert password not in safe_uri(uri)
    assert password not in redact(f"{before} {uri}/api {password} {after}", uri)
