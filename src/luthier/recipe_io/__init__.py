"""From a recipe file to a checked Recipe, and back to YAML."""
