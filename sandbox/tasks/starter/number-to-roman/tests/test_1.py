from to_roman import to_roman


def test_nine():
    assert to_roman(9) == "IX"


def test_nineteen():
    assert to_roman(19) == "XIX"


def test_four():
    assert to_roman(4) == "IV"


def test_ninety_nine():
    assert to_roman(99) == "XCIX"


def test_three_hundred_eighty_eight():
    assert to_roman(388) == "CCCLXXXVIII"
