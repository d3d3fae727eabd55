"""Answers that are pieces of a text, by a head."""
