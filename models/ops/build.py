"""Compile the deformable attention kernel with NVRTC through cuda-core, once per variant and architecture.

No nvcc, no host compiler, no headers and no GPU are needed to compile; a variant takes about a quarter of a second.
Binaries are cached in ``$XDG_CACHE_HOME/ovvis-harness/kernels`` (``~/.cache`` if unset), one file per digest of source,
variant, architecture and compiler version, so a changed kernel or compiler never uses an old binary.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from harness import paths
from harness.atomic_write import write_atomically
from harness.errors import UserError

SOURCE = Path(__file__).with_name("deform_attn.cu")
INSTALL = f'pip install cuda-core "cuda-bindings=={(torch.version.cuda or "13").split(".")[0]}.*"'
"""cuda-bindings finds the NVRTC of its major version, which torch's CUDA wheel installs."""

OVERRIDE = "HARNESS_DEFORM_ATTN"
"""Environment variable; ``reference`` turns the kernel off."""

SHARED_BYTES = 40 * 1024
"""Shared memory that a block may use for its samples; every architecture has 48 KiB by default."""
_SAMPLE_BYTES = 32
"""Shared memory per sampled point: four weights, the place of the corners, and the attention weight."""
QUERY_BYTES = 8
"""Shared memory per query that a warp serves at a time: its number."""
MOST_WARPS = 8
LINES = 8
"""Lines of a level that a block's queries are in, where they are its pixels."""

STORED = {torch.float32: "float", torch.float16: "half_bits", torch.bfloat16: "bfloat_bits"}
"""Element types the kernel stores, and their names in the source."""


class Variant(NamedTuple):
    """The parameters of one compiled kernel, which are the lengths of its loops."""

    value: torch.dtype
    """Type of value and its gradient."""
    point: torch.dtype
    """Type of locations and attention weights (of offsets and logits in the fused kernel), of the output, and of the
    gradients of all three."""
    channels: int
    """Per head."""
    levels: int
    points: int
    """Per level."""
    fused: bool = False
    """Whether the kernel starts from offsets and logits."""

    @property
    def vector(self) -> int:
        """Channels one thread reads at once: 16 bytes of them, or as many as divide the channels."""
        vector = 16 // self.value.itemsize
        while self.channels % vector:
            vector //= 2
        return vector

    @property
    def lanes(self) -> int:
        """Threads that share a query, a power of two up to 32: enough for its channels and for the shared memory."""
        lanes = 1
        while lanes < 32 and (lanes * self.vector < self.channels or self._warp_bytes(lanes) > SHARED_BYTES):
            lanes *= 2
        return lanes

    @property
    def warps(self) -> int:
        """Warps in a block."""
        return max(1, min(MOST_WARPS, SHARED_BYTES // self._warp_bytes(self.lanes)))

    @property
    def queries_per_block(self) -> int:
        """Queries of one head that a block serves."""
        return self.warps * (32 // self.lanes)

    def fault(self) -> str | None:
        """Why this variant has no kernel, or None."""
        for name, dtype in (("value", self.value), ("sampling_locations", self.point)):
            if dtype not in STORED:
                return f"{name} is {str(dtype).removeprefix('torch.')}, the kernel has float32, float16 and bfloat16"
        if (
            self._warp_bytes(32) > SHARED_BYTES or self.levels > 32 * self.warps
        ):  # a thread reads the size of each level
            return f"{self.levels} levels of {self.points} points do not fit into a block's shared memory and threads"
        return None

    def macros(self) -> list[tuple[str, str]]:
        """The variant as the source's macros."""
        numbers = {
            "CHANNELS": self.channels,
            "LEVELS": self.levels,
            "POINTS": self.points,
            "VECTOR": self.vector,
            "LANES": self.lanes,
            "WARPS": self.warps,
            "LINES": LINES,
            "FUSED": int(self.fused),
        }
        types = [("VALUE_TYPE", STORED[self.value]), ("POINT_TYPE", STORED[self.point])]
        return types + [(name, str(number)) for name, number in numbers.items()]

    def _warp_bytes(self, lanes: int) -> int:
        return 32 // lanes * (self.levels * self.points * _SAMPLE_BYTES + QUERY_BYTES)


def missing_packages() -> str | None:
    """Why this environment cannot compile, in one line with the fix; None if it can."""
    for module, distribution in (
        ("cuda", "cuda-bindings"),
        ("cuda.core", "cuda-core"),
        ("cuda.bindings", "cuda-bindings"),
    ):
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError):  # another package of this name, or one that does not import
            found = None
        if found is None:
            return f"{distribution} is not installed: {INSTALL}"
    try:
        compiler_version()
    except UserError as fault:
        return str(fault)
    return None


@cache
def compiler_version() -> tuple[int, int]:
    """NVRTC's version; raises ``UserError`` if its library cannot be loaded."""
    try:
        from cuda.bindings import nvrtc
        from cuda.pathfinder import DynamicLibNotFoundError
    except ImportError as fault:
        raise UserError("cuda-bindings", f"cannot be imported: {fault}", f"reinstall: {INSTALL}") from fault

    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except (DynamicLibNotFoundError, RuntimeError) as fault:
        raise UserError("NVRTC", "its library was not found next to cuda-bindings", _library_hint()) from fault
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise UserError("NVRTC", f"its version call failed ({status.name})", f"reinstall: {INSTALL}")
    return int(major), int(minor)


@cache
def architectures() -> frozenset[int]:
    """Compute capabilities the installed NVRTC compiles for, such as 75 and 90."""
    from cuda.bindings import nvrtc

    compiler_version()
    status, known = nvrtc.nvrtcGetSupportedArchs()
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise UserError("NVRTC", f"its list of architectures failed ({status.name})", f"reinstall: {INSTALL}")
    return frozenset(int(each) for each in known)


class Compiled(NamedTuple):
    """A binary and the compiler's log."""

    cubin: bytes
    report: str
    """Registers, shared memory and spills of each kernel, and warnings."""


def compile_kernel(variant: Variant, architecture: int) -> Compiled:
    """Compile ``deform_attn_forward`` and ``deform_attn_backward`` for compute capability ``architecture`` (90 is 9.0).

    Needs no GPU. Raises ``UserError`` with the compiler's first error if it fails.
    """
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(
        name=SOURCE.name, arch=f"sm_{architecture}", std="c++17", ptxas_options=["-v"], define_macro=variant.macros()
    )
    log = io.StringIO()
    try:
        compiled = Program(SOURCE.read_text(encoding="utf-8"), "c++", options).compile("cubin", logs=log)
    except Exception as fault:
        if not from_cuda(fault):
            raise
        raise _refused(fault, architecture) from fault
    return Compiled(bytes(compiled.code), log.getvalue().replace("\0", ""))


def cubin(variant: Variant, architecture: int) -> bytes:
    """The binary for ``variant``, from the cache, or compiled and then cached."""
    try:
        folder = kernel_cache_folder()
    except UserError:  # there is no such folder
        return compile_kernel(variant, architecture).cubin
    path = folder / f"deform_attn-sm_{architecture}-{_digest(variant, architecture)}.cubin"
    known = _read_cached(path)
    if known is not None:
        return known
    binary = compile_kernel(variant, architecture).cubin
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hashlib.sha256(binary).digest() + binary)
    except (OSError, UserError):
        return binary  # without a writable cache every process compiles again, in a quarter of a second
    return binary


def kernel_cache_folder() -> Path:
    """The folder of compiled kernels."""
    return paths.cache_folder("kernels")


def versions() -> dict[str, str | None]:
    """Versions of cuda-core, cuda-bindings and NVRTC; None for missing ones."""
    found: dict[str, str | None] = {}
    for name in ("cuda-core", "cuda-bindings"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found["nvrtc"] = None if missing_packages() else ".".join(str(part) for part in compiler_version())
    return found


def from_cuda(fault: Exception) -> bool:
    """Whether compiler or driver raised an error: cuda-core has no public class for them, so the module decides."""
    return type(fault).__module__.startswith("cuda.")


def _read_cached(path: Path) -> bytes | None:
    """The binary in ``path``, or None if it is missing, truncated or altered."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, binary = data[:32], data[32:]
    return binary if hashlib.sha256(binary).digest() == digest else None


def _digest(variant: Variant, architecture: int) -> str:
    """Digest of everything that a binary depends on, 24 hexadecimal digits."""
    parts = [SOURCE.read_text(encoding="utf-8"), repr(variant.macros()), str(architecture), repr(compiler_version())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _library_hint() -> str:
    """A hint on how to install an NVRTC of cuda-bindings' major version."""
    major = importlib.metadata.version("cuda-bindings").split(".")[0]
    if torch.version.cuda is not None and torch.version.cuda.split(".")[0] != major:
        return INSTALL  # torch's own NVRTC can be used with cuda-bindings of its version
    return "pip install nvidia-cuda-nvrtc" if int(major) >= 13 else f"pip install nvidia-cuda-nvrtc-cu{major}"


def _refused(fault: Exception, architecture: int) -> UserError:
    """The compiler's first error, as one line."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    what = (errors[1:] or errors or lines or [type(fault).__name__])[0]  # the first one names the call that failed
    hint = f"reinstall: {INSTALL}; {OVERRIDE}=reference runs without the kernel"
    return UserError(f"{SOURCE.name} for sm_{architecture}", f"NVRTC refused it: {what}", hint)
