from rocket import countdown


def test_from_three():
    assert countdown(3) == [3, 2, 1]


def test_from_one():
    assert countdown(1) == [1]


def test_from_zero():
    assert countdown(0) == []


def test_from_five():
    assert countdown(5) == [5, 4, 3, 2, 1]
