from tips import tip


def test_ten_percent():
    assert tip(50, 10) == 5


def test_no_tip():
    assert tip(80, 0) == 0


def test_whole_bill():
    assert tip(30, 100) == 30


def test_fifteen_percent():
    assert tip(20, 15) == 3
