from monograms import initials


def test_lower_case_name():
    assert initials("ada lovelace") == "A.L"


def test_upper_case_name():
    assert initials("Alan Turing") == "A.T"


def test_one_word():
    assert initials("plato") == "P"


def test_three_words():
    assert initials("john von neumann") == "J.V.N"
