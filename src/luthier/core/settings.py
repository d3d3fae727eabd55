"""Where Luthier keeps things on this machine; every place can be set by an environment variable."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return the folder for converted models and tokenised data (`LUTHIER_CACHE`)."""
    return Path(os.environ.get("LUTHIER_CACHE") or platformdirs.user_cache_dir("luthier"))


def runs_dir() -> Path:
    """Return the folder that holds runs without an `--out` (`LUTHIER_RUNS`, else `./runs`)."""
    return Path(os.environ.get("LUTHIER_RUNS") or "runs")


def home_dir() -> Path:
    """Return the folder of the service: its files, jobs, models and keys (`LUTHIER_HOME`, else `~/.luthier`)."""
    return Path(os.environ.get("LUTHIER_HOME") or Path.home() / ".luthier")
