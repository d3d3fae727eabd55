"""The serving room: prompts to tokens, many adapters beside one base."""
