from sheep import count_sheep


def test_no_animals():
    assert count_sheep([]) == 0


def test_one_sheep():
    assert count_sheep(["sheep"]) == 1


def test_mixed_flock():
    assert count_sheep(["sheep", "goat", "sheep", "dog"]) == 2


def test_only_goats():
    assert count_sheep(["goat", "goat"]) == 0
