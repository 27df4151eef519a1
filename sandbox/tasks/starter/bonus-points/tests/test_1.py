from scoring import add_bonus


def test_adds_bonus():
    assert add_bonus(10, 5) == 15


def test_zero_bonus_changes_nothing():
    assert add_bonus(7, 0) == 7


def test_negative_bonus_takes_away():
    assert add_bonus(4, -3) == 1


def test_works_from_zero():
    assert add_bonus(0, 12) == 12
