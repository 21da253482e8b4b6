"""Intel VT-x: the VMCS, its checks, VM entries and exits, EPT, and the instructions."""
