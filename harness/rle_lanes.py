"""Areas of sixteen compressed masks at once, in the lanes of a vector: the inner loop of `harness.rle.areas`.

A character of COCO's string depends on those before it, so one mask after another leaves most of a processor idle.
Here each lane of a vector walks through a different mask, one character per step and without branches. LLVM turns it
into what the processor has: one instruction for all lanes, or several.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
CHARACTERS = 8
"""Characters that are loaded at once: the text has to be at least this long."""
MOST_LANE_PIXELS = 1 << 28
"""Masks of fewer pixels fit the lanes: no sum in them can overflow."""

_BIT, _INT, _LONG = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_INTS, _FLAGS = ir.VectorType(_INT, LANES), ir.VectorType(_BIT, LANES)


@intrinsic
def areas_of_lanes(
    typing_context: Any, data: Any, start: Any, size: Any, pixels: Any, is_escaped: Any, longest: Any, out: Any
) -> Any:
    """Write the areas in pixels of `LANES` masks to ``out (LANES,)``, or -1 where `decode_rles` has to look.

    Mask ``l`` is ``data[start[l]:start[l] + size[l]]`` and of ``pixels[l]`` pixels, fewer than `MOST_LANE_PIXELS`; with
    ``is_escaped[l]`` a backslash in it stands behind another one, as in JSON text. ``longest`` is the largest ``size``.
    ``start (LANES,)`` is int64, the other arrays int32.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 1, 2, 3, 4, 6)]
        text, starts, *others = [array.data for array in arrays]
        last = builder.sub(builder.extract_value(arrays[0].shape, 0), _LONG(CHARACTERS))
        begin = [builder.load(builder.gep(starts, [_LONG(lane)])) for lane in range(LANES)]
        length, most, escaped = (builder.load(_as_vector(builder, one), align=4) for one in others[:3])
        result = _walk(builder, text, begin, last, length, most, escaped, values[5])
        builder.store(result, _as_vector(builder, others[3]), align=4)
        return context.get_dummy_value()

    return types.void(data, start, size, pixels, is_escaped, longest, out), generate


def _walk(
    builder: Any, text: Any, begin: list[Any], last: Any, length: Any, most: Any, escaped: Any, longest: Any
) -> Any:
    """Generate the loop over characters; return the vector of results. ``last`` is the last place to load from."""
    escaped = builder.icmp_signed("!=", escaped, _all(0))
    zero, no, yes = _all(0), ir.Constant(_FLAGS, [0] * LANES), ir.Constant(_FLAGS, [1] * LANES)
    state = dict.fromkeys(("number", "shift", "before", "previous", "total", "ones", "wrong"), zero)
    state |= {"is_one": no, "after_backslash": no, "is_first": yes}
    entry, loop, end = builder.block, builder.append_basic_block("characters"), builder.append_basic_block("end")
    builder.branch(loop)
    builder.position_at_end(loop)
    place = builder.phi(_LONG)
    place.add_incoming(_LONG(0), entry)
    phis = {}
    for name, value in state.items():
        phis[name] = builder.phi(value.type)
        phis[name].add_incoming(value, entry)
    state = dict(phis)
    words = _words(builder, text, begin, last, place)
    left = builder.sub(length, _spread(builder, builder.trunc(place, _INT)))
    for k in range(CHARACTERS):
        character = builder.and_(builder.lshr(words[k // 4], _all(8 * (k % 4))), _all(255))
        is_inside = builder.icmp_signed(">", left, _all(k))
        state = _step(builder, state, builder.sub(character, _all(48)), is_inside, most, escaped)
    following = builder.add(place, _LONG(CHARACTERS))
    place.add_incoming(following, builder.block)
    for name, phi in phis.items():
        phi.add_incoming(state[name], builder.block)
    builder.cbranch(builder.icmp_signed("<", following, longest), loop, end)
    builder.position_at_end(end)
    is_sound = builder.and_(
        builder.icmp_signed("==", state["total"], most), builder.icmp_signed(">=", state["wrong"], zero)
    )
    is_sound = builder.and_(is_sound, builder.icmp_signed("==", state["shift"], zero))
    is_sound = builder.and_(is_sound, builder.not_(state["after_backslash"]))
    return builder.select(is_sound, state["ones"], _all(-1))


def _words(builder: Any, text: Any, begin: list[Any], last: Any, place: Any) -> list[Any]:
    """The next eight characters of every lane, as two vectors of four in each integer."""
    words = [ir.Constant(_INTS, ir.Undefined)] * 2
    for lane, start in enumerate(begin):
        at = builder.add(start, place)
        at = builder.select(builder.icmp_signed("<", at, last), at, last)  # a lane that has ended reads anything
        pointer = builder.bitcast(builder.gep(text, [at]), _INT.as_pointer())
        for half in range(2):
            word = builder.load(builder.gep(pointer, [_INT(half)]), align=1)
            words[half] = builder.insert_element(words[half], word, _INT(lane))
    return words


def _step(builder: Any, state: dict[str, Any], c: Any, is_inside: Any, most: Any, escaped: Any) -> dict[str, Any]:
    """Generate one character ``c`` (less 48) of every lane, see `harness.rle.decode_rles` for the encoding.

    A sum is negative in ``wrong`` if anything was not as it should be. ``before`` is the number two places back.
    """
    zero, shift = _all(0), state["shift"]
    is_backslash = builder.and_(builder.and_(builder.icmp_signed("==", c, _all(44)), escaped), is_inside)
    skips = builder.and_(is_backslash, builder.not_(state["after_backslash"]))
    is_lone = builder.and_(state["after_backslash"], builder.not_(is_backslash))
    takes = builder.and_(is_inside, builder.not_(skips))
    digits = builder.shl(builder.and_(c, _all(31)), builder.and_(shift, _all(31)))
    number = builder.or_(state["number"], digits)
    unused = builder.and_(builder.sub(_all(27), shift), _all(31))
    value = builder.add(builder.ashr(builder.shl(number, unused), unused), state["before"])  # with its sign
    ends = builder.and_(takes, builder.icmp_signed("<", c, _all(32)))
    total = builder.select(ends, builder.add(state["total"], value), state["total"])
    counts = builder.and_(ends, state["is_one"])
    faults = builder.or_(builder.or_(value, builder.sub(most, total)), builder.sub(_all(25), shift))
    wrong = builder.or_(state["wrong"], builder.select(ends, faults, zero))
    wrong = builder.or_(wrong, builder.select(takes, builder.or_(c, builder.sub(_all(63), c)), zero))
    return {
        "number": builder.select(ends, zero, builder.select(takes, number, state["number"])),
        "shift": builder.select(ends, zero, builder.select(takes, builder.add(shift, _all(5)), shift)),
        "before": builder.select(ends, state["previous"], state["before"]),
        # the third number is no difference to the first one
        "previous": builder.select(ends, builder.select(state["is_first"], zero, value), state["previous"]),
        "total": total,
        "ones": builder.select(counts, builder.add(state["ones"], value), state["ones"]),
        "wrong": builder.select(is_lone, _all(-1), wrong),
        "is_one": builder.xor(state["is_one"], ends),
        "after_backslash": skips,
        "is_first": builder.and_(state["is_first"], builder.not_(ends)),
    }


def _all(value: int) -> Any:
    """A vector of one integer in all lanes."""
    return ir.Constant(_INTS, [value] * LANES)


def _spread(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_INTS, ir.Undefined), value, _INT(0))
    return builder.shuffle_vector(one, ir.Constant(_INTS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))


def _as_vector(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, _INTS.as_pointer())
