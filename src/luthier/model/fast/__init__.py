"""The fast decoder: the arithmetic of Llama-like layers with nothing computed, copied or kept in vain."""
