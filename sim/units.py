"""Quantities as people write them, to plain numbers and back, exactly.

Times become nanoseconds, sizes bytes, bandwidths bytes per nanosecond, and every other rate is per nanosecond too, so
that numbers inside memhier meet without factors. KB, MB, GB, TB are powers of ten; KiB, MiB, GiB, TiB powers of two;
a capital B is a byte and a small b a bit. A number without its unit is refused.

`parse_X` takes text and returns a number, raising InputError for anything it cannot read as that quantity.
`format_X` is its inverse: exact, so that parsing what it wrote gives the same number, unless `digits` asks for a
rounded form to show. The annotated types at the end let a pydantic schema read the same spellings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator

from sim.errors import InputError, nearest_name

# The bounds keep arithmetic on fractions cheap whatever the text, and every size within a 64-bit integer.
_NUMBER = re.compile(r"([+-]?)(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE]([+-]?\d{1,2}))?(?![\d.])", re.ASCII)
_LARGEST_BYTES = 2**63 - 1

_TEN = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_TWO = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_SECOND_NS = 10**9
_HOUR_NS = 3600 * _SECOND_NS
_SIZES = {f"{prefix}B": Fraction(scale) for prefix, scale in {**_TEN, **_TWO}.items()}
_BITS = {f"{prefix}{bit}": Fraction(scale, 8) for prefix, scale in {**_TEN, **_TWO}.items() for bit in ("b", "bit")}


@dataclass(frozen=True)
class Quantity:
    """One kind of quantity: what to call it, its units as multiples of the plain number, and those it is shown in."""

    noun: str
    examples: str
    units: Mapping[str, Fraction]
    shown: tuple[str, ...]  # smallest first
    whole: bool = False

    @property
    def expected(self) -> str:
        return f"{self.noun} such as {self.examples}"


class Measured(NamedTuple):
    """A quantity as it was written: its plain number, its unit, and what kind of quantity that is a unit of."""

    value: int | float
    unit: str
    quantity: Quantity


def _per_ns(units: Mapping[str, Fraction | int], suffix: str) -> dict[str, Fraction]:
    return {f"{unit}{suffix}": Fraction(scale) / _SECOND_NS for unit, scale in units.items()}


def _dollars(per: Mapping[str, Fraction]) -> dict[str, Fraction]:
    return {f"{sign}{suffix}": scale for sign in ("$", "USD", "USD ") for suffix, scale in per.items()}


BYTES = Quantity(
    "a size", "'80 GiB', '64 KB' or '512 B'", _SIZES, ("B", "KB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB"), True
)
TIME = Quantity(
    "a time",
    "'120 ns', '1.5 us' or '3 ms'",
    {
        "fs": Fraction(1, 10**6),
        "ps": Fraction(1, 10**3),
        "ns": Fraction(1),
        **{micro: Fraction(10**3) for micro in ("us", "µs", "μs")},
        "ms": Fraction(10**6),
        "s": Fraction(_SECOND_NS),
        "min": Fraction(60 * _SECOND_NS),
        "h": Fraction(_HOUR_NS),
    },
    ("ps", "ns", "us", "ms", "s"),
)
BANDWIDTH = Quantity(
    "a bandwidth",
    "'3.35 TB/s', '64 GiB/s' or '400 Gb/s' (b is a bit, B a byte)",
    {
        **_per_ns({**_SIZES, **_BITS}, "/s"),
        **_per_ns({prefix: Fraction(scale, 8) for prefix, scale in _TEN.items() if prefix}, "bps"),
    },
    ("B/s", "KB/s", "MB/s", "GB/s", "TB/s", "PB/s"),
)
RATE = Quantity(
    "a transfer rate",
    "'6400 MT/s' or '32 GT/s'",
    _per_ns({f"{prefix}T": scale for prefix, scale in _TEN.items()}, "/s"),
    ("T/s", "kT/s", "MT/s", "GT/s"),
)
FREQUENCY = Quantity(
    "a frequency",
    "'1.6 GHz' or '800 MHz'",
    _per_ns({f"{prefix}Hz": scale for prefix, scale in _TEN.items()}, ""),
    ("Hz", "kHz", "MHz", "GHz", "THz"),
)
COMPUTE_RATE = Quantity(
    "a rate of operations",
    "'989 TFLOP/s' or '750 TOP/s'",
    {
        **_per_ns({f"{p}{op}": scale for p, scale in _TEN.items() for op in ("FLOP", "OP")}, "/s"),
        **_per_ns({f"{p}{op}": scale for p, scale in _TEN.items() for op in ("FLOPS", "OPS")}, ""),
    },
    ("FLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"),
)
ENERGY_PER_BIT = Quantity(
    "an energy per bit",
    "'2.5 pJ/bit' or '20 pJ/B' (per byte)",
    {
        f"{prefix}J/{what}": Fraction(scale) / bits
        for prefix, scale in {"f": Fraction(1, 1000), "p": 1, "n": 1000}.items()
        for what, bits in {"bit": 1, "b": 1, "B": 8, "byte": 8}.items()
    },
    ("fJ/bit", "pJ/bit", "nJ/bit"),
)
POWER = Quantity(
    "a power",
    "'5 W' or '350 mW'",
    {"uW": Fraction(1, 10**6), "mW": Fraction(1, 1000), "W": Fraction(1), "kW": Fraction(1000)},
    ("uW", "mW", "W", "kW"),
)
COST_RATE = Quantity(
    "a price of capacity over time",
    "'0.004 $/GiB/h'",
    _dollars({f"/{unit}/h": 2**30 / _SIZES[unit] for unit in ("MB", "MiB", "GB", "GiB", "TB", "TiB")}),
    ("$/GiB/h",),
)
HOURLY_COST = Quantity("a price over time", "'0.01 $/h'", _dollars({"/h": Fraction(1)}), ("$/h",))
MONEY = Quantity("an amount of money", "'$1200' or '1200 $'", _dollars({"": Fraction(1)}), ("$",))

_BY_UNIT = {
    unit: quantity
    for quantity in (
        BYTES,
        TIME,
        BANDWIDTH,
        RATE,
        FREQUENCY,
        COMPUTE_RATE,
        ENERGY_PER_BIT,
        POWER,
        COST_RATE,
        HOURLY_COST,
        MONEY,
    )
    for unit in quantity.units
}


def parse_bytes(text: str) -> int:
    """'80 GiB' -> bytes, exactly; a fraction of a byte is refused."""
    return _parse(text, BYTES)


def parse_time(text: str) -> float:
    """'120 ns' -> nanoseconds."""
    return _parse(text, TIME)


def parse_bandwidth(text: str) -> float:
    """'3.35 TB/s' or '400 Gb/s' -> bytes per nanosecond (which is GB/s)."""
    return _parse(text, BANDWIDTH)


def parse_rate(text: str) -> float:
    """'6400 MT/s' -> transfers per nanosecond (which is GT/s)."""
    return _parse(text, RATE)


def parse_frequency(text: str) -> float:
    """'800 MHz' -> cycles per nanosecond (which is GHz)."""
    return _parse(text, FREQUENCY)


def parse_compute_rate(text: str) -> float:
    """'989 TFLOP/s' -> operations per nanosecond."""
    return _parse(text, COMPUTE_RATE)


def parse_energy_per_bit(text: str) -> float:
    """'2.5 pJ/bit' -> picojoules per bit."""
    return _parse(text, ENERGY_PER_BIT)


def parse_power(text: str) -> float:
    """'5 W' -> watts."""
    return _parse(text, POWER)


def parse_cost_rate(text: str) -> float:
    """'0.004 $/GiB/h' -> US dollars per GiB per hour."""
    return _parse(text, COST_RATE)


def parse_hourly_cost(text: str) -> float:
    """'0.01 $/h' -> US dollars per hour."""
    return _parse(text, HOURLY_COST)


def parse_money(text: str) -> float:
    """'$1200' or '1200 $' -> US dollars."""
    return _parse(text, MONEY)


def parse_any(text: str) -> int | float:
    """Whatever quantity the unit of `text` says, as the plain number its own parser gives."""
    return parse_measured(text).value


def parse_measured(text: str) -> Measured:
    """The same, with its unit."""
    number, unit = _split(text, None)
    if unit not in _BY_UNIT:
        raise _unknown_unit(text, unit, _BY_UNIT, "a quantity such as '8 KiB', '75 us' or '1200 MT/s'")
    return Measured(_scaled(text, number, unit, _BY_UNIT[unit]), unit, _BY_UNIT[unit])


def unit_names() -> tuple[str, ...]:
    """Every unit of every quantity."""
    return tuple(_BY_UNIT)


def format_bytes(size: int, digits: int | None = None) -> str:
    """Bytes -> '80 GiB': the shortest exact spelling, or a binary prefix with so many significant digits."""
    if digits is not None:
        return _format_rounded(size, BYTES.units, ("B", "KiB", "MiB", "GiB", "TiB"), digits)
    spellings = [
        f"{_decimal_text(Fraction(size) / BYTES.units[unit])} {unit}"
        for unit in BYTES.shown
        if unit == "B" or size >= BYTES.units[unit]
    ]
    return min(reversed(spellings), key=len)


def format_time(ns: float, digits: int | None = None) -> str:
    """Nanoseconds -> '1.5 us'."""
    return _format(ns, TIME, digits)


def format_bandwidth(bytes_per_ns: float, digits: int | None = None) -> str:
    """Bytes per nanosecond -> '3.35 TB/s'."""
    return _format(bytes_per_ns, BANDWIDTH, digits)


def format_rate(per_ns: float, digits: int | None = None) -> str:
    """Transfers per nanosecond -> '6.4 GT/s'."""
    return _format(per_ns, RATE, digits)


def format_frequency(ghz: float, digits: int | None = None) -> str:
    """Cycles per nanosecond -> '1.6 GHz'."""
    return _format(ghz, FREQUENCY, digits)


def format_compute_rate(per_ns: float, digits: int | None = None) -> str:
    """Operations per nanosecond -> '989 TFLOP/s'."""
    return _format(per_ns, COMPUTE_RATE, digits)


def format_energy_per_bit(pj_per_bit: float, digits: int | None = None) -> str:
    """Picojoules per bit -> '2.5 pJ/bit'."""
    return _format(pj_per_bit, ENERGY_PER_BIT, digits)


def format_power(watts: float, digits: int | None = None) -> str:
    """Watts -> '5 W'."""
    return _format(watts, POWER, digits)


def format_cost_rate(usd_per_gib_hour: float, digits: int | None = None) -> str:
    """US dollars per GiB per hour -> '0.004 $/GiB/h'."""
    return _format(usd_per_gib_hour, COST_RATE, digits)


def format_hourly_cost(usd_per_hour: float, digits: int | None = None) -> str:
    """US dollars per hour -> '0.01 $/h'."""
    return _format(usd_per_hour, HOURLY_COST, digits)


def format_money(usd: float, digits: int | None = None) -> str:
    """US dollars -> '1200 $'."""
    return _format(usd, MONEY, digits)


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Nanoseconds = Annotated[float, BeforeValidator(parse_time)]
BytesPerNs = Annotated[float, BeforeValidator(parse_bandwidth)]
TransfersPerNs = Annotated[float, BeforeValidator(parse_rate)]
Gigahertz = Annotated[float, BeforeValidator(parse_frequency)]
OperationsPerNs = Annotated[float, BeforeValidator(parse_compute_rate)]
PicojoulesPerBit = Annotated[float, BeforeValidator(parse_energy_per_bit)]
Watts = Annotated[float, BeforeValidator(parse_power)]
UsdPerGiBHour = Annotated[float, BeforeValidator(parse_cost_rate)]
UsdPerHour = Annotated[float, BeforeValidator(parse_hourly_cost)]
Usd = Annotated[float, BeforeValidator(parse_money)]


def _parse(text: str, quantity: Quantity) -> int | float:
    number, unit = _split(text, quantity)
    if unit not in quantity.units:
        raise _unknown_unit(text, unit, quantity.units, quantity.expected)
    return _scaled(text, number, unit, quantity)


def _split(text: object, quantity: Quantity | None) -> tuple[Fraction, str]:
    """The number and the unit in `text`. Raises InputError where there is not one of each."""
    expected = quantity.expected if quantity else "a quantity with its unit"
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise InputError("a bare number", value=text, expected=f"{expected}, with its unit")
    if not isinstance(text, str):
        raise InputError("not a quantity:", value=text, expected=expected)
    stripped = text.strip()
    if stripped.startswith("$"):  # '$1200' is '1200 $', and '$0.01/h' is '0.01 $/h'
        stripped = stripped[1:].lstrip()
        match = _NUMBER.match(stripped)
        unit = "$" + stripped[match.end() :].strip() if match else ""
    else:
        match = _NUMBER.match(stripped)
        unit = stripped[match.end() :].strip() if match else ""
    if match is None:
        raise InputError("not a quantity:", value=text, expected=expected)
    sign, digits, exponent = match.groups()
    if not unit:
        raise InputError("a bare number", value=text, expected=f"{expected}, with its unit")
    if sign == "-":
        raise InputError("a negative quantity", value=text, expected=f"{expected}, not below zero")
    return Fraction(digits) * Fraction(10) ** int(exponent or 0), unit


def _scaled(text: str, number: Fraction, unit: str, quantity: Quantity) -> int | float:
    exact = number * quantity.units[unit]
    if not quantity.whole:
        return float(exact)
    if exact.denominator != 1:
        raise InputError("a fraction of a byte in", value=text, expected="a whole number of bytes")
    if exact > _LARGEST_BYTES:
        raise InputError("too large a size", value=text, expected="less than 8 EiB")
    return int(exact)


def _unknown_unit(text: str, unit: str, units: Mapping[str, object], expected: str) -> InputError:
    # Several units may differ from what stands there only by case (Gb/s, GB/s), and which was meant is not ours to say.
    same = [known for known in units if known.casefold() == unit.casefold()]
    near = same or [name for name in (nearest_name(unit, units),) if name]
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return InputError(f"unknown unit {unit[:20]!r} in", value=text, expected=expected + hint)


def _format(value: float, quantity: Quantity, digits: int | None) -> str:
    if digits is not None:
        return _format_rounded(value, quantity.units, quantity.shown, digits)
    exact = Fraction(Decimal(repr(float(value))))
    unit = _unit_for(exact, quantity.units, quantity.shown)
    return f"{_decimal_text(exact / quantity.units[unit])} {unit}"


def _format_rounded(value: float, units: Mapping[str, Fraction], shown: tuple[str, ...], digits: int) -> str:
    unit = _unit_for(Fraction(value), units, shown)
    rounded = Decimal(f"{float(Fraction(value) / units[unit]):.{digits}g}")
    return f"{_decimal_text(Fraction(rounded))} {unit}"


def _unit_for(value: Fraction, units: Mapping[str, Fraction], shown: tuple[str, ...]) -> str:
    """The largest unit of which `value` is at least one, else the smallest; zero stays in the plain unit."""
    if value == 0:
        return next((unit for unit in shown if units[unit] == 1), shown[0])
    return next((unit for unit in reversed(shown) if abs(value) >= units[unit]), shown[0])


def _decimal_text(value: Fraction) -> str:
    """A fraction whose denominator divides a power of ten, in full and without an exponent."""
    places = 0
    while value.denominator != 1 and (value * 10**places).denominator != 1:
        places += 1
    digits = str(abs(int(value * 10**places))).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
