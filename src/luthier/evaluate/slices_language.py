"""A cheap guess at a text's language: by its script, and among European ones by their commonest small words."""

import unicodedata
from collections import Counter

LOOKED_AT = 2000
"""Letters that decide the script."""
FEWEST_WORDS = 2
"""Different small words of a language that a text must have to be taken for it."""
KANA_SHARE = 0.05
UNKNOWN = "no letters"
LATIN = "Latin"
SMALL_WORDS = {
    "English": "the of and to in is that it for was with you this are not what how",
    "German": "der die das und ist nicht ein eine zu mit den von auf wie für im sie",
    "French": "le la les des et est une dans que pour pas vous qui sur du au avec",
    "Spanish": "el los las una que es por con para del se como más pero su qué y",
    "Italian": "il che di è per una non con gli della sono come del più nel questo i",
    "Portuguese": "o os as uma que não com para do da em é como mais dos no na",
    "Dutch": "de het een van en is niet dat op te voor met zijn wat ook maar aan",
}
_WORDS = {language: frozenset(words.split()) for language, words in SMALL_WORDS.items()}


def language_of(text: str) -> str:
    """Return a language, or only a script (`Latin`, `Cyrillic`, `Arabic`, …) where the text does not say more."""
    letters = [letter for letter in text if letter.isalpha()][:LOOKED_AT]
    scripts = Counter(map(_script, letters))
    if not scripts:
        return UNKNOWN
    if (scripts["Hiragana"] + scripts["Katakana"]) / len(letters) >= KANA_SHARE:
        return "Japanese"
    script = scripts.most_common(1)[0][0]
    if script == LATIN:
        return _latin_language(text) or LATIN
    return {"Cjk": "Chinese", "Hangul": "Korean"}.get(script, script)


def _script(letter: str) -> str:
    words = unicodedata.name(letter, "UNKNOWN").removeprefix("FULLWIDTH ").split()
    return words[0].capitalize()


def _latin_language(text: str) -> str | None:
    """Return the one language with the most of its small words in the text; None where none or several lead."""
    words = {word.strip(".,;:!?¿¡\"'()") for word in text.lower().split()}
    counts = Counter({language: len(words & small) for language, small in _WORDS.items()})
    (first, most), (_, next_most) = counts.most_common(2)
    return first if most >= FEWEST_WORDS and most > next_most else None
