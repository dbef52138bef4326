"""Multi-scale deformable attention on a CPU: one pass over the samples, forward and backward, compiled by numba.

Deformable DETR, equation 3. Every sample reads four rows of ``value``, each weighted by attention times its bilinear
weight; sums run over the channels of a row, which are adjacent in memory, in vector registers. Softmax and
reference points of the fused operator are part of the pass. Results are those of ``reference`` up to the order of sums
and the last bits of the exponential function. float16 and bfloat16 are converted to float32 first.

Threads: as many as ``torch.get_num_threads()`` allows. Each writes different rows (queries in the forward pass, heads
of an image in the backward pass), so the number of threads changes no bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from harness.compiled import INNER

SAMPLES_PER_THREAD = 1 << 14
"""With fewer samples than this, another thread costs more time than it saves."""
WIDE, NARROW = 32, 16
"""Channels summed at a time in vector registers: those of a head in the released models, and in the miniatures."""

AnyFloats = NDArray[np.floating]


class Places(NamedTuple):
    """Positions of the samples of a query; arrays ``(M*L*P,)`` in the order head, level, point."""

    height: NDArray[np.int32]
    """Lines of the sample's level."""
    width: NDArray[np.int32]
    start: NDArray[np.int32]
    """Pixel of ``value`` with which the level starts."""
    scale: AnyFloats
    """``(2*M*L*P,)``, by what ``(x, y)`` of a point is divided before its query's reference point is added."""
    reference_points: AnyFloats
    """``(Lq, 2)``; zero where points are locations."""


def forward(
    value: Tensor, spatial_shapes: Tensor, points: Tensor, weights: Tensor, reference_points: Tensor | None = None
) -> Tensor:
    """Sum ``value`` ``(N, S, M, D)`` sampled at ``points``, weighted by ``weights``: ``(N, Lq, M * D)``.

    ``points`` ``(N, Lq, M, L, P, 2)`` are locations in [0, 1] and ``weights`` ``(N, Lq, M, L, P)`` weights; with
    ``reference_points`` ``(Lq, 2)`` they are offsets from these in pixels of each level, and logits. The result has
    the points' type.
    """
    batch, _, heads, dim = value.shape
    queries = points.shape[1]
    table, at, weigh = (_array(each, value.dtype) for each in (value, points, weights))
    places = _places(spatial_shapes, points, reference_points, value.dtype)
    output = np.empty((batch, queries, heads, dim), table.dtype)
    threads = _threads(weigh.size)
    cuts = [queries * part // threads for part in range(threads + 1)]
    _run(
        [
            partial(
                _sample,
                table[n].reshape(-1),
                *places,
                at[n].reshape(queries, -1),
                weigh[n].reshape(queries, -1),
                output[n],
                begin,
                end,
                reference_points is not None,
            )
            for n in range(batch)
            for begin, end in pairwise(cuts)
        ],
        threads,
    )
    return torch.from_numpy(output.reshape(batch, queries, heads * dim)).to(points.dtype)


def backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    points: Tensor,
    weights: Tensor,
    reference_points: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, points and weights, each of its argument's shape and type; arguments as in `forward`."""
    batch, _, heads, dim = value.shape
    queries = points.shape[1]
    table, at, weigh, grads = (_array(each, value.dtype) for each in (value, points, weights, grad_output))
    grads = grads.reshape(batch, queries, heads, dim)
    places = _places(spatial_shapes, points, reference_points, value.dtype)
    grad_table, grad_at, grad_weigh = np.zeros_like(table), np.empty_like(at), np.empty_like(weigh)
    _run(
        [
            partial(
                _sample_backward,
                grads[n],
                table[n].reshape(-1),
                *places,
                at[n].reshape(queries, heads, -1),
                weigh[n].reshape(queries, heads, -1),
                grad_table[n].reshape(-1),
                grad_at[n].reshape(queries, heads, -1, 2),
                grad_weigh[n].reshape(queries, heads, -1),
                head,
                reference_points is not None,
            )
            for n in range(batch)
            for head in range(heads)
        ],
        _threads(weigh.size),
    )
    return (
        torch.from_numpy(grad_table).to(value.dtype),
        torch.from_numpy(grad_at).to(points.dtype),
        torch.from_numpy(grad_weigh).to(weights.dtype),
    )


def _array(tensor: Tensor, dtype: torch.dtype) -> AnyFloats:
    """The tensor in memory order, as float64 with a float64 ``value`` and as float32 otherwise."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    array: AnyFloats = tensor.detach().to(wide).contiguous().numpy()
    return array


def _places(spatial_shapes: Tensor, points: Tensor, reference_points: Tensor | None, dtype: torch.dtype) -> Places:
    _, queries, heads, levels, samples, _ = points.shape
    sizes = spatial_shapes.to(torch.int32).cpu().numpy()
    area = sizes.prod(axis=1, dtype=np.int32)
    of_sample = np.tile(np.repeat(np.arange(levels), samples), heads)
    height, width = sizes[:, 0][of_sample], sizes[:, 1][of_sample]
    start = (area.cumsum(dtype=np.int32) - area)[of_sample]
    if reference_points is None:
        nowhere = _array(torch.zeros(queries, 2), dtype)
        return Places(height, width, start, np.ones(2 * len(of_sample), nowhere.dtype), nowhere)
    centres = _array(reference_points, dtype)
    scale = np.stack([width, height], axis=1).astype(centres.dtype).reshape(-1)
    return Places(height, width, start, scale, centres)


def _threads(samples: int) -> int:
    return max(1, min(torch.get_num_threads(), samples // SAMPLES_PER_THREAD))


def _run(tasks: list[Callable[[], None]], threads: int) -> None:
    """Run the tasks. The threads end with the call: a permanent pool would be lost in a forked process."""
    if threads == 1:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


class _VectorCode:
    """LLVM's vector operations on ``lanes`` channels, for the functions below.

    They are written as vector code because the compiler's own loops keep the sums in memory and check at each sample
    whether the arrays overlap: twice the time of the whole pass.
    """

    def __init__(self, context: Any, builder: Any, array: Any, lanes: int) -> None:
        self.context, self.builder, self.lanes = context, builder, lanes
        self.element = context.get_data_type(array.dtype)
        self.align = 8 if isinstance(self.element, ir.DoubleType) else 4
        self.vector = ir.VectorType(self.element, lanes)
        self.suffix = f"v{lanes}f{8 * self.align}"
        self.zero = ir.Constant(self.vector, [0.0] * lanes)

    def data(self, kind: Any, array: Any) -> Any:
        """Pointer to the first element."""
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def load(self, pointer: Any) -> Any:
        return self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.align)

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.align)

    def repeat(self, scalar: Any) -> Any:
        """A vector of one value."""
        undefined, lane = ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        one = self.builder.insert_element(undefined, scalar, ir.Constant(lane, 0))
        return self.builder.shuffle_vector(
            one, undefined, ir.Constant(ir.VectorType(lane, self.lanes), [0] * self.lanes)
        )

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fma.{self.suffix}"), [a, b, c]
        )

    def total(self, vector: Any) -> Any:
        """Sum of the lanes, in any order."""
        kind = ir.FunctionType(self.element, [self.element, self.vector])
        reduce = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.vector.reduce.fadd.{self.suffix}")
        return self.builder.call(reduce, [ir.Constant(self.element, 0.0), vector], fastmath=("reassoc",))


def _summing(lanes: int) -> Any:
    """A function for compiled code, ``(sums, table, rows, shares, count, stride)``.

    It sets ``sums[:lanes]`` to the sum of ``shares[k] * table[rows[k]:][:lanes]`` over ``count`` samples of four
    corners each; corner c of sample k is at ``c * stride + k`` of ``rows`` and ``shares``.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _VectorCode(context, builder, signature.args[1], lanes)
        to, source, at, weigh = map(code.data, signature.args[:4], arguments[:4])
        samples, apart = arguments[4:]
        total = cgutils.alloca_once(builder, code.vector)
        builder.store(code.zero, total)
        with cgutils.for_range(builder, samples) as loop:
            current = builder.load(total)
            for corner in range(4):
                index = builder.add(builder.mul(apart, ir.Constant(apart.type, corner)), loop.index)
                share = code.repeat(builder.load(builder.gep(weigh, [index])))
                row = code.load(builder.gep(source, [builder.load(builder.gep(at, [index]))]))
                current = code.multiply_add(share, row, current)
            builder.store(current, total)
        code.store(builder.load(total), to)
        return context.get_dummy_value()

    def sum_rows(typingctx: Any, sums: Any, table: Any, rows: Any, shares: Any, count: Any, stride: Any) -> Any:
        return types.void(sums, table, rows, shares, count, stride), generate

    return intrinsic(sum_rows)


def _differentiating(lanes: int) -> Any:
    """A function for compiled code, ``(grad, row, grad_row, share)``.

    It adds ``share * grad[:lanes]`` to ``grad_row`` and returns the sum of ``grad * row`` over the lanes.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _VectorCode(context, builder, signature.args[1], lanes)
        of_grad, of_row, to = map(code.data, signature.args[:3], arguments[:3])
        above = code.load(of_grad)
        code.store(code.multiply_add(code.repeat(arguments[3]), above, code.load(to)), to)
        return code.total(builder.fmul(above, code.load(of_row)))

    def row_backward(typingctx: Any, grad: Any, row: Any, grad_row: Any, share: Any) -> Any:
        return row.dtype(grad, row, grad_row, share), generate

    return intrinsic(row_backward)


_sum_wide, _sum_narrow = _summing(WIDE), _summing(NARROW)
_wide_backward, _narrow_backward = _differentiating(WIDE), _differentiating(NARROW)


@numba.njit(**INNER, error_model="numpy")
def _softmax(logits, heads):
    """Replace each head's part of ``logits`` ``(samples,)`` with its softmax."""
    each = logits.shape[0] // heads
    for begin in range(0, logits.shape[0], each):
        most = logits[begin]
        for k in range(begin, begin + each):
            most = max(most, logits[k])
        total = logits.dtype.type(0)
        for k in range(begin, begin + each):
            logits[k] = np.exp(logits[k] - most)
            total += logits[k]
        for k in range(begin, begin + each):
            logits[k] /= total


@numba.njit(**INNER, fastmath={"contract"}, error_model="numpy")
def _corners(height, width, start, scale, centre_x, centre_y, points, row_step, corners, fractions):
    """The four pixels around each sample of a query, and the sample's position between them.

    Fills for each sample ``corners`` ``(6, samples)``: offsets into the flat table of the pixels at left and right of
    the top line, then of the bottom line, moved into the map; then which of left (1) and right (2) are on the map, and
    which of top (1) and bottom (2). And ``fractions`` ``(2, samples)``, the distance from left and top in [0, 1).
    No branch and eight outputs, since with more the compiler gives up vector code.
    """
    real = points.dtype.type
    half, zero, lowest, highest, none, one = real(0.5), real(0), real(-2), real(3), np.int32(0), np.int32(1)
    for k in range(corners.shape[1]):
        x, y = centre_x + points[2 * k] / scale[2 * k], centre_y + points[2 * k + 1] / scale[2 * k + 1]
        # still outside, but no infinity, whose fraction is not a number; NaN stays, and weighs as NaN
        x = (min(max(x, lowest), highest) if x == x else x) * real(width[k]) - half
        y = (min(max(y, lowest), highest) if y == y else y) * real(height[k]) - half
        low_x, low_y = np.floor(x), np.floor(y)
        fractions[0, k], fractions[1, k] = x - low_x, y - low_y
        left, top = np.int32(low_x if x == x else zero), np.int32(low_y if y == y else zero)
        right, bottom = np.int32(left + one), np.int32(top + one)
        last_x, last_y = np.int32(width[k] - one), np.int32(height[k] - one)
        left_at, right_at = min(max(left, none), last_x), min(max(right, none), last_x)
        top_at, bottom_at = min(max(top, none), last_y), min(max(bottom, none), last_y)
        upper, lower = np.int32(start[k] + top_at * width[k]), np.int32(start[k] + bottom_at * width[k])
        corners[0, k], corners[1, k] = np.int64(upper + left_at) * row_step, np.int64(upper + right_at) * row_step
        corners[2, k], corners[3, k] = np.int64(lower + left_at) * row_step, np.int64(lower + right_at) * row_step
        corners[4, k] = np.int64(left_at == left) + 2 * np.int64(right_at == right)
        corners[5, k] = np.int64(top_at == top) + 2 * np.int64(bottom_at == bottom)


@numba.njit(**INNER, fastmath={"contract"}, error_model="numpy")
def _shares(attention, corners, fractions, shares):
    """The factor of each corner's row, ``(4, samples)``: attention times bilinear weight, zero off the map."""
    real = attention.dtype.type
    one = real(1)
    for k in range(attention.shape[0]):
        left = (one - fractions[0, k]) * real(corners[4, k] & 1)
        right = fractions[0, k] * real(corners[4, k] >> 1)
        top = attention[k] * (one - fractions[1, k]) * real(corners[5, k] & 1)
        bottom = attention[k] * fractions[1, k] * real(corners[5, k] >> 1)
        shares[0, k], shares[1, k], shares[2, k], shares[3, k] = top * left, top * right, bottom * left, bottom * right


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _sample(table, height, width, start, scale, reference_points, points, weights, output, begin, end, softmax):
    """Fill queries ``begin`` to ``end`` of ``output`` ``(Lq, M, D)``, one image.

    Other arrays as in `forward`, without N; ``table`` is flat, ``points`` and ``weights`` have two dimensions.
    """
    _, heads, dim = output.shape
    of_query, of_head = height.shape[0], height.shape[0] // heads
    zero = table.dtype.type(0)
    corners = np.empty((6, of_query), np.int64)
    fractions = np.empty((2, of_query), table.dtype)
    shares = np.empty((4, of_query), table.dtype)
    attention = np.empty(of_query, table.dtype)
    wide, narrow = dim - dim % WIDE, dim - dim % NARROW
    # no slice is assigned to and no array reshaped or unpacked: compiling their checks takes longer than all the rest
    for query in range(begin, end):
        for k in range(of_query):
            attention[k] = weights[query, k]
        if softmax:
            _softmax(attention, heads)
        centre_x, centre_y = reference_points[query, 0], reference_points[query, 1]
        _corners(height, width, start, scale, centre_x, centre_y, points[query], heads * dim, corners, fractions)
        _shares(attention, corners, fractions, shares)
        for head in range(heads):
            first, of_table, sums = head * of_head, table[head * dim :], output[query, head]
            for begin_at in range(0, wide, WIDE):
                _sum_wide(
                    sums[begin_at:], of_table[begin_at:], corners[:, first:], shares[:, first:], of_head, of_query
                )
            for begin_at in range(wide, narrow, NARROW):
                _sum_narrow(
                    sums[begin_at:], of_table[begin_at:], corners[:, first:], shares[:, first:], of_head, of_query
                )
            for channel in range(narrow, dim):
                sums[channel] = zero
            for k in range(first, first + of_head):
                for corner in range(4):
                    row, share = corners[corner, k], shares[corner, k]
                    for channel in range(narrow, dim):
                        sums[channel] += share * of_table[row + channel]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _sample_backward(
    grads, table, height, width, start, scale, reference_points, points, weights,
    grad_table, grad_points, grad_weights, head, softmax,
):  # fmt: skip
    """Gradients of one image and head: adds to ``grad_table``, fills the head's part of the others.

    Arrays of one image; tables are flat, samples of a head are one dimension.
    """
    queries, heads, dim = grads.shape
    of_head = height.shape[0] // heads
    begin = head * of_head
    real = table.dtype.type
    last, wide, narrow = begin + of_head, dim - dim % WIDE, dim - dim % NARROW
    products = np.empty(4, table.dtype)
    corners = np.empty((6, of_head), np.int64)
    fractions = np.empty((2, of_head), table.dtype)
    shares = np.empty((4, of_head), table.dtype)
    attention = np.empty(of_head, table.dtype)
    of_table, grad_of_table = table[head * dim :], grad_table[head * dim :]
    for query in range(queries):
        for k in range(of_head):
            attention[k] = weights[query, head, k]
        if softmax:
            _softmax(attention, 1)
        centre_x, centre_y = reference_points[query, 0], reference_points[query, 1]
        _corners(
            height[begin:last], width[begin:last], start[begin:last], scale[2 * begin : 2 * last],
            centre_x, centre_y, points[query, head], heads * dim, corners, fractions,
        )  # fmt: skip
        _shares(attention, corners, fractions, shares)
        grad = grads[query, head]
        mean = real(0)
        for k in range(of_head):
            for corner in range(4):
                row, share, product = corners[corner, k], shares[corner, k], real(0)
                for first in range(0, wide, WIDE):
                    product += _wide_backward(
                        grad[first:], of_table[row + first :], grad_of_table[row + first :], share
                    )
                for first in range(wide, narrow, NARROW):
                    product += _narrow_backward(
                        grad[first:], of_table[row + first :], grad_of_table[row + first :], share
                    )
                for channel in range(narrow, dim):
                    product += grad[channel] * of_table[row + channel]
                    grad_of_table[row + channel] += share * grad[channel]
                products[corner] = product
            left_top, right_top, left_bottom, right_bottom = products[0], products[1], products[2], products[3]
            left_in, right_in = real(corners[4, k] & 1), real(corners[4, k] >> 1)
            top_in, bottom_in = real(corners[5, k] & 1), real(corners[5, k] >> 1)
            left, right = (real(1) - fractions[0, k]) * left_in, fractions[0, k] * right_in
            top, bottom = (real(1) - fractions[1, k]) * top_in, fractions[1, k] * bottom_in
            of_top, of_bottom = left_top * left + right_top * right, left_bottom * left + right_bottom * right
            of_left, of_right = left_top * top + left_bottom * bottom, right_top * top + right_bottom * bottom
            sample = begin + k
            grad_points[query, head, k, 0] = (
                attention[k] * real(width[sample]) * (of_right * right_in - of_left * left_in) / scale[2 * sample]
            )
            grad_points[query, head, k, 1] = (
                attention[k] * real(height[sample]) * (of_bottom * bottom_in - of_top * top_in) / scale[2 * sample + 1]
            )
            grad_weights[query, head, k] = of_top * top + of_bottom * bottom
            mean += attention[k] * grad_weights[query, head, k]
        if softmax:
            for k in range(of_head):
                grad_weights[query, head, k] = attention[k] * (grad_weights[query, head, k] - mean)
