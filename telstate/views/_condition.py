"""A condition on the fields of a record, as people type it: `talk_s > 30 and cause == "completed"`.

It is written as a Python expression, and read with Python's own parser; but only what is listed here means anything, and nothing is ever
run.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

__all__ = ["Condition"]

_LONGEST = 1_000
"""Characters. Python's parser takes memory for what is nested."""
_NAMES = {"true": True, "false": False, "null": None, "none": None}
_ORDERED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_HINT = (
    'write it as in: talk_s > 30 and cause == "completed", not answered_at, "late" in anomalies, notes.tenant == "acme"'
)

_Read = Callable[[Mapping[str, Any]], Any]


class Condition:
    """A condition that a record meets or does not.

    Args:
        text: comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`) of fields and constants, with `and`, `or`, `not` and
            brackets. `notes.tenant` or `notes["tenant"]` is a field within a field. A field by itself is met if it has a value.
        fields: the names that there are.

    Raises:
        ValueError: if it is none; the text says what to write.
    """

    def __init__(self, text: str, fields: Iterable[str]) -> None:
        self._fields = frozenset(fields)
        if len(text) > _LONGEST:
            raise ValueError(f"a condition has at most {_LONGEST} characters, this one has {len(text)}")
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            hint = "compare with ==, not =" if "=" in text and "==" not in text else _HINT
            raise ValueError(f"{text!r} is not a condition: {hint}") from None
        try:
            self._read = self._of(tree.body)
        except RecursionError:  # the parser takes deeper nesting than its `unparse`
            raise ValueError(f"a condition is not nested so deeply: {_HINT}") from None

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record meets it. What is not known is neither more nor less than anything."""
        return bool(self._read(record))

    def _of(self, node: ast.expr) -> _Read:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                parts = [self._of(value) for value in values]
                return lambda record: all(part(record) for part in parts)
            case ast.BoolOp(values=values):
                parts = [self._of(value) for value in values]
                return lambda record: any(part(record) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._of(operand)
                return lambda record: not inner(record)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._comparison([left, *comparators], ops)
            case _:
                return self._value(node)

    def _comparison(self, nodes: list[ast.expr], ops: list[ast.cmpop]) -> _Read:
        values = [self._value(node) for node in nodes]
        for op, (one, other) in zip(ops, pairwise(nodes), strict=True):
            if not isinstance(op, (ast.In, ast.NotIn)):
                _refuse_text(one, other)
                _refuse_text(other, one)

        def holds(record: Mapping[str, Any]) -> bool:
            found = [value(record) for value in values]
            return all(_compare(op, one, other) for op, one, other in zip(ops, found, found[1:], strict=False))

        return holds

    def _value(self, node: ast.expr) -> _Read:
        match node:
            case ast.Constant(value=str() | int() | float() | None as constant):
                return lambda _: constant
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda _: -number
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                parts = [self._value(element) for element in elements]
                return lambda record: [part(record) for part in parts]
            case ast.Name(id=name):
                return self._field(name)
            case (
                ast.Attribute(value=inner, attr=key)
                | ast.Subscript(value=inner, slice=ast.Constant(value=str() as key))
            ):
                outer = self._value(inner)
                return lambda record: _within(outer(record), key)
            case _:
                raise ValueError(f"{ast.unparse(node)[:100]!r} means nothing in a condition: {_HINT}")

    def _field(self, name: str) -> _Read:
        if name in self._fields:
            return lambda record: record.get(name)
        if name.lower() in _NAMES:
            constant = _NAMES[name.lower()]
            return lambda _: constant
        raise ValueError(
            f"there is no field {name!r}; there are {', '.join(sorted(self._fields))}. Put texts into quotes, as in cause == 'failed'"
        )


def _refuse_text(field: ast.expr, value: ast.expr) -> None:
    """Raise if a time or a duration is compared with a text: it would never be met."""
    match field, value:
        case ast.Name(id=name), ast.Constant(value=str() as text) if name.endswith("_at"):
            raise ValueError(
                f"{name} is in Unix seconds, not a text as {text!r}: to select by time, use --since and --until"
            )
        case ast.Name(id=name), ast.Constant(value=str() as text) if name.endswith("_s"):
            raise ValueError(
                f"{name} is a number of seconds, not a text as {text!r}: write it without quotes, as in {name} > 30"
            )


def _within(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _compare(op: ast.cmpop, one: Any, other: Any) -> bool:
    match op:
        case ast.Eq() | ast.Is():
            return bool(one == other)
        case ast.NotEq() | ast.IsNot():
            return bool(one != other)
        case ast.In():
            return _is_in(one, other)
        case ast.NotIn():
            return not _is_in(one, other)
        case _:
            return _in_order(_ORDERED[type(op)], one, other)


def _is_in(one: Any, other: Any) -> bool:
    try:
        return one in other
    except TypeError:  # nothing is in what is not known
        return False


def _in_order(compare: Callable[[Any, Any], bool], one: Any, other: Any) -> bool:
    try:
        return compare(one, other)
    except TypeError:  # a text and a number, or what is not known
        return False
