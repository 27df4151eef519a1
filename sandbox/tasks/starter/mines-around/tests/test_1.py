from mines import mines_around


def test_corner_does_not_see_the_other_side():
    assert mines_around(["...", "...", "X.X"], 0, 0) == 0


def test_middle():
    assert mines_around(["X.X", "...", "X.X"], 1, 1) == 4


def test_own_field_does_not_count():
    assert mines_around(["X"], 0, 0) == 0


def test_last_corner():
    assert mines_around(["X..", ".X.", "..X"], 2, 2) == 1


def test_left_edge():
    assert mines_around(["..X", "..X", "..X"], 1, 0) == 0
