"""Suspects: what looks like a secret or personal data is found, what only resembles it is not."""

import pytest

from luthier.data.suspects import PERSONAL, SECRETS, suspects_in

# Put together at run time, so that no scanner of this repository takes them for real ones.
FOUND = {
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "AWS key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "GitHub token": "ghp_" + "a1" * 18,
    "GitLab token": "glpat-" + "a1b2c3d4e5f6g7h8i9j0",
    "Google API key": "AIza" + "a1" * 17 + "b",
    "Hugging Face token": "hf_" + "aB" * 17,
    "API key (sk-…)": "sk-" + "proj-a1b2c3d4e5f6g7h8i9j0",
    "Slack token": "xoxb-" + "1234567890-abc",
    "Stripe key": "sk_live_" + "a1b2c3d4e5f6g7h8",
    "JSON web token": "eyJ" + "hbGciOiJI" + ".eyJ" + "zdWIiOiIx" + ".abc",
    "password in a URL": "postgres://ann:" + "hunter2@db.local/x",
    "password or token": "password = " + "hunter2hunter2",
    "e-mail address": "write to ann.lee+x@mail.co.uk now",
    "phone number": "call +49 30 1234 5678 or",
    "IBAN": "IBAN DE89 3704 0044 0532 0130 00.",
    "card number": "card 4111 1111 1111 1111.",
    "US social security number": "ssn 536-90-4399",
}
INNOCENT = (
    "The year 2024-2025 had 1,234,567 visitors, 12:30:00, version 1.2.3-4.",
    "order 4111 1111 1111 1112 is not a card, DE00 3704 0044 0532 0130 00 no IBAN",
    "sk-learn-is-a-library-for-machine-learning",
    "The password is the one you chose. password: <your password>",
    "def token(self): return self.secret",
    "you@ home, @handle, a@b, user@example.com",
    "https://host:8080/path?a=b",
    "ISBN 978-3-16-148410-0",
)


@pytest.mark.parametrize("kind", [*SECRETS, *PERSONAL])
def test_each_kind_is_found(kind: str) -> None:
    assert kind in suspects_in(f"Some text. {FOUND[kind]}")


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_resembles_one_is_not(text: str) -> None:
    assert suspects_in(text) == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["a@", "eyJ" + "a" * 20 + "-", "1 ", "+1 (", "a:", "DE12 ", "://a:", "-----BEGIN A", "password=x"]
)
def test_no_text_makes_it_slow(unit: str) -> None:
    assert isinstance(suspects_in(unit * (200_000 // len(unit))), list)
