"""The command line: words in, words out; the work is done in jobs."""
