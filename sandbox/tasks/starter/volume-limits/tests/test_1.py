from volume import set_volume


def test_in_between():
    assert set_volume(4) == 4


def test_too_loud():
    assert set_volume(15) == 10


def test_below_the_lowest():
    assert set_volume(-3) == 0


def test_own_limits():
    assert set_volume(1, 2, 5) == 2 and set_volume(9, 2, 5) == 5
