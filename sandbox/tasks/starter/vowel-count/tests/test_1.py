from vowels import count_vowels


def test_every_vowel():
    assert count_vowels("education") == 5


def test_only_u():
    assert count_vowels("lunch") == 1


def test_none():
    assert count_vowels("rhythm") == 0


def test_repeated():
    assert count_vowels("banana") == 3
