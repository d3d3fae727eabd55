"""Diagnosis of a run: gather the evidence from its folder, ask the rules, and apply what they say."""
