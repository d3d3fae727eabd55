"""Advise: measure the alternatives to tuning, and tuning itself, on the user's rows under one time budget."""
