"""Scoring: pure metrics on answers, intervals around them, and paired tests between systems."""
