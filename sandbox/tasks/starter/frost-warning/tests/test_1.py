from frost import is_freezing


def test_below_zero():
    assert is_freezing(-3) is True


def test_above_zero():
    assert is_freezing(5) is False


def test_exactly_zero_is_not():
    assert is_freezing(0) is False


def test_just_below():
    assert is_freezing(-0.1) is True
