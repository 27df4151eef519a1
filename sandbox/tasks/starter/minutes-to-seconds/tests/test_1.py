from clock_units import to_seconds


def test_one_minute():
    assert to_seconds(1) == 60


def test_none():
    assert to_seconds(0) == 0


def test_an_hour():
    assert to_seconds(60) == 3600


def test_half_a_minute():
    assert to_seconds(0.5) == 30
