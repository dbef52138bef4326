"""NVRTC makes the kernel for every architecture, without a GPU; binaries are kept, found again, and never trusted."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.models.ops import build
from harness.models.ops.build import Variant

MISSING = build.missing_packages()
needs_nvrtc = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

ARCHITECTURES = [75, 80, 86, 89, 90, 100, 120]
MODEL = Variant(torch.float32, torch.float32, channels=32, levels=3, points=4, fused=True)
VARIANTS = {
    "float32": MODEL,
    "float32, locations and weights": MODEL._replace(fused=False),
    "float16": MODEL._replace(value=torch.float16, point=torch.float16),
    "bfloat16": MODEL._replace(value=torch.bfloat16, point=torch.bfloat16),
    "bfloat16 at float32 points": MODEL._replace(value=torch.bfloat16),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ovvis-harness" / "kernels"


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_compiles_without_a_gpu(variant: Variant, architecture: int) -> None:
    compiled = build.compile_kernel(variant, architecture)
    assert compiled.cubin[:4] == b"\x7fELF"
    for way in ("forward", "backward"):
        assert f"'deform_attn_{way}' for 'sm_{architecture}'" in compiled.report
    assert "warning" not in compiled.report
    # an array that went to local memory would show as hundreds of bytes; a word or two is a compiler's own trade
    stacks = [int(frame) for frame in re.findall(r"(\d+) bytes stack frame", compiled.report)]
    assert len(stacks) == 2
    assert max(stacks) <= 64


@needs_nvrtc
@pytest.mark.parametrize("channels", [1, 3, 10, 64, 264])
def test_compiles_for_any_number_of_channels(channels: int) -> None:
    for value in build.STORED:
        assert build.compile_kernel(Variant(value, value, channels, levels=2, points=3, fused=True), 80).cubin


@needs_nvrtc
def test_a_binary_is_kept_and_found_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = build.cubin(MODEL, 80)
    (kept,) = cache.iterdir()
    assert "sm_80" in kept.name
    monkeypatch.setattr(build, "compile_kernel", lambda *_: pytest.fail("compiled again"))
    assert build.cubin(MODEL, 80) == binary


@needs_nvrtc
def test_each_variant_and_architecture_has_its_own_binary(cache: Path) -> None:
    for variant, architecture in ((MODEL, 80), (MODEL, 90), (MODEL._replace(points=3), 80)):
        build.cubin(variant, architecture)
    assert len(list(cache.iterdir())) == 3


@needs_nvrtc
def test_another_source_is_another_binary(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.cubin(MODEL, 80)
    changed = tmp_path / "deform_attn.cu"
    changed.write_text(build.SOURCE.read_text() + "\n// changed\n")
    monkeypatch.setattr(build, "SOURCE", changed)
    build.cubin(MODEL, 80)
    assert len(list(cache.iterdir())) == 2


@needs_nvrtc
@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:-1] + b"?"])
def test_a_damaged_binary_is_made_anew(cache: Path, damage: object) -> None:
    binary = build.cubin(MODEL, 80)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))  # type: ignore[operator]
    assert build.cubin(MODEL, 80) == binary
    assert kept.read_bytes() == whole


@needs_nvrtc
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert build.cubin(MODEL, 80)


@needs_nvrtc
def test_a_source_the_compiler_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "deform_attn.cu"
    broken.write_text("no such type;\n")
    monkeypatch.setattr(build, "SOURCE", broken)
    with pytest.raises(UserError, match=r"deform_attn.cu for sm_90: NVRTC refused it: .*error") as caught:
        build.compile_kernel(MODEL, 90)
    assert "\n" not in str(caught.value)


def test_a_cache_without_a_home_folder_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a user of a container who has a number only."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(build, "compile_kernel", lambda *_: build.Compiled(b"binary", ""))
    assert build.cubin(MODEL, 80) == b"binary"
    with pytest.raises(UserError, match=r"no home folder.*set XDG_CACHE_HOME"):
        build.kernel_cache_folder()


@needs_nvrtc
def test_many_writers_and_damage_give_the_binary(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = bytes(range(256)) * 4096
    monkeypatch.setattr(build, "compile_kernel", lambda *_: build.Compiled(binary, ""))
    build.cubin(MODEL, 80)
    (kept,) = cache.iterdir()

    def work(number: int) -> bool:
        if number % 4 == 0:
            kept.unlink(missing_ok=True)
        elif number % 4 == 1:
            kept.write_bytes(binary[:number])
        return build.cubin(MODEL, 80) == binary

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))
    assert build.cubin(MODEL, 80) == binary
    assert [path.name for path in cache.iterdir()] == [kept.name]


@pytest.mark.parametrize(
    ("told", "first"),
    [
        (
            "NVRTC_ERROR_COMPILATION: failed\nk.cu(3): error: no such type\n1 error detected",
            "k.cu(3): error: no such type",
        ),
        ("NVRTC_ERROR_COMPILATION", "NVRTC_ERROR_COMPILATION"),
        ("it went wrong\nmore", "it went wrong"),
        ("", "RuntimeError"),
    ],
)
def test_any_words_of_the_compiler_are_one_line(told: str, first: str) -> None:
    fault = str(build._refused(RuntimeError(told), 90))
    assert fault.startswith(f"deform_attn.cu for sm_90: NVRTC refused it: {first}")
    assert "HARNESS_DEFORM_ATTN=reference" in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("__path__ attribute not found on 'cuda'"), ValueError("no spec")]
)
def test_another_package_named_cuda_is_no_cuda_core(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def find(name: str) -> object:
        if name == "cuda.core":
            raise error
        return object()

    monkeypatch.setattr(build.importlib.util, "find_spec", find)
    assert "cuda-core is not installed" in str(build.missing_packages())


def test_bindings_that_cannot_be_imported_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(build, "compiler_version", build.compiler_version.__wrapped__)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: object())
    assert str(build.missing_packages()).startswith("cuda-bindings: cannot be imported")


def test_without_cuda_core_the_mend_is_an_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = build.importlib.util.find_spec
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None if "cuda" in name else found(name))
    assert "pip install cuda-core" in str(build.missing_packages())
    assert build.versions()["nvrtc"] is None


@pytest.mark.parametrize(
    ("bindings", "cuda", "hint"),
    [
        ("13.5.0", None, "pip install nvidia-cuda-nvrtc"),
        ("12.9.4", "12.8", "pip install nvidia-cuda-nvrtc-cu12"),
        ("13.5.0", "12.8", build.INSTALL),
    ],
)
def test_without_nvrtc_the_mend_goes_with_the_versions_there(
    monkeypatch: pytest.MonkeyPatch, bindings: str, cuda: str | None, hint: str
) -> None:
    monkeypatch.setattr(build.importlib.metadata, "version", lambda name: bindings)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert build._library_hint() == hint


def test_what_no_kernel_can_be_made_for() -> None:
    assert MODEL.fault() is None
    assert "float64" in str(MODEL._replace(value=torch.float64).fault())
    assert "shared memory" in str(MODEL._replace(levels=50, points=50).fault())
    many = MODEL._replace(channels=1, levels=80, points=1)  # more than a block has threads
    assert many.fault() is not None
    assert many.levels > 32 * many.warps


variants = st.builds(
    Variant,
    value=st.sampled_from(list(build.STORED)),
    point=st.sampled_from(list(build.STORED)),
    channels=st.integers(1, 600),
    levels=st.integers(1, 8),
    points=st.integers(1, 32),
    fused=st.booleans(),
)


@given(variants)
def test_the_thread_layout_fits_any_variant(variant: Variant) -> None:
    assert variant.fault() is None
    assert variant.channels % variant.vector == 0
    assert 1 <= variant.vector * variant.value.itemsize <= 16
    assert 32 % variant.lanes == 0
    assert 1 <= variant.warps <= build.MOST_WARPS
    queries = 32 // variant.lanes
    used = queries * (variant.levels * variant.points * build._SAMPLE_BYTES + build.QUERY_BYTES)
    assert variant.warps * used <= build.SHARED_BYTES


def test_the_models_heads_are_read_sixteen_bytes_at_a_time() -> None:
    assert (MODEL.vector, MODEL.lanes, MODEL.queries_per_block) == (4, 8, 32)
    half = VARIANTS["float16"]
    assert (half.vector, half.lanes, half.queries_per_block) == (8, 4, 64)
