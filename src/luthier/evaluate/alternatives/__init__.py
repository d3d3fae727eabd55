"""Alternatives: everything that a tuning is measured against for advice, on the same held-out rows under one budget."""
