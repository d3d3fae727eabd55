"""Suspects: texts that look like secrets or personal data. Only their kind is ever returned, never the text."""

import re
from collections.abc import Callable

SECRETS: dict[str, re.Pattern[str]] = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"),
    "AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{36})"),
    "GitLab token": re.compile(r"\bglpat-[\w-]{20}"),
    "Google API key": re.compile(r"\bAIza[\w-]{35}"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30}"),
    "API key (sk-…)": re.compile(r"\bsk-(?=[\w-]*\d)[\w-]{20}"),
    "Slack token": re.compile(r"\bxox[abeoprs]-[\w-]{10}"),
    "Stripe key": re.compile(r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16}"),
    "JSON web token": re.compile(r"\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,2000}\."),
    "password in a URL": re.compile(r"\b[a-z][a-z0-9+]{1,15}://[^\s/:@]{1,64}:[^\s/@]{3,64}@"),
    "password or token": re.compile(
        r"\b(?:password|passwd|pwd|passphrase|secret|api[_-]?key|access[_-]?token|auth[_-]?token)[\"']?\s{0,3}[:=]\s{0,3}"
        r"[\"']?(?=[^\s\"']*\d)[^\s\"'<>{}$]{6}",
        re.IGNORECASE,
    ),
}
PERSONAL: dict[str, re.Pattern[str]] = {
    "e-mail address": re.compile(r"[\w.+-]{1,64}@(?!example\.)[\w-]{1,63}(?:\.[\w-]{1,63})*\.[A-Za-z]{2,24}\b"),
    "phone number": re.compile(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}"
        r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[ .-]\d{3}[ .-]\d{4})(?!\d)"
    ),
    "IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
    "card number": re.compile(r"(?<![\d.-])(?:\d[ -]?){12,18}\d(?!\d|[.-]\d)"),
    "US social security number": re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
}


def is_iban(text: str) -> bool:
    """Return whether the check digits of an IBAN are right (ISO 13616)."""
    compact = text.replace(" ", "")
    digits = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return 15 <= len(compact) <= 34 and int(digits) % 97 == 1


def is_card(text: str) -> bool:
    """Return whether the digits are those of a payment card: known first digit, right check digit (Luhn)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and digits[0] in (2, 3, 4, 5, 6) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


CONFIRM: dict[str, Callable[[str], bool]] = {"IBAN": is_iban, "card number": is_card}


def suspects_in(text: str) -> list[str]:
    """Return the kinds of secrets and personal data the text seems to hold."""
    return [kind for kind, pattern in (SECRETS | PERSONAL).items() if _found(kind, pattern, text)]


def _found(kind: str, pattern: re.Pattern[str], text: str) -> bool:
    confirm = CONFIRM.get(kind)
    if confirm is None:
        return pattern.search(text) is not None
    return any(confirm(found.group()) for found in pattern.finditer(text))
