"""Brackets in a formula."""

PAIRS = {")": "(", "]": "[", "}": "{"}


def is_balanced(text):
    """Whether every bracket is closed by one of its own kind, in the right order."""
    opened = []
    for char in text:
        if char in PAIRS.values():
            opened.append(char)
        elif char in PAIRS:
            if not opened or opened.pop() != PAIRS[char]:
                return False
    return True
