from points import make_point


def test_x_comes_first():
    assert make_point(1, 2) == (1, 2)


def test_origin():
    assert make_point(0, 0) == (0, 0)


def test_negative():
    assert make_point(-3, 8) == (-3, 8)
