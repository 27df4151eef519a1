from factorials import factorial


def test_four():
    assert factorial(4) == 24


def test_zero():
    assert factorial(0) == 1


def test_two():
    assert factorial(2) == 2


def test_six():
    assert factorial(6) == 720
