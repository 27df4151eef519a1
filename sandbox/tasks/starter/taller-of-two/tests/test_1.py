from heights import taller


def test_first_is_taller():
    assert taller(180, 165) == 180


def test_second_is_taller():
    assert taller(150, 172) == 172


def test_equal():
    assert taller(160, 160) == 160


def test_fractions():
    assert taller(1.5, 1.75) == 1.75
