from powers import power


def test_squares_by_default():
    assert power(3) == 9


def test_cube():
    assert power(2, 3) == 8


def test_exponent_zero():
    assert power(5, 0) == 1


def test_exponent_one():
    assert power(7, 1) == 7
