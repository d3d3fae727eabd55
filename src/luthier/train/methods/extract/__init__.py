"""Entities by a head."""
