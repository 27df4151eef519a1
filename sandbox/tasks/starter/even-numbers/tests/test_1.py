from parity import is_even


def test_two_is_even():
    assert is_even(2) is True


def test_three_is_not():
    assert is_even(3) is False


def test_zero_is_even():
    assert is_even(0) is True


def test_negatives():
    assert is_even(-4) is True and is_even(-7) is False
