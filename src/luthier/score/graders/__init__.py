"""Graders: a model's answer and a row to a reward, as the hosted service's graders do it."""
