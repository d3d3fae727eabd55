"""Advice: from facts about data, model and machine to values for every open field, each with its reason."""
