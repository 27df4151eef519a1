"""Letters typed on narrow paper."""


def wrap_text(text, width):
    """Lines of whole words, each at most `width` long unless one word is longer."""
    lines = []
    line = ""
    for word in text.split():
        if line and len(line) + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    if line:
        lines.append(line)
    return lines
