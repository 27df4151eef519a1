from eggs import count_eggs


def test_one_dozen():
    assert count_eggs(1) == 12


def test_none():
    assert count_eggs(0) == 0


def test_five():
    assert count_eggs(5) == 60


def test_half():
    assert count_eggs(0.5) == 6
