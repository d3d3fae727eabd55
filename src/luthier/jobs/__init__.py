"""The desk: from a recipe to its plan, and through the rooms in order."""
