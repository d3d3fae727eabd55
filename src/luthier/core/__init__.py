"""The floor: errors, Specs, files, events and artifacts; the standard library, pydantic and PyYAML."""
