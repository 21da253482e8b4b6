"""IN, OUT, INS, OUTS."""
