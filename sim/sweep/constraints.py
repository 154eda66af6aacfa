"""Constraints between fields: 'tiers.hbm.capacity < tiers.dram.capacity and tiers.dram.capacity <= 64 GiB'.

An expression has fields by their dotted names, numbers, quantities with units, shares such as 5%, text in quotes, true
and false; + - * /, comparisons (which may be chained), and, or, not, and parentheses. Python parses it, after fields
and quantities have been replaced by names of our own; only nodes of these kinds are accepted, and nothing is evaluated
but by this module. A share is a plain number (5% is 0.05); quantities of different kinds do not compare.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sim import units
from sim.errors import InputError
from sim.sweep.amounts import PLAIN, Amount, amount_of

_MOST_CHARACTERS = 500
_MOST_DIGITS = 30
_EXPECTED = "such as 'tiers.hbm.capacity < 64 GiB and tiers.hbm.eviction != \"lru\"'"
_OURS = r"(?<!\w)(?:field|known)\d+_"  # what stand-ins look like
_TEXT = r"'[^']*'|\"[^\"]*\""
_WORDS = {"true": True, "false": False, "True": True, "False": False}
_COMPARISONS: Mapping[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: Mapping[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Constraint:
    """What must hold of a point. text: as it was written; fields: those that it names."""

    text: str
    fields: tuple[str, ...]
    _tree: ast.expr
    _known: Mapping[str, Any]  # stand-in -> the quantity or text that it stands for
    _named: Mapping[str, str]  # stand-in -> the field

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it does for a point with these values of fields.

        Raises InputError where the values cannot be compared or counted with, or the outcome is not true or false.
        """
        known = {**self._known, **{name: _operand(values[field]) for name, field in self._named.items()}}
        try:
            outcome = _evaluated(self._tree, known)
        except InputError as error:
            told = {field: values[field] for field in self.fields}
            raise InputError(f"{error.problem} in {self.text!r}", value=told, expected=error.expected) from None
        if not isinstance(outcome, bool):
            raise InputError("neither true nor false:", value=self.text, expected=_EXPECTED)
        return outcome


def parse_constraint(text: object, fields: Iterable[str]) -> Constraint:
    """The constraint that a text says of these fields.

    Raises InputError for what is no such expression, or names another field.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError("not a constraint:", value=text, expected=_EXPECTED)
    if len(text) > _MOST_CHARACTERS:
        raise InputError("too long a constraint:", value=text, expected=f"at most {_MOST_CHARACTERS} characters")
    text = " ".join(text.split())
    fields = tuple(fields)
    stand_ins = _StandIns(fields)
    try:
        tree = ast.parse(stand_ins.put_into(text), mode="eval").body
        _check(tree, stand_ins, fields)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("not an expression:", value=text, expected=_EXPECTED) from None
    named = {name: field for name, field in stand_ins.named.items() if _uses(tree, name)}
    return Constraint(text, tuple(named.values()), tree, stand_ins.known, named)


class _StandIns:
    """Names of our own for what Python does not read: dotted fields, quantities, and text that may hold either."""

    def __init__(self, fields: tuple[str, ...]):
        self.named: dict[str, str] = {}
        self.known: dict[str, Any] = {}
        self._pattern = _pattern(fields)

    def put_into(self, text: str) -> str:
        return self._pattern.sub(self._stand_in, text)

    def _stand_in(self, match: re.Match) -> str:
        found = match[0]
        if match.lastgroup == "ours":
            raise InputError("not a field of this sweep:", value=found)
        if match.lastgroup == "field":
            name = next((name for name, field in self.named.items() if field == found), None)
            name = name or f"field{len(self.named)}_"
            self.named[name] = found
            return name
        if match.lastgroup == "number" and len(found) > _MOST_DIGITS:
            raise InputError("too long a number:", value=found, expected=f"at most {_MOST_DIGITS} digits")
        name = f"known{len(self.known)}_"
        self.known[name] = found[1:-1] if match.lastgroup == "text" else amount_of(found)
        return name


def _pattern(fields: tuple[str, ...]) -> re.Pattern:
    """Text, fields, quantities and numbers, the longest first."""
    names = "|".join(re.escape(field) for field in sorted(fields, key=len, reverse=True)) or "(?!)"
    known = "|".join(re.escape(unit) for unit in sorted(units.unit_names(), key=len, reverse=True))
    number = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?"
    quantity = rf"{number}\s*(?:%|(?:{known})(?![\w/]))"
    return re.compile(
        rf"(?P<text>{_TEXT})|(?P<ours>{_OURS})|(?<![\w.])(?P<field>{names})(?![\w.])"
        rf"|(?<![\w.])(?P<quantity>{quantity})|(?<![\w.])(?P<number>{number})(?![\w.])",
        re.ASCII,
    )


def _check(node: ast.expr, stand_ins: _StandIns, fields: tuple[str, ...]) -> None:
    """Raises InputError for anything that an expression may not have."""
    if isinstance(node, ast.Name | ast.Attribute):
        _check_name(node, stand_ins, fields)
        return
    for part in _parts(node):
        _check(part, stand_ins, fields)


def _check_name(node: ast.Name | ast.Attribute, stand_ins: _StandIns, fields: tuple[str, ...]) -> None:
    if isinstance(node, ast.Name) and node.id in {*stand_ins.named, *stand_ins.known, *_WORDS}:
        return
    said = ast.unparse(node)
    for name, field in stand_ins.named.items():
        said = said.replace(name, field)
    raise InputError("not a field of this sweep:", value=said, candidates=fields)


def _parts(node: ast.expr) -> list[ast.expr]:
    """What a node is of. Raises InputError for a kind of node that there may not be."""
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.UAdd):
        return [node.operand]
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return [node.left, node.right]
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return []
    kind = type(getattr(node, "op", node)).__name__
    raise InputError(
        "not allowed in a constraint:", value=kind, expected="fields, numbers, + - * /, < <= == != > >= and or not"
    )


def _uses(tree: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


# --- evaluating ------------------------------------------------------------------------------------------------------


def _operand(value: object) -> object:
    amount = amount_of(value)
    return value if amount is None else amount


def _evaluated(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known[node.id] if node.id in known else _WORDS[node.id]
    if isinstance(node, ast.BoolOp):
        wanted = isinstance(node.op, ast.Or)
        return wanted if any(_truth(_evaluated(one, known)) is wanted for one in node.values) else not wanted
    if isinstance(node, ast.UnaryOp):
        return _unary(node.op, _evaluated(node.operand, known))
    if isinstance(node, ast.BinOp):
        return _counted(type(node.op), _evaluated(node.left, known), _evaluated(node.right, known))
    operands = [_evaluated(one, known) for one in (node.left, *node.comparators)]
    pairs = zip(node.ops, operands[:-1], operands[1:], strict=True)
    return all(_compared(type(op), left, right) for op, left, right in pairs)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise InputError("neither true nor false", expected="a comparison on both sides of and, or, not")
    return value


def _unary(op: ast.unaryop, value: Any) -> Any:
    if isinstance(op, ast.Not):
        return not _truth(value)
    amount = _number(value)
    return Amount(-amount.number, amount.noun) if isinstance(op, ast.USub) else amount


def _number(value: object) -> Amount:
    if not isinstance(value, Amount):
        raise InputError("not a number", expected="numbers and quantities where one counts with them")
    return value


def _counted(op: type, left: object, right: object) -> Amount:
    left, right = _number(left), _number(right)
    noun = _noun(op, left.noun, right.noun)
    try:
        return Amount(_ARITHMETIC[op](left.number, right.number), noun)
    except (ZeroDivisionError, OverflowError) as error:
        raise InputError(str(error)) from None


def _noun(op: type, left: str, right: str) -> str:
    """Of what kind the outcome is."""
    if op in (ast.Add, ast.Sub) and left == right:
        return left
    if op is ast.Div and left == right:
        return PLAIN
    if op is ast.Mult and PLAIN in (left, right):
        return left or right
    if op is ast.Div and right == PLAIN:
        return left
    raise InputError(f"{left or 'a number'} does not go with {right or 'a number'}")


def _compared(op: type, left: object, right: object) -> bool:
    if isinstance(left, Amount) and isinstance(right, Amount):
        if left.noun != right.noun:
            raise InputError(f"{left.noun or 'a number'} is compared with {right.noun or 'a number'}")
        return _COMPARISONS[op](left.number, right.number)
    if op not in (ast.Eq, ast.NotEq):
        raise InputError("only numbers and quantities of one kind are less or more")
    return _COMPARISONS[op](left, right)
