"""The door of deformable attention: values, gradients, torch.compile, errors, and which path was taken.

Tests of `models/ops/kernel.py`.
"""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from clipvis_golden import cases, close, tensors
from deform_attn_cases import Arguments, from_offsets, grid_sample_loop, make

from harness.errors import UserError
from harness.models.ops import deform_attn, deformable_attention, fused_deformable_attention, kernel, reference
from harness.models.ops.build import Variant
from harness.models.ops.deform_attn import kernel_status, path_for

FLOAT32 = Variant(torch.float32, torch.float32, channels=8, levels=2, points=2)
FUSED = FLOAT32._replace(fused=True)


@pytest.mark.parametrize("name", cases("a_msda_"))
def test_golden(name: str) -> None:
    case = tensors(name)
    value, locations, weights = (
        case[key].requires_grad_() for key in ("value", "sampling_locations", "attention_weights")
    )
    output = deformable_attention(value, case["spatial_shapes"], locations, weights)
    close(output, case["output"], atol=1e-5, rtol=1e-4)
    output.backward(case["grad_output"])
    assert value.grad is not None
    assert locations.grad is not None
    assert weights.grad is not None
    close(value.grad, case["grad_value"], atol=1e-5, rtol=1e-4)
    close(locations.grad, case["grad_sampling_locations"], atol=1e-4, rtol=1e-4)
    close(weights.grad, case["grad_attention_weights"], atol=1e-5, rtol=1e-4)


def test_gradcheck() -> None:
    value, shapes, locations, weights = make([(3, 4), (2, 2)], queries=3, dim=3, points=2, dtype=torch.float64)
    leaves = [each.requires_grad_() for each in (value, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, at, w: deformable_attention(v, shapes, at, w), leaves)


def test_operator_keeps_its_promises_to_torch() -> None:
    arguments = [each.requires_grad_() if each.is_floating_point() else each for each in make([(3, 4), (2, 2)])]
    results = torch.library.opcheck(torch.ops.harness.deformable_attention, tuple(arguments))
    assert set(results.values()) == {"SUCCESS"}


def test_fused_equals_softmax_and_reference_points_outside() -> None:
    """Offsets and logits into the fused operator, locations and weights into the other: equal up to rounding."""
    made, centres = from_offsets(make([(3, 4), (6, 8)], batch=2, queries=11, heads=3, dim=5))
    value, shapes, offsets, logits = made
    one = [each.clone().requires_grad_() for each in (value, offsets, logits)]
    other = [each.clone().requires_grad_() for each in (value, offsets, logits)]
    locations = centres[:, None, None, None] + other[1] / shapes.flip(-1).float()[:, None]
    weights = other[2].flatten(3).softmax(-1).view(logits.shape)
    expected = deformable_attention(other[0], shapes, locations, weights)
    output = fused_deformable_attention(one[0], shapes, one[1], one[2], centres)
    torch.testing.assert_close(output, expected)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    for got, wanted in zip(torch.autograd.grad(output, one, grad), torch.autograd.grad(expected, other, grad),
                           strict=True):  # fmt: skip
        torch.testing.assert_close(got, wanted)


def test_gradcheck_fused() -> None:
    made, centres = from_offsets(make([(3, 4), (2, 2)], queries=3, dim=3, points=2, dtype=torch.float64))
    leaves = [made.value.requires_grad_(), made[2].requires_grad_(), made[3].requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda v, at, w: fused_deformable_attention(v, made.spatial_shapes, at, w, centres), leaves
    )


def test_fused_operator_keeps_its_promises_to_torch() -> None:
    made, centres = from_offsets(make([(3, 4), (2, 2)]))
    arguments = [each.detach().requires_grad_() if each.is_floating_point() else each for each in made]
    results = torch.library.opcheck(torch.ops.harness.fused_deformable_attention, (*arguments, centres))
    assert set(results.values()) == {"SUCCESS"}


def test_reference_points_that_do_not_fit() -> None:
    made, centres = from_offsets(make([(4, 5)]))
    for points, told in ((centres[1:], r"shape \(7, 2\), got \(6, 2\)"), (centres.requires_grad_(), "requires grad")):
        with pytest.raises(ValueError, match=told):
            fused_deformable_attention(*made, points)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(dynamic: bool) -> None:
    def attend(value: torch.Tensor, shapes: torch.Tensor, at: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return deformable_attention(value * 2, shapes, at, weights.flatten(3).softmax(-1).view(weights.shape)).relu()

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for sizes in ([(3, 4), (2, 2)], [(5, 4), (3, 1)]):
        value, shapes, locations, weights = make(sizes)
        leaf, other = value.clone().requires_grad_(), value.clone().requires_grad_()
        expected, output = attend(leaf, shapes, locations, weights), compiled(other, shapes, locations, weights)
        torch.testing.assert_close(output, expected)
        expected.sum().backward()
        output.sum().backward()
        torch.testing.assert_close(other.grad, leaf.grad)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_wide_locations_go_with_a_narrow_value(stored: torch.dtype) -> None:
    value, shapes, locations, weights = make([(40, 90)], queries=60)
    output = deformable_attention(value.to(stored), shapes, locations, weights.to(stored))
    expected = grid_sample_loop(
        value.to(stored).double(), shapes, locations.double(), weights.to(stored).float().double()
    )
    assert output.dtype == torch.float32
    assert kernel.relative_difference(output, expected) < 1e-5  # narrow locations would be pixels off


def test_views_are_taken_as_they_are() -> None:
    value, shapes, locations, weights = make([(4, 5)], batch=2, dim=6)
    turned = value.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    expected = deformable_attention(value, shapes, locations, weights)
    torch.testing.assert_close(deformable_attention(turned, shapes, locations, weights), expected)


@pytest.mark.parametrize(
    ("replaced", "complaint"),
    [
        ({"value": torch.zeros(1, 20, 16)}, r"value is \(batch, pixels, heads, channels\), got \(1, 20, 16\)"),
        ({"value": torch.zeros(1, 20, 2, 8, dtype=torch.int64)}, "floating-point"),
        ({"sampling_locations": torch.zeros(1, 7, 2, 1, 2)}, "sampling_locations is"),
        ({"sampling_locations": torch.zeros(1, 7, 2, 1, 4, 3)}, r"expected \(1, 7, 2, 1, 4, 2\)"),
        ({"attention_weights": torch.zeros(1, 6, 2, 1, 4)}, r"attention_weights has shape .*\(1, 7, 2, 1, 4\)"),
        ({"spatial_shapes": torch.tensor([[4, 5], [1, 1]])}, r"spatial_shapes has shape \(2, 2\), expected \(1, 2\)"),
        ({"spatial_shapes": torch.tensor([[4, 6]])}, "name 24 pixels, value has 20"),
        ({"spatial_shapes": torch.tensor([[-4, -5]])}, "name 20 pixels, value has 20"),
    ],
)
def test_shapes_that_do_not_fit(replaced: dict[str, torch.Tensor], complaint: str) -> None:
    arguments = make([(4, 5)])._replace(**replaced)
    with pytest.raises(ValueError, match=complaint):
        deformable_attention(*arguments)


def test_status_on_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = kernel_status()
    assert (found["path"], found["device"]) == ("cpu kernel", "cpu")
    assert found["why"] == "torch sees no CUDA device"
    assert set(found["versions"]) == {"cuda-core", "cuda-bindings", "nvrtc"}


def test_the_path_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    assert path_for(torch.device("cpu"), FLOAT32) == ("cpu kernel", "tensors are on cpu")
    assert path_for(torch.device("meta"), FLOAT32) == ("pytorch reference", "tensors are on meta")
    monkeypatch.setattr(kernel, "device_fault", lambda device: None)
    assert path_for(gpu, FLOAT32).name == "cuda kernel"
    assert "float64" in path_for(gpu, FLOAT32._replace(value=torch.float64)).why
    monkeypatch.setattr(kernel, "device_fault", lambda device: "cuda-core is not installed")
    assert path_for(gpu, FLOAT32) == ("pytorch reference", "cuda-core is not installed")
    monkeypatch.setenv("HARNESS_DEFORM_ATTN", "reference")
    assert path_for(gpu, FLOAT32).why == "HARNESS_DEFORM_ATTN=reference"


def loaded_kernel(
    monkeypatch: pytest.MonkeyPatch, error: dict[str, float], variant: Variant = FLOAT32
) -> kernel.Loaded:
    """A stand-in for a kernel on a device: the reference, off by ``error``."""
    name = "fused_deformable_attention" if variant.fused else "deformable_attention"
    plainly, plainly_backward = getattr(reference, name), getattr(reference, f"{name}_backward")

    def forward(_: kernel.Loaded, *arguments: torch.Tensor) -> torch.Tensor:
        return plainly(*arguments) + error.get("output", 0.0)

    def backward(_: kernel.Loaded, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        value, locations, weights = plainly_backward(*arguments)
        return value, locations * (1 + error.get("locations", 0.0)), weights

    monkeypatch.setattr(kernel, "forward", forward)
    monkeypatch.setattr(kernel, "backward", backward)
    return kernel.Loaded(variant, None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [FLOAT32, FUSED])
def test_a_right_kernel_passes_its_check(monkeypatch: pytest.MonkeyPatch, variant: Variant) -> None:
    kernel.check(loaded_kernel(monkeypatch, {}, variant), torch.device("cpu"))


@pytest.mark.parametrize("variant", [FLOAT32, FUSED])
@pytest.mark.parametrize(
    ("error", "named"),
    [({"output": 0.01}, "output"), ({"output": float("nan")}, "output"), ({"locations": 0.01}, "loc")],
)
def test_a_wrong_kernel_is_an_error(
    monkeypatch: pytest.MonkeyPatch, error: dict[str, float], named: str, variant: Variant
) -> None:
    with pytest.raises(UserError, match=rf"kernel's (gradient of )?{named}.*differs.*HARNESS_DEFORM_ATTN=reference"):
        kernel.check(loaded_kernel(monkeypatch, error, variant), torch.device("cpu"))


def test_the_check_covers_more_than_one_block_and_both_sides_of_the_border() -> None:
    for variant in (FLOAT32, FUSED):
        value, shapes, at, _, *centres = kernel._small_case(variant)
        locations = reference._locations(shapes, at, centres[0]) if variant.fused else at
        assert locations.shape[1] > variant.queries_per_block
        assert locations.min() < 0 < 1 < locations.max()
        assert value.shape[1] == shapes.prod(1).sum()


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
TYPES = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
]
CASES: dict[str, dict[str, object]] = {
    "as the model": {"sizes": [(15, 27), (30, 54), (60, 108)], "batch": 2, "queries": 1000, "heads": 8, "dim": 32},
    "odd": {"sizes": [(5, 7), (1, 3)], "batch": 3, "queries": 37, "heads": 3, "dim": 10, "points": 3},
    "one channel": {"sizes": [(4, 4)], "dim": 1, "points": 1},
    "wide heads": {"sizes": [(6, 5)], "queries": 33, "dim": 264},
    "one pixel, a line, a column": {"sizes": [(1, 1), (1, 9), (9, 1)], "queries": 65},
    "mostly outside": {"sizes": [(8, 8), (4, 4)], "queries": 200, "spread": 4.0},
    "no query": {"sizes": [(2, 3)], "queries": 0},
    "no image": {"sizes": [(2, 3)], "batch": 0},
}


def gradients(arguments: Arguments, device: str) -> list[torch.Tensor]:
    """Output and the three gradients, on CPU; the output's gradient is drawn from a fixed seed."""
    value, shapes, locations, weights = (each.to(device) for each in arguments)
    leaves = [each.requires_grad_() for each in (value, locations, weights)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # the reference on a GPU is not what is asked for here
        output = deformable_attention(leaves[0], shapes, leaves[1], leaves[2])
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(5)).to(output)
    return [each.detach().cpu() for each in (output, *torch.autograd.grad(output, leaves, grad))]


@needs_gpu
@pytest.mark.parametrize("types", TYPES, ids=lambda types: f"{types[0]}-{types[1]}".replace("torch.", ""))
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_kernel_equals_reference(case: dict[str, object], types: tuple[torch.dtype, torch.dtype]) -> None:
    value, shapes, locations, weights = make(**case)  # type: ignore[arg-type]
    arguments = Arguments(value.to(types[0]), shapes, locations.to(types[1]), weights.to(types[1]))
    for actual, expected in zip(gradients(arguments, "cuda"), gradients(arguments, "cpu"), strict=True):
        assert actual.shape == expected.shape
        assert kernel.relative_difference(actual, expected) <= kernel.KERNEL_TOLERANCE[expected.dtype]


@needs_gpu
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["as the model", "odd", "wide heads", "mostly outside"])
def test_fused_kernel_equals_reference(name: str, stored: torch.dtype) -> None:
    made, centres = from_offsets(make(**CASES[name]))  # type: ignore[arg-type]
    value, shapes, offsets, logits = made
    results = []
    for device in ("cuda", "cpu"):
        leaves = [each.to(device, stored).requires_grad_() for each in (value, offsets, logits)]
        output = fused_deformable_attention(leaves[0], shapes.to(device), *leaves[1:], centres.to(device))
        grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(5)).to(output)
        results.append([each.detach().cpu() for each in (output, *torch.autograd.grad(output, leaves, grad))])
    for actual, expected in zip(*results, strict=True):
        assert kernel.relative_difference(actual, expected) <= kernel.KERNEL_TOLERANCE[stored]


@needs_gpu
@pytest.mark.parametrize("fused", [False, True])
def test_kernel_can_be_captured_in_a_graph(fused: bool) -> None:
    made = make([(6, 8), (3, 4)], queries=48)
    operator = fused_deformable_attention if fused else deformable_attention
    raw, centres = from_offsets(made)
    arguments = [each.cuda() for each in ((*raw, centres) if fused else made)]
    expected = operator(*arguments).clone()  # compiles, loads and checks
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = operator(*arguments)
    output.zero_()
    graph.replay()
    torch.testing.assert_close(output, expected)


@needs_gpu
def test_kernel_runs_on_the_current_stream() -> None:
    arguments = [each.cuda() for each in make([(6, 8), (3, 4)], queries=48)]
    expected = deformable_attention(*arguments)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        doubled = [arguments[0] * 2, *arguments[1:]]
        output = deformable_attention(*doubled)
    stream.synchronize()
    torch.testing.assert_close(output, expected * 2)


@needs_gpu
def test_sizes_on_the_device_that_do_not_fit_give_no_number() -> None:
    value, _, locations, weights = (each.cuda() for each in make([(6, 8)]))
    assert deformable_attention(value, torch.tensor([[600, 800]], device="cuda"), locations, weights).isnan().all()


@needs_gpu
def test_status_on_a_gpu() -> None:
    found = kernel_status()
    assert found["path"] == "cuda kernel", found["why"]


def test_deterministic_algorithms_are_honoured() -> None:
    """The backward kernel adds by atomics: an error or a warning, as PyTorch's own operators give."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        kernel.alert_not_deterministic()
        torch.use_deterministic_algorithms(True)
        with pytest.raises(RuntimeError, match=r"adds by atomics.*HARNESS_DEFORM_ATTN=reference"):
            kernel.alert_not_deterministic()
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="adds by atomics"):
            kernel.alert_not_deterministic()
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.mark.parametrize("fused", [False, True])
def test_a_backward_pass_by_the_kernel_is_refused_where_algorithms_are_to_be_deterministic(
    monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    """The kernel is a stand-in. The forward pass, and both passes on a CPU, are deterministic."""
    made = make([(6, 8), (3, 4)], queries=7)
    raw, centres = from_offsets(made)
    arguments = [*raw, centres] if fused else list(made)
    arguments[0].requires_grad_()
    operator = fused_deformable_attention if fused else deformable_attention
    plainly = reference.fused_deformable_attention if fused else reference.deformable_attention
    back = reference.fused_deformable_attention_backward if fused else reference.deformable_attention_backward
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        operator(*arguments).sum().backward()
        monkeypatch.setattr(deform_attn, "_on_cpu", lambda *_: False)
        operator(*arguments).sum().backward()  # the reference
        monkeypatch.setattr(deform_attn, "_kernel_for", lambda *_, **__: object())
        monkeypatch.setattr(kernel, "forward", lambda _, *given: plainly(*given))
        monkeypatch.setattr(kernel, "backward", lambda _, *given: back(*given))
        output = operator(*arguments)
        with pytest.raises(RuntimeError, match=r"adds by atomics.*HARNESS_DEFORM_ATTN=reference"):
            output.sum().backward()
        torch.use_deterministic_algorithms(True, warn_only=True)
        output = operator(*arguments)
        with pytest.warns(UserWarning, match="adds by atomics"):
            output.sum().backward()
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        (2, "sampling_offsets is on meta, value on cpu"),
        (3, "attention_logits is on meta, value on cpu"),
        (4, "reference_points is on meta, value on cpu"),
    ],
)
def test_arguments_on_different_devices_are_refused(place: int, complaint: str) -> None:
    """A kernel would read the memory of another device."""
    raw, centres = from_offsets(make([(6, 8)], queries=7))
    arguments = [*raw, centres]
    arguments[place] = arguments[place].to("meta")
    with pytest.raises(ValueError, match=complaint):
        fused_deformable_attention(*arguments)


def test_sizes_that_are_no_integers_are_refused() -> None:
    value, shapes, *others = make([(6, 8)], queries=7)
    with pytest.raises(ValueError, match=r"spatial_shapes are integers, got torch.float32"):
        deformable_attention(value, shapes.float(), *others)


@pytest.mark.parametrize("empty", ["batch", "queries", "heads", "channels", "points"])
def test_empty_arguments_need_no_kernel(empty: str) -> None:
    sizes = {"batch": 2, "queries": 3, "heads": 2, "channels": 4, "points": 2} | {empty: 0}
    batch, queries, heads, channels, points = sizes.values()
    arguments = (
        torch.ones(batch, 6, heads, channels, requires_grad=True),
        torch.tensor([[2, 3]]),
        torch.ones(batch, queries, heads, 1, points, 2),
        torch.ones(batch, queries, heads, 1, points),
    )
    output = deformable_attention(*arguments)
    assert output.shape == (batch, queries, heads * channels)
    assert not output.any()
    output.sum().backward()
    assert not arguments[0].grad.any()  # type: ignore[union-attr]
    on_gpu = [SimpleNamespace(device=torch.device("cuda"), numel=each.numel) for each in arguments]
    assert deform_attn._kernel_for(on_gpu[0], on_gpu[2]) is None  # type: ignore[arg-type]
