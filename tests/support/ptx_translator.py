"""PTX to C++: an entry of a module becomes a function that runs one thread up to its next synchronisation.

Registers are kept as bits. Control flow stays as it is, by ``goto``; a synchronisation stores where the thread stands
and returns, and a ``switch`` at the function's start goes on from there. ``ptx_runtime.h`` has what the C++ calls.

Only instructions and modifiers that NVRTC emits for ``deform_attn.cu`` are known. Any other is an error that quotes its
line, so nothing is ever run that is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

SPECIAL_REGISTERS = {
    "%tid.x": "lane.thread",
    "%ctaid.x": "launch.block",
    "%ntid.x": "launch.threads",
    "%nctaid.x": "launch.blocks",
}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
OPPOSITES = {"neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
"""Comparisons that are also true for not-a-number, as what must not hold."""
TWICE_AS_WIDE = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}


class UnknownInstructionError(Exception):
    """PTX that this translator has no meaning for."""


class Entry(NamedTuple):
    """A kernel of a PTX module."""

    name: str
    parameters: int
    body: list[tuple[int, str]]
    """Number of the line, from 1 at the entry's first, and text of each statement."""


def translate(ptx: str, name: str) -> str:
    """The C++ of a module's entry, exported as a ``Kernel`` of its own name."""
    return '#include "ptx_runtime.h"\n\n' + _Function(find_entry(ptx, name)).text()


def find_entry(ptx: str, name: str) -> Entry:
    """Cut an entry out of a module; raises ``ValueError`` where there is none of this name."""
    lines = ptx.split("\n")
    lines = lines[lines.index(f".visible .entry {name}(") :]
    first, end = lines.index("{"), lines.index("}")
    parameters = sum(".param" in each for each in lines[:first])
    statements = [(i + 1, re.sub(r"//.*", "", lines[i]).strip()) for i in range(first + 1, end)]
    return Entry(name, parameters, [(line, text) for line, text in statements if text not in ("", "{", "}")])


class _Instruction(NamedTuple):
    """``@guard name.modifiers.type operands;``"""

    function: _Function
    line: int
    name: str
    modifiers: tuple[str, ...]
    """What stands between name and type."""
    type: str
    operands: list[str]

    def read(self, operand: int, type_: str | None = None) -> str:
        """C++ for the value of an operand, by default of the instruction's own type."""
        return self.function.read(self.operands[operand], type_ or self.type)

    def write(self, expression: str, type_: str | None = None) -> str:
        """C++ that stores ``expression`` in the first operand."""
        return self.function.write(self.operands[0], expression, type_ or self.type)

    def modified_by(self, *known: str) -> set[str]:
        """The modifiers, which must be among ``known``."""
        if not set(self.modifiers) <= set(known):
            raise UnknownInstructionError(f"modifiers of {self.name}")
        return set(self.modifiers)


class _Function:
    """One entry as C++."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.registers: dict[str, tuple[str, int]] = {}
        """C++ type and number of each register file, such as ``%rd``."""
        self.shared: dict[str, int] = {}
        """Where each variable lies in shared memory."""
        self.shared_bytes = 0
        self.stops = 0
        """Synchronisations so far; each has a number from 1."""

    def text(self) -> str:
        """The function, its registers and its ``Kernel``."""
        name = self.entry.name
        code = "\n".join(self._statement(line, text) for line, text in self.entry.body)
        files = " ".join(f"{kind} {file[1:]}[{count}];" for file, (kind, count) in self.registers.items())
        resume = " ".join(f"case {stop}: goto stop_{stop};" for stop in range(1, self.stops + 1))
        return (
            f"struct {name}_lane : Lane {{ {files} }};\n"
            f"static void {name}_run(Lane& base, const u64* parameters) {{\n"
            f"auto& lane = static_cast<{name}_lane&>(base);\n"
            f"switch (lane.at) {{ {resume} }}\n{code}\nlane.state = State::EXITED;\n}}\n"
            f'extern "C" const Kernel {name};\n'
            f"const Kernel {name}{{{self.entry.parameters}, {self.shared_bytes}, sizeof({name}_lane), {name}_run}};\n"
        )

    def read(self, operand: str, type_: str) -> str:
        """C++ for the value of a register, a constant or a shared variable's address."""
        if operand in SPECIAL_REGISTERS:
            return f"{_c_type(type_)}({SPECIAL_REGISTERS[operand]})"
        if operand.startswith("%"):
            place = self._register(operand)
            return (
                place if type_ == "pred" else f"as_float({place})" if type_ == "f32" else f"{_c_type(type_)}({place})"
            )
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", operand):
            bits = f"0x{operand[2:]}u"
            return f"as_float({bits})" if type_ == "f32" else bits
        if operand in self.shared:
            return f"{_c_type(type_)}({self.shared[operand]})"
        if type_ == "f32" or re.fullmatch(r"-?\d+", operand) is None:
            raise UnknownInstructionError(f"operand {operand}")
        return f"{_c_type(type_)}({int(operand) % 2**64}ull)"

    def write(self, operand: str, expression: str, type_: str) -> str:
        """C++ that stores an expression in a register, sign or zero extended as its own type has it."""
        bits = f"as_bits({expression})" if type_ == "f32" else expression
        return f"{self._register(operand)} = {bits};"

    def address(self, operand: str) -> str:
        """C++ for ``[register+offset]``."""
        found = re.fullmatch(r"\[([%\w$]+)(?:\+(-?\d+))?\]", operand)
        if found is None:
            raise UnknownInstructionError(f"address {operand}")
        return f"u64({self.read(found[1], 'u64')} + ({found[2] or 0}ll))"

    def stop(self, line: int, state: str, details: str = "") -> str:
        """C++ that lets the thread wait for others and goes on behind that."""
        self.stops += 1
        return (
            f"lane.line = {line}; {details} lane.at = {self.stops}; lane.state = State::{state}; return; "
            f"stop_{self.stops}: ;"
        )

    def _register(self, operand: str) -> str:
        found = re.fullmatch(r"(%[a-z]+)(\d+)", operand)
        if found is None or found[1] not in self.registers:
            raise UnknownInstructionError(f"register {operand}")
        return f"lane.{found[1][1:]}[{found[2]}]"

    def _statement(self, line: int, text: str) -> str:
        try:
            return self._declaration(text) if text.startswith(".") else self._code(line, text)
        except (UnknownInstructionError, KeyError) as fault:
            raise UnknownInstructionError(f"line {line} of {self.entry.name}: {text} ({fault})") from fault

    def _declaration(self, text: str) -> str:
        if found := re.fullmatch(r"\.reg \.(\w+)\s+(%[a-z]+)<(\d+)>;", text):
            kind = "bool" if found[1] == "pred" else f"u{found[1][1:]}"
            self.registers[found[2]] = (kind, int(found[3]))
        elif found := re.fullmatch(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\];", text):
            align, size = int(found[1]), int(found[3])
            self.shared[found[2]] = -(-self.shared_bytes // align) * align
            self.shared_bytes = self.shared[found[2]] + size
        elif not text.startswith(".pragma"):
            raise UnknownInstructionError("declaration")
        return ""

    def _code(self, line: int, text: str) -> str:
        if found := re.fullmatch(r"\$(\w+):", text):
            return f"{found[1]}: ;"
        found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([\w.:]+)\s*(.*);", text)
        if found is None:
            raise UnknownInstructionError("form")
        negated, guard, opcode, operands = found.groups()
        name, *modifiers = opcode.split(".")
        type_ = modifiers.pop() if modifiers else ""
        code = TRANSLATIONS[name](_Instruction(self, line, name, tuple(modifiers), type_, _split(operands)))
        if guard is None:
            return code
        if "stop_" in code:
            raise UnknownInstructionError("synchronisation under a guard")
        return f"if ({negated}{self._register(guard)}) {{ {code} }}"


def _split(operands: str) -> list[str]:
    """Cut at commas that are not within braces."""
    return [each.strip() for each in re.findall(r"\{[^}]*\}|[^,{}]+", operands) if each.strip()]


def _items(operand: str) -> list[str]:
    """Registers of ``{a, b}``, or of a single one."""
    return [each.strip() for each in operand.strip("{}").split(",")]


def _c_type(type_: str) -> str:
    """C++ type of a PTX type; of floats, as they are calculated with."""
    if type_ == "pred":
        return "bool"
    return "float" if type_ == "f32" else f"{'s' if type_[0] == 's' else 'u'}{_bits(type_)}"


def _bits(type_: str) -> int:
    if re.fullmatch(r"[usb](16|32|64)|f(16|32)", type_) is None:
        raise UnknownInstructionError(f"type {type_}")
    return int(type_[1:])


def _load_or_store(op: _Instruction) -> str:
    known = op.modified_by("param", "global", "shared", "nc", "cs", "v2", "v4")
    store, function = op.name == "st", op.function
    if "param" in known:
        index = re.fullmatch(r"\[\w+_param_(\d+)\]", op.operands[1])
        if index is None:
            raise UnknownInstructionError("parameter")
        return op.write(f"{_c_type(op.type)}(parameters[{index[1]}])")
    place, registers = op.operands if store else reversed(op.operands)
    space = "global" if "global" in known else "shared"
    names, kind = _items(registers), _c_type(op.type)
    size = len(names) * _bits(op.type) // 8
    if store:
        moves = [f"put<{kind}>(at, {i}, {function.read(name, op.type)});" for i, name in enumerate(names)]
    else:
        moves = [function.write(name, f"get<{kind}>(at, {i})", op.type) for i, name in enumerate(names)]
    access = f"{'store' if store else 'load'}_{space}(lane, {function.address(place)}, {size})"
    return f"{{ lane.line = {op.line}; auto at = {access}; {' '.join(moves)} }}"


def _atomic(op: _Instruction) -> str:
    known = op.modified_by("global", "add", "v2", "v4")
    if op.type != "f32" or not {"global", "add"} <= known:
        raise UnknownInstructionError("atomic operation")
    *before, place, added = op.operands
    addends = _items(added)
    olds = _items(before[0]) if before else ["_"] * len(addends)
    access = f"add_global(lane, {op.function.address(place)}, {4 * len(addends)})"
    code = [f"lane.line = {op.line}; auto at = {access}; float old;"]
    for i, (old, addend) in enumerate(zip(olds, addends, strict=True)):
        code.append(f"old = get<float>(at, {i}); put<float>(at, {i}, old + {op.function.read(addend, 'f32')});")
        if old != "_":
            code.append(op.function.write(old, "old", "f32"))
    return f"{{ {' '.join(code)} }}"


def _move(op: _Instruction) -> str:
    op.modified_by()
    into, source = op.operands
    if into.startswith("{"):
        low, high = _items(into)
        value, write = op.function.read(source, "u32"), op.function.write
        return f"{{ u32 both = {value}; {write(low, 'u16(both)', 'u16')} {write(high, 'u16(both >> 16)', 'u16')} }}"
    if source.startswith("{"):
        low, high = (op.function.read(each, "u16") for each in _items(source))
        return op.write(f"(u32({low}) | u32({high}) << 16)", "u32")
    return op.write(op.read(1))


def _address_space(op: _Instruction) -> str:
    op.modified_by("to", "global")  # the emulator's global addresses are those of the host
    return op.write(op.read(1))


def _convert(op: _Instruction) -> str:
    *modifiers, into = op.modifiers
    rounding, source = "".join(modifiers), op.type
    if into.startswith("f") or source.startswith("f"):
        value = op.read(1, "u16" if source == "f16" else source)
        form = {
            ("rzi", "s32", "f32"): "float_to_int({})",
            ("rmi", "f32", "f32"): "__builtin_floorf({})",
            ("sat", "f32", "f32"): "saturate({})",
            ("", "f32", "f16"): "half_to_float({})",
            ("rn", "f16", "f32"): "float_to_half({})",
            ("rn", "f32", "s32"): "float({})",
            ("rn", "f32", "u32"): "float({})",
        }[rounding, into, source]
        return op.write(form.format(value), into)
    if rounding:
        raise UnknownInstructionError("rounding of integers")
    return op.write(f"{_c_type(into)}({op.read(1)})", into)


def _compare(op: _Instruction) -> str:
    (how,) = op.modifiers
    left, right = op.read(1), op.read(2)
    if how in COMPARISONS:
        result = f"{left} {COMPARISONS[how]} {right}"
    elif how in OPPOSITES and op.type == "f32":
        result = f"!({left} {OPPOSITES[how]} {right})"
    elif how == "nan":
        result = f"{left} != {left} || {right} != {right}"
    else:
        raise UnknownInstructionError("comparison")
    return op.write(result, "pred")


def _select(op: _Instruction) -> str:
    op.modified_by()
    return op.write(f"({op.read(3, 'pred')} ? {op.read(1)} : {op.read(2)})")


def _infix(symbol: str, *modifiers: str) -> Callable[[_Instruction], str]:
    def translation(op: _Instruction) -> str:
        op.modified_by(*modifiers)
        return op.write(f"({op.read(1)} {symbol} {op.read(2)})")

    return translation


def _prefix(symbol: str) -> Callable[[_Instruction], str]:
    def translation(op: _Instruction) -> str:
        op.modified_by()
        return op.write(f"({'!' if op.type == 'pred' else symbol}{op.read(1)})")

    return translation


def _shift(symbol: str) -> Callable[[_Instruction], str]:
    def translation(op: _Instruction) -> str:
        op.modified_by()
        value, by, bits = op.read(1), op.read(2, "u32"), _bits(op.type)
        # PTX clamps the distance, C++ leaves a longer one undefined
        return op.write(f"({by} < {bits} ? {value} {symbol} {by} : {value} < 0 ? ~0 : 0)")

    return translation


def _multiply(op: _Instruction) -> str:
    known = op.modified_by("rn", "lo", "hi", "wide")
    if "wide" in known or "hi" in known:
        wide = _c_type(TWICE_AS_WIDE[op.type])
        product = f"({wide}({op.read(1)}) * {wide}({op.read(2)}))"
        if "wide" in known:
            return op.write(product, TWICE_AS_WIDE[op.type])
        return op.write(f"{_c_type(op.type)}({product} >> {_bits(op.type)})")
    return op.write(f"({op.read(1)} * {op.read(2)})")


def _multiply_add(op: _Instruction) -> str:
    if op.modified_by("lo") != {"lo"}:
        raise UnknownInstructionError("multiplication")
    return op.write(f"({op.read(1)} * {op.read(2)} + {op.read(3)})")


def _fused_multiply_add(op: _Instruction) -> str:
    (rounding,) = op.modifiers
    function = {"rn": "__builtin_fmaf", "rm": "fma_down"}[rounding]
    return op.write(f"{function}({op.read(1)}, {op.read(2)}, {op.read(3)})")


def _divide(op: _Instruction) -> str:
    op.modified_by("rn")
    left, right = op.read(1), op.read(2)
    if op.type == "f32":
        return op.write(f"({left} / {right})")
    remainder = str(op.name == "rem").lower()
    return f"lane.line = {op.line}; " + op.write(f"divide(lane, {left}, {right}, {remainder})")


def _extreme(op: _Instruction) -> str:
    op.modified_by()
    left, right = op.read(1), op.read(2)
    if op.type == "f32":
        return op.write(f"{'larger' if op.name == 'max' else 'smaller'}({left}, {right})")
    return op.write(f"({left} {'>' if op.name == 'max' else '<'} {right} ? {left} : {right})")


def _power_of_two(op: _Instruction) -> str:
    op.modified_by("approx", "ftz")
    return op.write(f"__builtin_exp2f({op.read(1)})")


def _insert_bits(op: _Instruction) -> str:
    op.modified_by()
    return op.write(f"insert_bits({op.read(1)}, {op.read(2)}, {op.read(3, 'u32')}, {op.read(4, 'u32')})")


def _branch(op: _Instruction) -> str:
    (label,) = op.operands
    return f"lane.line = {op.line}; if (!may_jump(lane)) return; goto {label.removeprefix('$')};"


def _return(op: _Instruction) -> str:
    return "lane.state = State::EXITED; return;"


def _barrier(op: _Instruction) -> str:
    if op.type != "sync" or op.modifiers not in ((), ("warp",)):
        raise UnknownInstructionError("barrier")
    if op.modifiers:
        return op.function.stop(op.line, "AT_WARP_BARRIER", f"lane.mask = {op.read(0, 'u32')};")
    if op.operands != ["0"]:
        raise UnknownInstructionError("barrier of a part of the block")
    return op.function.stop(op.line, "AT_BLOCK_BARRIER")


def _shuffle(op: _Instruction) -> str:
    if op.modifiers != ("sync", "bfly"):
        raise UnknownInstructionError("shuffle")
    given = ("value", 1), ("distance", 2), ("clamp", 3), ("mask", 4)
    details = " ".join(f"lane.{name} = {op.read(operand, 'u32')};" for name, operand in given)
    into, *inside = op.operands[0].split("|")
    results = [op.function.write(into, "lane.result", "u32"), *(op.function.write(p, "true", "pred") for p in inside)]
    return op.function.stop(op.line, "AT_SHUFFLE", details) + " " + " ".join(results)


TRANSLATIONS: dict[str, Callable[[_Instruction], str]] = {
    "ld": _load_or_store,
    "st": _load_or_store,
    "atom": _atomic,
    "red": _atomic,
    "mov": _move,
    "cvta": _address_space,
    "cvt": _convert,
    "setp": _compare,
    "selp": _select,
    "add": _infix("+", "rn"),
    "sub": _infix("-", "rn"),
    "and": _infix("&"),
    "or": _infix("|"),
    "xor": _infix("^"),
    "not": _prefix("~"),
    "neg": _prefix("-"),
    "shl": _shift("<<"),
    "shr": _shift(">>"),
    "mul": _multiply,
    "mad": _multiply_add,
    "fma": _fused_multiply_add,
    "div": _divide,
    "rem": _divide,
    "max": _extreme,
    "min": _extreme,
    "ex2": _power_of_two,
    "bfi": _insert_bits,
    "bra": _branch,
    "ret": _return,
    "exit": _return,
    "bar": _barrier,
    "shfl": _shuffle,
}
"""What each instruction does, by its name."""
