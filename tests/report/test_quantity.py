import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.report.quantity import bytes_text, count_text, digits_text, number_text, seconds_text, share_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (90_868_376, "90.9 MB"),
        (98_362_432, "98.4 MB"),
        (2e12, "2.00 TB"),
    ],
)
def test_sizes_have_three_significant_digits(count, text):
    assert bytes_text(count) == text


def test_counts_keep_their_magnitude():
    assert count_text(22_713_216) == "22.7 M"
    assert count_text(999) == "999"


@given(part=st.integers(0, 10**12), whole=st.integers(1, 10**12))
def test_a_share_is_zero_or_whole_only_when_it_is(part, whole):
    text = share_text(min(part, whole), whole)
    assert (text == "0.00 %") == (min(part, whole) == 0)
    if text == "100 %":
        assert part >= whole


def test_a_share_of_nothing_is_no_number():
    assert share_text(3, 0) == "—"


def test_numbers_say_their_unit_and_when_they_are_unknown():
    assert number_text(22_713_216, "parameters") == "22,713,216"
    assert number_text(1_541_255, "bytes") == "1,541,255 bytes (1.54 MB)"
    assert number_text(None, "ms") == "unknown"
    assert number_text(9.87654, "ms") == "9.877 ms"


def test_durations():
    assert seconds_text(0.0412) == "41 ms"
    assert seconds_text(2.34) == "2.3 s"
    assert seconds_text(310.1) == "5 min 10 s"
    assert seconds_text(119.96) == "120.0 s"
    assert seconds_text(7500) == "2 h 5 min"


def test_measured_numbers_keep_three_digits():
    assert [digits_text(n) for n in (11.0, 7.918, 0.07033, 409.2, 1926.8, 0.0, 93)] == [
        "11.0", "7.92", "0.0703", "409", "1,927", "0", "93",
    ]  # fmt: skip
