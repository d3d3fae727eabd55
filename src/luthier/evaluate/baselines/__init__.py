"""Baselines: each asks the untuned model in its own way, one file each."""
