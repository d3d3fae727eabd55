"""Summaries, translations: a target text from a source text."""
