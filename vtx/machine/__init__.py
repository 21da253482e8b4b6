"""The physical machine: memory, address space, devices, firmware tables, loader.

It knows nothing of executors, VMX or VMMs: those act on it.
"""
