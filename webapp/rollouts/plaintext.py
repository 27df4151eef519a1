"""What an agent or a tool wrote, made safe to read: no escape sequences, nothing invisible.
Escaping HTML is the template's part.
"""

import re

ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|\x1b[P^_X][^\x1b\n]*\x1b\\"  # DCS, PM, APC, SOS
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
"""What has no end on its line is none: it would take with it what an agent wants nobody to see."""
CONTROL = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "␡"}
# Text that shows in another order than it runs (Trojan Source), and characters of no width.
INVISIBLE = [0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]
VISIBLE = CONTROL | {code: f"‹U+{code:04X}›" for code in INVISIBLE}


def plain(text: str) -> str:
    """`text` without escape sequences; control and invisible characters become visible ones."""
    return every_character(ANSI.sub("", text))


def every_character(text: str) -> str:
    """`text` with nothing left out, as patches and source are reviewed: escape sequences show too."""
    return text.replace("\r\n", "\n").translate(VISIBLE)
