"""The service's desk: what is stored, queued and served, without a word of HTTP."""
