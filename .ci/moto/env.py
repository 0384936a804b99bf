"""Settings from the environment."""

import os


def seconds(name: str) -> float:
    """A time; 0 if it is not set."""
    return float(os.environ.get(name, "0"))


def flag(name: str) -> bool:
    """True for 1."""
    return os.environ.get(name, "0") == "1"
