"""Diagnosis: from what was measured in a run to named problems, each with its evidence and a remedy."""
