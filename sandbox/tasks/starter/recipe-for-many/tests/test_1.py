from measures import to_grams
from recipes import scale


def test_kilograms():
    assert to_grams(2, "kg") == 2000


def test_other_units():
    assert (to_grams(5, "g"), to_grams(2, "pinch")) == (5, 1)


def test_half_a_recipe():
    assert scale({"flour": (500, "g")}, 4, 2) == {"flour": 250}


def test_six_instead_of_four():
    assert scale({"rice": (1, "kg")}, 4, 6) == {"rice": 1500}


def test_same_number():
    assert scale({"salt": (2, "pinch"), "oats": (80, "g")}, 3, 3) == {"salt": 1, "oats": 80}
