"""The native engine: programs of the algebra compiled to host code by LLVM and run in place.

It knows the algebra (vtx.isa) and the machine it runs on, as every executor does. It must not
know any single instruction: what an instruction means is read from its program alone. It must
not know a monitor, a guest or the command line either; those choose an engine by its name.
"""
