"""Executors of the algebra, and the loop that runs a CPU with one of them.

`evaluate` reads programs on plain integers and is the oracle; `generate` writes them as Python
source and is the quick path. Both are used through `reference`. No executor knows an
instruction or a VMM.
"""
