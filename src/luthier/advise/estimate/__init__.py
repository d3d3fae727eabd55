"""Estimate: what a plan will take, from a few measured steps or from published figures; arithmetic only."""
