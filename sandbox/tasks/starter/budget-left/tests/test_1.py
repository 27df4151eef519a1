from budget import money_left


def test_some_left():
    assert money_left(100, 30) == 70


def test_nothing_spent():
    assert money_left(50, 0) == 50


def test_all_spent():
    assert money_left(20, 20) == 0


def test_overspent():
    assert money_left(10, 15) == -5
