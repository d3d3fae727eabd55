"""The workshop: the only torch code that rooms share."""
