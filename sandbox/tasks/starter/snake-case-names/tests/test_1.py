from snake import snake_case


def test_two_words():
    assert snake_case("Total Price") == "total_price"


def test_three_words():
    assert snake_case("one two three") == "one_two_three"


def test_single():
    assert snake_case("Name") == "name"


def test_outer_spaces():
    assert snake_case("  Big Cat ") == "big_cat"


def test_hyphens_stay():
    assert snake_case("Re-open File") == "re-open_file"
