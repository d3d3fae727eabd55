"""The training room: recipe and rows to tuned weights."""
