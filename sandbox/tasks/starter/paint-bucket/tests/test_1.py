from paint import fill_area


def test_upwards():
    assert fill_area(["aa", "aa"], 1, 0, "x") == ["xx", "xx"]


def test_downwards():
    assert fill_area(["a", "a", "b"], 0, 0, "x") == ["x", "x", "b"]


def test_diagonal_is_not_connected():
    assert fill_area(["ab", "ba"], 1, 1, "x") == ["ab", "bx"]


def test_around_a_corner():
    assert fill_area(["aba", "aba", "aaa"], 0, 2, "x") == ["xbx", "xbx", "xxx"]


def test_same_colour():
    assert fill_area(["aa"], 0, 1, "a") == ["aa"]
