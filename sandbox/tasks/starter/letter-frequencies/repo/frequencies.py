"""How often things occur."""


def letter_counts(text):
    counts = {}
    for letter in text:
        counts[letter] = counts.get(letter, 1) + 1
    return counts
