"""Where the guests that come with vtx are. Must not know what is done with them."""

from functools import cache
from pathlib import Path

MEASURED = ("primes", "sort", "kernel")
"""Guests that mostly compute, with few exits, fewer exits, and many."""


class NoGuestsError(LookupError):
    """The guests that come with vtx cannot be found. One line of text."""


@cache
def guests_directory() -> Path:
    """The directory of the guests: package data in a wheel, `guests/` at the top of a checkout.

    Raises NoGuestsError.
    """
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_data" / "guests", package.parent / "guests"):
        if (place / "include").is_dir():
            return place
    raise NoGuestsError(f"no guests beside the package at {package}; reinstall vtx")


def guest_source(name: str) -> Path:
    """The main source file of the guest called `name`."""
    return guests_directory() / name / f"{name}.s"
