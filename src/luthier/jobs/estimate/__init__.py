"""Estimate: what a plan will take, before anything of it runs."""

from luthier.jobs.estimate.door import Before, estimate_plan, estimate_recipe

__all__ = ["Before", "estimate_plan", "estimate_recipe"]
