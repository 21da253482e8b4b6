"""The one error of reading and writing traces. Must not know any format."""


class TraceError(Exception):
    """A trace that cannot be written or read; the text is one line that names the file."""
