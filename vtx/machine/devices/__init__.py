"""The PC's devices, one idea per file.

A device takes a clock and interrupt lines and knows neither the CPU nor the VMM; the
physical machine and every VM own instances of the same classes.
"""
