"""Text that would be more than text: what the tests put wherever a value from outside is shown, and what finds it drawn as markup."""

import random
import re

#: One of each that Markdown, Streamlit's additions to it, and Plotly's HTML know. ``MARK`` stands in what would be drawn.
PIECES = [
    "![MARK](http://evil.test/i.png)", "[MARK](http://evil.test/)", "http://evil.test/MARK", "HTTPS://evil.test/MARK?a=1&b", "www.evil.test/MARK",
    "MARK@evil.test", "<http://evil.test/MARK>", "<b>MARK</b>", "<img src='http://evil.test/MARK.png'>", "<a href='http://evil.test/'>MARK</a>",
    "**MARK**", "__MARK__", "*MARK*", "_MARK_", "~~MARK~~", "`MARK`", "``MARK``", "$MARK$", "$$MARK$$", ":red[MARK]", ":blue-background[MARK]",
    ":gray-badge[MARK]", ":small[MARK]", ":help[MARK]", ":shimmer[MARK]", ":color[MARK]{foreground=\"red\"}", ":material/home:", ":material_home:", ":smile:",
    ":+1:", ":streamlit:", "# MARK", "- MARK", "+ MARK", "1. MARK", "1) MARK", "> MARK", "| MARK |", "```MARK", "---", "===", ":-", ":-:", "::MARK",
    ":::MARK", "[^1]", "[^1]: MARK", "&lt;MARK&gt;", "&#77;ARK", "->", "<-", "<->", "--", ">=", "<=", "~=", "%{x}", "\\", "\\*MARK\\*",
]  # fmt: skip
#: What bounds them, changes how they are read, or stands between them.
BETWEEN = [
    "",
    " ",
    "  ",
    "a",
    "_",
    "*",
    "`",
    ":",
    "::",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "|",
    "\\",
    "$",
    "&",
    "<",
    ">",
    "-",
    "=",
    "é",
    "0",
    "x_y",
    "\n",
]
#: One line with much of it, for a message.
LINE = " ".join(PIECES[:32])


def values(count: int) -> list[str]:
    """Every piece alone, and ``count`` made of several: the same each time."""
    chance = random.Random(0)
    made = [
        "".join(chance.choice(PIECES) + chance.choice(BETWEEN) for _ in range(chance.randint(2, 4)))
        for _ in range(count)
    ]
    return [*PIECES, *made]


def text_of(markdown: str) -> str:
    """What a page draws for Markdown that ``say.plain`` made: the value itself, on one line."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", re.sub(r":color\[\\?(.)\]", r"\1", markdown))


#: For a page: every element that a piece became. What the program itself puts around a value holds the piece's signs too.
DRAWN = """() => {
    const found = [...document.querySelectorAll(
        '[src*=evil], [href*=evil], [src*=MARK], [href*=MARK], [aria-label$=" icon"][role=img], [alt="Streamlit logo"]')];
    for (const e of document.querySelectorAll('[data-testid=stMarkdownContainer] *, .js-plotly-plot a'))
        if (e.tagName == 'a' || e.textContent.trim() == 'MARK' || e.tagName == 'math' && /MARK/.test(e.textContent)) found.push(e);
    return [...new Set(found.map(e => e.outerHTML.slice(0, 300)))];
}"""
