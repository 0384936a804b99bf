"""Settings from the environment."""

import os


def seconds(name: str) -> float:
    """A time in seconds; 0 if the variable is not set."""
    return float(os.environ.get(name, "0"))


def flag(name: str) -> bool:
    """True if the variable is 1."""
    return os.environ.get(name, "0") == "1"
