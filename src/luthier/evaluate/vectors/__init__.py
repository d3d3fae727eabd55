"""The exam of vectors: whether what belongs together lies near."""
