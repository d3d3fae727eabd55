"""Sources: one file per kind, each an iterator of rows that never holds more than a few of them."""
