"""Types of arrays are defined once."""

from __future__ import annotations

import re

from .test_import_order import modules

ALIAS = re.compile(r"^(Ints|Ints32|Floats|Flags|Mask) = NDArray\[np\.(int64|int32|float64|bool_)\]", re.MULTILINE)


def test_types_of_arrays_are_defined_once() -> None:
    found = {name for name, path in modules().items() if ALIAS.search(path.read_text("utf-8"))}
    assert found == {"harness.arrays"}
