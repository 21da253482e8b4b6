"""vtx: a deterministic x86-64 computer with Intel VT-x."""
