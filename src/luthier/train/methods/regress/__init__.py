"""Regression by a head."""
