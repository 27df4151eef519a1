from till import change_due


def test_gives_change():
    assert change_due(20, 15) == 5


def test_exact_money():
    assert change_due(8, 8) == 0


def test_free():
    assert change_due(5, 0) == 5


def test_too_little_is_negative():
    assert change_due(3, 10) == -7
