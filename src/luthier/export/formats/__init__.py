"""Export formats: one file per form, each writing a folder and proving it."""
