"""The exam of a model with a head: nothing is written, so that there is nothing to read out of an answer."""
