from greetings import greet


def test_ann():
    assert greet("Ann") == "Hello, Ann"


def test_bob():
    assert greet("Bob") == "Hello, Bob"


def test_two_words():
    assert greet("Mary Jane") == "Hello, Mary Jane"
