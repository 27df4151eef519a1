from thermometer import to_celsius


def test_freezing_point():
    assert to_celsius(32) == 0


def test_boiling_point():
    assert to_celsius(212) == 100


def test_where_both_scales_meet():
    assert to_celsius(-40) == -40


def test_warm_day():
    assert to_celsius(77) == 25
