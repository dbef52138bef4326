"""What many tests share: where the golden cases lie, a tiny CLIP-VIS, and servers of object stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

GOLDEN = Path(__file__).parent / "data" / "protocols"

# the first call of a kernel compiles it, which no deadline for an example can know
# In CI the same examples each time, so that a run does not fail by chance; on a developer's machine new ones.
settings.register_profile("harness", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("harness")


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Finished runs to compare, see `compared_runs.Runs`; tests that change them take a copy."""
    from compared_runs import make_runs

    return make_runs(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden protocol cases: those in the tree, or all of them where HARNESS_GOLDEN names a folder."""
    named = os.environ.get("HARNESS_GOLDEN")
    return Path(named) / "protocols" if named else GOLDEN


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny CLIP-VIS with recipe weights."""
    from tiny_clipvis import tiny_with_weights

    return tiny_with_weights(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture(scope="session")
def tiny_state(tiny: Any) -> Any:
    """Its complete checkpoint; a few MB."""
    return tiny.state_dict()


@pytest.fixture
def saved(tiny_state: Any, tmp_path: Path) -> Path:
    """The tiny checkpoint as the official ones are written: under ``model``, with a counter beside it."""
    import torch

    path = tmp_path / "tiny.pth"
    torch.save({"model": tiny_state, "iteration": 7}, path)
    return path


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Address of an S3 server of this machine, which this process and its children use until the tests end."""
    from object_stores import BUCKET, environment, s3_environment, s3_server

    with s3_server() as address, environment(s3_environment(address)):
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        yield address


@pytest.fixture(scope="session")
def gcs() -> Iterator[str]:
    """Address of a server of Google Cloud Storage of this machine; see ``s3``."""
    from object_stores import environment, gcs_server

    pytest.importorskip("gcsfs")
    with gcs_server() as address, environment({"STORAGE_EMULATOR_HOST": address}):
        yield address


@pytest.fixture
def s3_folder(s3: str) -> Any:
    """An empty folder in S3, as a `harness.paths.ObjectPath`."""
    from harness.paths import location

    return location(f"s3://bucket/{uuid4().hex}")


@pytest.fixture(params=["s3", "gs"])
def store_folder(request: pytest.FixtureRequest) -> Any:
    """An empty folder in each kind of object store."""
    from harness.paths import location

    request.getfixturevalue({"s3": "s3", "gs": "gcs"}[request.param])
    return location(f"{request.param}://bucket/{uuid4().hex}")
