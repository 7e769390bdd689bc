"""Values are compared with the types that a dataclass states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from gradnet.core.field_types import mistyped


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    steps: int = 1
    name: str | None = None
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    pair: tuple[float, float] | None = None
    texts: Sequence[str] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)
    is_on: bool = False
    inner: Inner = Inner()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"name": "x", "sizes": [1, 2], "pair": [1, 2.5], "texts": ["a"]},
        {"table": {"a": 1}, "free": {"a": [None, "x"]}, "is_on": True},
        {"inner": Inner(3)},
    ],
)
def test_what_is_stated_passes(values: dict[str, Any]) -> None:
    assert mistyped(Outer(**values), Outer) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("steps", v) for v in (None, 1.5, True, "1", [1], 10**30)),
        *(("name", v) for v in (3, ["x"])),
        *(("kind", v) for v in ("c", None)),
        *(("sizes", v) for v in (3, "12", [1, "2"], None)),
        *(("pair", v) for v in ([1], [1, 2, 3], [1, float("nan")])),
        *(("texts", v) for v in ("abc", [1])),
        *(("table", v) for v in ([], {"a": "1"}, {1: 1})),
        *(("free", v) for v in ([], None, {1: 1})),
        *(("is_on", v) for v in (1, None, "yes")),
        ("inner", {"rate": 1}),
        ("inner", Inner("fast")),  # type: ignore[arg-type]
    ],
)
def test_what_is_not_is_named(name: str, value: object) -> None:
    fault = mistyped(Outer(**{name: value}), Outer)  # type: ignore[arg-type]
    assert fault is not None and name in fault and "\n" not in fault
