from fences import fence_length


def test_rectangle():
    assert fence_length(3, 4) == 14


def test_square():
    assert fence_length(5, 5) == 20


def test_no_garden():
    assert fence_length(0, 0) == 0


def test_strip():
    assert fence_length(10, 1) == 22
