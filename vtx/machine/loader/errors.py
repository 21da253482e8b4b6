"""The one error the loader raises for anything wrong with an image."""

from __future__ import annotations


class ImageError(Exception):
    """An image cannot be booted. The message is one line: the file, what is wrong with it, and
    what to do where that is not obvious."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}".replace("\n", " ").replace("\r", " "))
        self.name = name
        self.problem = problem
