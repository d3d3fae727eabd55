"""The Specs of what is trained in a model: LoRA's updates, or all weights."""
