from doubling import double


def test_two():
    assert double(2) == 4


def test_zero():
    assert double(0) == 0


def test_negative():
    assert double(-5) == -10


def test_fraction():
    assert double(1.5) == 3.0
