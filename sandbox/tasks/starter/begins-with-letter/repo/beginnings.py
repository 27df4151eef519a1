"""How words begin."""


def begins_with(word, letter):
    return word.endswith(letter)
