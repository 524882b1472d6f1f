"""What a page says of values from outside: as text, never as markup.

A link, a folder's name, a vocabulary, a text or a run's label may come from a stranger. Streamlit reads nearly every string
that it shows as Markdown, and would fetch the image or draw the link in it. So every message goes through here: the boxes take
plain text alone, and whatever else is put into Markdown goes through ``plain`` or ``code``.
"""

from __future__ import annotations

import re
import unicodedata

import streamlit as st

from ks_core.errors import visible
from ks_core.values import code_span

#: What is read in a text after escapes are gone, so that a backslash does not stop it: addresses, mail, ``:shortcodes:``, icons.
#: Each is taken apart at its first character, or for mail at the ``@``.
_LATE = re.compile(
    r"h(?=ttps?://) | w(?=ww\.) | (?<=[-.\w+])@(?=[-\w]+\.) | :(?=[\w+-]+(?::|\Z)) | :(?=material/)",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
#: ``->``, ``--``, ``>=`` and the like, alone or after a sign that was taken apart, which Streamlit would draw as one sign.
_ARROW = re.compile(r"(?<![^\s:])[-<>=~]{2,}(?=\s|\Z|https?://|www\.|[:@])", re.IGNORECASE)
#: What has a meaning anywhere in a line; ``_`` inside a word and ``:`` before a space have none.
_MARK = re.compile(r"[\\`*~$&<|{}\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?! )")
#: What has a meaning where a line begins: headings, lists, quotes, rules, tables.
_FIRST = re.compile(r"[#+\-=>]|\d{1,9}(?=[.)])")
#: Marks that turn the order of letters round, for the sentence around them too.
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def plain(value: object) -> str:
    """A value as text inside Markdown, on one line, wherever in a line or a label it stands.

    What cannot be escaped is taken apart by ``:color[x]`` without a colour, which draws ``x`` as it is. What a screen does not
    show is written as ``⟨U+202E⟩``.

    >>> plain("a *b* ![c](http://d.e)")
    'a \\\\*b\\\\* !\\\\[c\\\\](:color[h]ttp\\\\://d.e)'
    """
    text = " ".join(_seen(str(value)).split())
    made, at = [], 0
    for found in _pieces(text):
        made.append(_escaped(text[at : found.start()], first=at == 0))
        made += (f":color[{_escaped(sign, first=True)}]" for sign in found.group())
        at = found.end()
    return "".join([*made, _escaped(text[at:], first=at == 0)])


def code(value: object) -> str:
    """A value as code inside Markdown: a path, a name, a hash. Line breaks are shown as signs.

    >>> code("a`b"), code("")
    ('``a`b``', '')
    """
    text = str(value)
    if ":material/" in text:  # Streamlit replaces this before it looks for code
        return plain(re.sub(r"\r\n|\r|\n", "⏎", text))
    return code_span(text)


def text_block(value: object) -> None:
    """A text of several lines as it is, no markup in it read: what a model wrote."""
    st.code("\n".join(_seen(line) for line in str(value).split("\n")), language=None, wrap_lines=True)


def error(problem: object) -> None:
    """What went wrong, in a red box: an error, or a sentence."""
    st.error(plain(problem), icon=":material/error:")


def warning(sentence: object, icon: str = "warning") -> None:
    """What the reader has to know, in a yellow box. ``icon`` is the name of a Material icon."""
    st.warning(plain(sentence), icon=f":material/{icon}:")


def info(sentence: object, icon: str = "info") -> None:
    """What the reader may want to know, in a blue box."""
    st.info(plain(sentence), icon=f":material/{icon}:")


def success(sentence: object, icon: str = "check_circle") -> None:
    """What went well, in a green box."""
    st.success(plain(sentence), icon=f":material/{icon}:")


def _pieces(text: str) -> list[re.Match[str]]:
    """The parts that escapes do not reach, in order."""
    return sorted((*_LATE.finditer(text), *_ARROW.finditer(text)), key=lambda found: found.start())


def _escaped(text: str, *, first: bool) -> str:
    """A part without what ``_pieces`` finds. ``first``: a line may begin with it."""
    start = _FIRST.match(text) if first else None
    head, rest = (start.group(), text[start.end() :]) if start else ("", text)
    if head.isdigit():
        head, rest = head + "\\" + rest[0], rest[1:]
    elif head:
        head = "\\" + head
    return head + _MARK.sub(r"\\\g<0>", rest)


def _seen(text: str) -> str:
    """Text without controls, half characters, and marks that turn the order of letters round.

    Not ``visible``: sentences of many languages hold joiners and spaces that it would spell out.
    """

    def hidden(character: str) -> bool:
        return character in _TURNING or (unicodedata.category(character) in ("Cc", "Cs") and not character.isspace())

    return text if text.isprintable() else "".join(visible(c) if hidden(c) else c for c in text)
