"""Languages: from any usual code or name to what a prompt calls it, and to the tokenizer that its BLEU needs.

A code is ISO 639-1 or 639-3, alone, with a script as in Flores (``zho_Hans``), or BCP 47 (``fr-FR``); a name is English
("Simplified Chinese"). What is known of them is CLDR's, through ``langcodes`` and its ``language_data``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import langcodes

#: sacrebleu's tokenizers by script (ISO 15924); all other scripts put spaces between words and take its default, 13a.
#: ``char`` is for scripts without spaces for which sacrebleu has no words: those of Unicode's line breaking class SA
#: (UAX 14), Tibetan, and the Indonesian ones.
TOKENIZERS = {
    "Hans": "zh", "Hant": "zh", "Hani": "zh",
    "Jpan": "ja-mecab", "Hira": "ja-mecab", "Kana": "ja-mecab", "Hrkt": "ja-mecab",
    "Kore": "ko-mecab", "Hang": "ko-mecab",
    "Thai": "char", "Khmr": "char", "Laoo": "char", "Mymr": "char", "Tibt": "char", "Lana": "char", "Tale": "char",
    "Talu": "char", "Tavt": "char", "Ahom": "char", "Java": "char", "Bali": "char",
}  # fmt: skip
DEFAULT_TOKENIZER = "13a"

#: Codes of Flores-101 that are no BCP 47.
_OTHER_CODES = {"zho_simpl": "zh-Hans", "zho_trad": "zh-Hant"}
#: Codes for no language at all: several, none, one that has no code.
_NO_LANGUAGE = {"mul", "zxx", "mis", "und"}
#: Chinese is told apart before its name, and Korean's alphabet is what "Korean" is written in.
_SCRIPT_NAMES = {"Hans": "Simplified {}", "Hant": "Traditional {}", "Hang": "{}", "Hira": "{}", "Kana": "{}"}


@dataclass(frozen=True)
class Language:
    """A known language: its English name, its code (639-1 where it has one), and its script (ISO 15924).

    The name says the script only where it is not the one that the language is mostly written in: ``zho_Hans`` is
    "Chinese", ``zho_Hant`` "Traditional Chinese", ``srp_Latn`` "Serbian (Latin)".
    """

    name: str
    code: str
    script: str

    @property
    def tokenizer(self) -> str:
        """The tokenizer of sacrebleu that tells its words apart."""
        return TOKENIZERS.get(self.script, DEFAULT_TOKENIZER)


@lru_cache(maxsize=1024)
def find(text: str) -> Language | None:
    """The language of a code or an English name; ``None`` for one that is not known.

    >>> find("zho_Hant").name, find("japanese").tokenizer, find("the moon's")
    ('Traditional Chinese', 'ja-mecab', None)
    """
    text = text.strip()
    code, name = _by_code(text), _by_name(text)
    if code and name and text.istitle() and name.name == text:  # "Mon" is a name, "mon" and "MON" Mongolian's code
        return name
    return code or name


def language_name(text: str) -> str:
    """What a prompt calls a language: a code's English name. A name is left as it is, but for a missing capital, and so
    is what is not known.

    >>> language_name("fr-FR"), language_name("eng_Latn"), language_name("thai"), language_name("xx")
    ('French', 'English', 'Thai', 'xx')
    """
    found = find(text)
    if found is None or (_by_code(text.strip()) is None and not text.islower()):
        return text
    return found.name


def _by_code(text: str) -> Language | None:
    import langcodes

    tag = _OTHER_CODES.get(text.lower(), text.replace("_", "-"))
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*", tag):
        return None
    try:
        found = langcodes.Language.get(tag)
    except langcodes.LanguageTagError:
        return None
    if not found.language or found.language in _NO_LANGUAGE:
        return None
    return _known(found) if langcodes.Language.make(language=found.language).is_valid() else None


def _by_name(text: str) -> Language | None:
    import langcodes

    if len(text) < 3 or len(text) > 80:  # shorter ones are names of languages that nobody means
        return None
    try:
        return _known(langcodes.find(text))
    except LookupError:
        return None


def _known(found: langcodes.Language) -> Language:
    # "npi" is Nepali as "ne" is: one name for the language that everybody means, where CLDR has one.
    found = found.prefer_macrolanguage()
    name = re.sub(r" \(.*\)$", "", found.language_name())
    usual = found.make(language=found.language).maximize()
    # What is known of no language is English's in Latin script: no word on which script is usual.
    told = (usual.script, usual.territory) != ("Latn", "US") or found.language == "en"
    script = found.maximize().script or ""
    if told and script != usual.script:
        name = _SCRIPT_NAMES.get(script, f"{{}} ({found.make(script=script).script_name()})").format(name)
    return Language(name, str(found.language), script)
