from voices import shout


def test_upper_case():
    assert shout("hello") == "HELLO!"


def test_mixed_case():
    assert shout("Go Away") == "GO AWAY!"


def test_empty():
    assert shout("") == "!"


def test_digits_stay():
    assert shout("r2d2") == "R2D2!"
