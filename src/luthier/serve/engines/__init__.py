"""Engines: prompts to tokens, each in a file of its own."""
