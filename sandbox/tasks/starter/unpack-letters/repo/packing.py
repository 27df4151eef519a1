"""Texts packed as a count before each letter: 3a2b is aaabb."""


def unpack(packed):
    """The unpacked text. A letter without a count stands for itself."""
    text = ""
    count = 0
    for char in packed:
        if char.isdigit():
            count = count * 10 + int(char)
        else:
            text += char * count
            count = 0
    return text
