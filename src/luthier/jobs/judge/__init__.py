"""Judging answers two at a time, by people and by models."""
