"""A finished rollout as a verifier reads it: the issue, what the agent did turn by turn, its patch, and the question.

In the manner of R2E-Gym's execution-free verifier, in our own words: a judge's system message, a log of [STEP] [ASSISTANT]
[USER], a [PATCH], and an answer that is YES or NO. Long ones are shortened by rule, the same text always to the same: the
longest piece of the log is replaced by a placeholder, again and again, until the whole fits. The issue and the patch stay.
"""

from collections.abc import Sequence

from sandbox.trajectory import Turn

ANSWER = "<judgement>"
"""Begins the answer; the next token says YES or NO."""
PLACEHOLDER = "(left out: {size} characters)"
SYSTEM = f"""
You judge whether a software engineering agent has solved the issue it was given. You see the issue, a log of what the agent
did and saw, and its final patch. Hidden tests decide; you do not see them. Answer with {ANSWER}YES</judgement> when the patch
solves the issue and breaks nothing, and with {ANSWER}NO</judgement> otherwise.
""".strip()


def messages(
    problem_statement: str, turns: Sequence[Turn], patch: str, *, max_chars: int
) -> list[dict[str, str]]:
    """The chat that asks for a judgement. At most `max_chars` in all, unless issue and patch alone are longer."""
    opening = f"[ISSUE]\n{problem_statement.strip()}\n[/ISSUE]"
    closing = f"[PATCH]\n{patch.strip() or '(nothing was changed)'}\n[/PATCH]\nIs the issue solved?"
    room = max_chars - len(SYSTEM) - len(opening) - len(closing)
    log = shortened([piece for turn in turns for piece in _pieces(turn)], room)
    content = "\n\n".join([opening, *log, closing])
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def _pieces(turn: Turn) -> list[str]:
    return [
        f"[STEP] {turn.index + 1}\n[ASSISTANT]\n{turn.text.strip()}",
        f"[USER]\n{(turn.observation or turn.error).strip()}",
    ]


def shortened(pieces: list[str], room: int) -> list[str]:
    """The longest pieces replaced, of equal ones the first, until all fit or nothing gets shorter by it."""
    pieces, total = list(pieces), sum(map(len, pieces))
    for place in sorted(range(len(pieces)), key=lambda i: -len(pieces[i])):
        if total <= room:
            break
        head = pieces[place].partition("\n")[0]
        short = f"{head}\n{PLACEHOLDER.format(size=len(pieces[place]) - len(head))}"
        if len(short) < len(pieces[place]):
            total -= len(pieces[place]) - len(short)
            pieces[place] = short
    return pieces
