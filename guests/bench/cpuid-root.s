# cpuid-root: VM exits handled by a hypervisor that is a guest itself.
#
# What it is for: what an exit costs when no Python is on the way. Needs a processor with VMX:
# --cpu haswell,+vmx --vmm bare.
#
# What you learn: a hypervisor's inner loop. The processor has loaded host state and jumped to
# HOST_RIP; the general registers are still the guest's. Find out why, do what the guest
# wanted, step over the instruction, VMRESUME.
#
# With BASELINE defined the nested guest does the same loop without CPUID.

.set SETUP, 1
        .include "start.inc"
        .include "vmx.inc"

# The VMCS field \field into \register. Changes R10.
.macro read_field register, field
        mov r10d, \field
        vmread \register, r10
.endm

setup:  jmp vmx_setup

kernel_main:
        push rbx
        push rbp
        write_field HOST_RSP, rsp
        lea rax, [rip + host_entry]
        write_field HOST_RIP, rax
        lea rax, [rip + nested_guest]
        write_field GUEST_RIP, rax
        vmlaunch                        # RDI goes with it
        ud2                             # it comes back only if it fails

# The guest's general registers are all in use as far as we know.
host_entry:
        push r9
        push r10
        push r11
        read_field r9, EXIT_REASON
        cmp r9d, REASON_CPUID
        jne not_cpuid
        cpuid                           # what the guest asked, and where it wants the answer
        read_field r9, GUEST_RIP
        read_field r11, EXIT_INSTRUCTION_LENGTH
        add r9, r11
        mov r10d, GUEST_RIP
        vmwrite r10, r9
        pop r11
        pop r10
        pop r9
        vmresume
        ud2

# The only other exit is VMCALL: the guest is done. HOST_RSP was loaded, so three pops more and
# we are back in kernel_main's frame.
not_cpuid:
        add rsp, 24
        mov rax, rsi
        pop rbp
        pop rbx
        ret

# VMX non-root operation. RDI: how often; RSI counts.
nested_guest:
        xor esi, esi
1:      .rept 8
        xor eax, eax
        .ifdef BASELINE
        mov ebx, eax
        .else
        cpuid
        .endif
        inc rsi
        .endr
        dec rdi
        jnz 1b
        vmcall
image_end:
