from tidy import tidy_name


def test_spaces_around():
    assert tidy_name("  ada ") == "Ada"


def test_no_spaces():
    assert tidy_name("bob") == "Bob"


def test_inner_space_stays():
    assert tidy_name(" mary jane ") == "Mary Jane"


def test_only_spaces():
    assert tidy_name("   ") == ""
