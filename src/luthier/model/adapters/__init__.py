"""The Specs of what is trained in a model: an adapter beside it, some of its layers, or all weights."""
