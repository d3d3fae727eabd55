"""Doors for other tools' commands: their options in this house's words, or a refusal that names the option."""
