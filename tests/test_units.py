"""Quantities: exact, never mixing prefixes, and refusing everything else with one InputError."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from sim import units
from sim.errors import InputError

PARSERS = {
    "bytes": (units.parse_bytes, units.format_bytes),
    "time": (units.parse_time, units.format_time),
    "bandwidth": (units.parse_bandwidth, units.format_bandwidth),
    "rate": (units.parse_rate, units.format_rate),
    "frequency": (units.parse_frequency, units.format_frequency),
    "compute_rate": (units.parse_compute_rate, units.format_compute_rate),
    "energy_per_bit": (units.parse_energy_per_bit, units.format_energy_per_bit),
    "power": (units.parse_power, units.format_power),
    "cost_rate": (units.parse_cost_rate, units.format_cost_rate),
    "hourly_cost": (units.parse_hourly_cost, units.format_hourly_cost),
    "money": (units.parse_money, units.format_money),
}
FLOATS = [name for name in PARSERS if name != "bytes"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("bytes", "80 GiB", 80 * 2**30),
        ("bytes", "80GB", 80 * 10**9),
        ("bytes", "1.5 KiB", 1536),
        ("bytes", "1 kB", 1000),
        ("bytes", "1e3 B", 1000),
        ("bytes", "0 B", 0),
        ("bandwidth", "3.35 TB/s", 3350.0),
        ("bandwidth", "1 GiB/s", 2**30 / 1e9),
        ("bandwidth", "400 Gb/s", 50.0),
        ("bandwidth", "400 Gbps", 50.0),
        ("bandwidth", "8 Gbit/s", 1.0),
        ("time", "120 ns", 120.0),
        ("time", "1.5 µs", 1500.0),
        ("time", "3.8ms", 3.8e6),
        ("time", "625 ps", 0.625),
        ("rate", "6400 MT/s", 6.4),
        ("frequency", "1.6 GHz", 1.6),
        ("compute_rate", "989 TFLOP/s", 989e3),
        ("compute_rate", "750 TOPS", 750e3),
        ("energy_per_bit", "2.5 pJ/bit", 2.5),
        ("energy_per_bit", "20 pJ/B", 2.5),
        ("power", "350 mW", 0.35),
        ("cost_rate", "0.004 $/GiB/h", 0.004),
        ("cost_rate", "$0.004/GiB/h", 0.004),
        ("cost_rate", "1 USD/TiB/h", 1 / 1024),
        ("hourly_cost", "$0.01/h", 0.01),
        ("money", "$1200", 1200.0),
        ("money", "1200 $", 1200.0),
        ("money", "1200 USD", 1200.0),
    ],
)
def test_reads_the_usual_spellings(kind, text, value):
    assert PARSERS[kind][0](text) == value


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("bytes", "80 Gib", "did you mean 'GiB'?"),
        ("bytes", "80 GiBs", "did you mean 'GiB'?"),
        ("bytes", "80", "a bare number '80'; expected a size such as '80 GiB'"),
        ("bytes", 80, "a bare number 80; expected a size such as '80 GiB'"),
        ("bytes", "1.5 B", "a fraction of a byte"),
        ("bytes", "0.3 KiB", "a fraction of a byte"),
        ("bytes", "9 EiB", "less than 8 EiB"),
        ("bytes", "80 Gb", "did you mean 'GB'?"),
        ("bandwidth", "3 gb/s", "'GB/s' or 'Gb/s'"),
        ("bandwidth", "3 GB", "unknown unit 'GB'"),
        ("time", "-3 ns", "a negative quantity"),
        ("time", "nan ns", "not a quantity"),
        ("time", "inf", "not a quantity"),
        ("time", "1.2.3 ns", "not a quantity"),
        ("time", "1e400 s", "unknown unit 'e400 s'"),
        ("time", "", "not a quantity"),
        ("time", None, "not a quantity"),
        ("time", True, "not a quantity"),
        ("power", "5 w", "did you mean 'W'?"),
        ("rate", "6400 MHz", "unknown unit 'MHz'"),
        ("money", "$", "not a quantity"),
    ],
)
def test_refuses_in_one_sentence(kind, text, said):
    with pytest.raises(InputError) as caught:
        PARSERS[kind][0](text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("formatted", "text"),
    [
        (units.format_bytes(80 * 2**30), "80 GiB"),
        (units.format_bytes(10**6), "1 MB"),
        (units.format_bytes(4096), "4 KiB"),
        (units.format_bytes(0), "0 B"),
        (units.format_bytes(12_345_678, digits=3), "11.8 MiB"),
        (units.format_time(1500.0), "1.5 us"),
        (units.format_time(0.0), "0 ns"),
        (units.format_time(1234.5678, digits=3), "1.23 us"),
        (units.format_bandwidth(3350.0), "3.35 TB/s"),
        (units.format_cost_rate(0.004), "0.004 $/GiB/h"),
    ],
)
def test_writes_what_a_person_would(formatted, text):
    assert formatted == text


@given(st.integers(0, 2**63 - 1))
def test_bytes_round_trip_exactly(size):
    assert units.parse_bytes(units.format_bytes(size)) == size


@pytest.mark.parametrize("kind", FLOATS)
@given(value=st.floats(1e-9, 1e15))
def test_floats_round_trip_exactly(kind, value):
    parse, write = PARSERS[kind]
    assert parse(write(value)) == value


@given(st.integers(0, 2**12), st.sampled_from("KMGTP"))
def test_decimal_and_binary_prefixes_are_never_mixed(number, prefix):
    power = "KMGTP".index(prefix) + 1
    assert units.parse_bytes(f"{number} {prefix}iB") == number * 1024**power
    assert units.parse_bytes(f"{number} {prefix}B") == number * 1000**power


@given(st.integers(1, 10**6), st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi"]))
def test_a_bit_is_an_eighth_of_a_byte(number, prefix):
    exact = Fraction(units._BITS[f"{prefix}b"] * number, 10**9)
    assert units.parse_bandwidth(f"{number} {prefix}b/s") == float(exact)
    assert units.parse_bandwidth(f"{number} {prefix}B/s") == float(8 * exact)


@given(st.decimals(0, 10**9, allow_nan=False, places=6))
def test_a_float_is_the_nearest_to_the_decimal_written(number):
    assert units.parse_time(f"{number} us") == float(Fraction(number) * 1000)


@pytest.mark.parametrize("kind", [*PARSERS, "any"])
@given(text=st.text() | st.from_regex(r"[-+$ ]*[0-9.eE+-]{0,9} ?[a-zA-Z$/]{0,9}", fullmatch=True))
def test_arbitrary_text_raises_nothing_but_input_error(kind, text):
    parse = units.parse_any if kind == "any" else PARSERS[kind][0]
    try:
        assert parse(text) >= 0
    except InputError as error:
        assert "\n" not in str(error)


def test_every_unit_belongs_to_one_quantity():
    assert len(units._BY_UNIT) == sum(
        len(quantity.units) for quantity in vars(units).values() if isinstance(quantity, units.Quantity)
    )


def test_any_is_read_as_its_unit_says():
    assert units.parse_any("8 KiB") == 8192
    assert isinstance(units.parse_any("8 KiB"), int)
    assert units.parse_any("75 us") == 75_000.0
    assert units.parse_any("1200 MT/s") == 1.2


def test_schemas_read_the_same_spellings_and_keep_the_sentence():
    class Part(BaseModel):
        capacity: units.Bytes
        latency: units.Nanoseconds
        bandwidth: units.BytesPerNs

    part = Part(capacity="1 KiB", latency="2 us", bandwidth="3 GB/s")
    assert (part.capacity, part.latency, part.bandwidth) == (1024, 2000.0, 3.0)
    with pytest.raises(ValidationError) as caught:
        Part(capacity="80 Gib", latency="2 us", bandwidth="3 GB/s")
    (fault,) = caught.value.errors()
    assert isinstance(fault["ctx"]["error"], InputError)
    assert "did you mean 'GiB'?" in fault["msg"]
