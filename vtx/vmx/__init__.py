"""Intel VT-x: the VMCS, its checks, VM entries and exits, EPT, and the instructions.

All of it is written in the algebra; each file holds one idea:

- `capability`: the one list of what is built, and the capability MSRs that follow from it;
- `vmcs`: the VMCS region, fields by name and by encoding;
- `status`, `operations`, `instructions`: how instructions report, what they do, who may
  execute them;
- `checks` (a registry) with `checks_controls`, `checks_host`, `checks_guest` and
  `checks_segments`: the rules of VM entry as predicates; `entry_checks` makes routines of them;
- `entry`, `exit`, `transfer`, `msr_areas`: the two transitions and the state they move;
- `ept`: guest-physical to host-physical.

Routines that a VMM outside the emulated CPU calls through an executor (`Reference.call`), on a
CPU in VMX root operation. `status` is 0 VMsucceed, 1 VMfailInvalid, 2 VMfailValid (then
VM_INSTRUCTION_ERROR of the current VMCS has the number). None of them faults or exits.

    vmx_vmxon(region) -> (status,)          region: physical address, holds capability.REVISION
    vmx_vmxoff() -> (status,)
    vmx_vmclear(region) -> (status,)
    vmx_vmptrld(region) -> (status,)
    vmx_vmptrst() -> (region,)              all ones: no current VMCS
    vmx_vmread(encoding) -> (value, status)
    vmx_vmwrite(encoding, value) -> (status,)
    vmx_invept(type, eptp, reserved) -> (status,)
    vmx_invvpid(type, vpid, gva) -> (status,)
    vmx_capability_msr(index) -> (value,)   0: the CPU has no such MSR
    vmx_enter(launch) -> (status,)          launch: 1 VMLAUNCH, 0 VMRESUME

After `vmx_enter` gave 0 call `Reference.settle(0)`. State slot `vmx` then tells what happened:
2, the CPU is in the guest, to be run until `vmx` is 1 again; or 1, entry failed on guest state
or an MSR and EXIT_REASON has bit 31. An event to inject is delivered by the run loop before the
first instruction (while slot `event_valid` is 1).

The run loop uses `exit_between_instructions(reason)` and `exit_for_interrupt(vector,
acknowledged)`; programs that end in EXIT are followed by `vm_exit()`. The slot `cpu_profile`
(position in `spec.profiles()`) chooses the capability MSRs and the fields that exist.
"""
