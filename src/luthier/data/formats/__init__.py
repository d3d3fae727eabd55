"""Formats: one file per shape of row, each saying whether rows fit and reading one into an Example."""
