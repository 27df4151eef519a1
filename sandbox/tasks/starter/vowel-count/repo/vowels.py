"""Letters of a word."""


def count_vowels(word):
    found = [letter for letter in word if letter in "aeio"]
    return len(found)
