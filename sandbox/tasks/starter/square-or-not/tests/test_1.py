from shapes import is_square


def test_equal_sides():
    assert is_square(4, 4) is True


def test_different_sides():
    assert is_square(4, 5) is False


def test_turned():
    assert is_square(5, 4) is False


def test_fractions():
    assert is_square(0.5, 0.5) is True
