"""Numbers of the local APIC: register indices, their writable bits, MSRs.

An index is the xAPIC offset shifted right by 4, which is also the x2APIC MSR number less
0x800. Source: SDM 3A, Local APIC Register Address Map; SDM 3A, x2APIC Register Address Space.
"""

from __future__ import annotations

from typing import Final

ID, VERSION, TPR, APR, PPR, EOI, LDR, DFR, SVR = (
    0x02,
    0x03,
    0x08,
    0x09,
    0x0A,
    0x0B,
    0x0D,
    0x0E,
    0x0F,
)
RRD: Final = 0x0C
ISR, TMR, IRR = 0x10, 0x18, 0x20
ESR, ICR_LOW, ICR_HIGH = 0x28, 0x30, 0x31
LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR = range(0x32, 0x38)
INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x38, 0x39, 0x3E
SELF_IPI: Final = 0x3F

VERSION_VALUE: Final = 0x0005_0014  # integrated APIC, six LVT entries

IA32_APIC_BASE, IA32_TSC_DEADLINE = 0x1B, 0x6E0
X2APIC_FIRST_MSR, X2APIC_LAST_MSR = 0x800, 0x8FF
BASE_BSP, BASE_X2APIC, BASE_ENABLE = 1 << 8, 1 << 10, 1 << 11

SVR_ENABLE: Final = 1 << 8
LVT_VECTOR, LVT_MODE_SHIFT, LVT_REMOTE_IRR, LVT_LEVEL, LVT_MASKED = (
    0xFF,
    8,
    1 << 14,
    1 << 15,
    1 << 16,
)
TIMER_MODE_SHIFT: Final = 17
ESR_SEND_ILLEGAL, ESR_RECEIVE_ILLEGAL, ESR_ILLEGAL_REGISTER = 1 << 5, 1 << 6, 1 << 7

LVTS: Final = (
    LVT_TIMER,
    LVT_THERMAL,
    LVT_PERFORMANCE,
    LVT_LINT0,
    LVT_LINT1,
    LVT_ERROR,
)

# What software may write; x2APIC refuses other bits, xAPIC ignores them.
WRITABLE: Final = {
    TPR: 0xFF,
    EOI: 0,
    SVR: 0x3FF,
    ESR: 0,
    ICR_LOW: 0x000C_CFFF,
    LVT_TIMER: 0x0007_00FF,
    LVT_THERMAL: 0x0001_07FF,
    LVT_PERFORMANCE: 0x0001_07FF,
    LVT_LINT0: 0x0001_A7FF,
    LVT_LINT1: 0x0001_A7FF,
    LVT_ERROR: 0x0001_00FF,
    INITIAL_COUNT: 0xFFFF_FFFF,
    DIVIDE: 0x0B,
}
XAPIC_WRITABLE: Final = WRITABLE | {
    ID: 0xFF00_0000,
    EOI: 0xFFFF_FFFF,
    LDR: 0xFF00_0000,
    DFR: 0xF000_0000,
    ESR: 0xFFFF_FFFF,
    ICR_HIGH: 0xFF00_0000,
}
X2APIC_WRITABLE: Final = WRITABLE | {ICR_LOW: 0xFFFF_FFFF_000C_CFFF, SELF_IPI: 0xFF}

SINGLE_READABLE = (ID, VERSION, TPR, PPR, LDR, SVR, ESR, ICR_LOW)
TIMER_READABLE = (INITIAL_COUNT, CURRENT_COUNT, DIVIDE)
READABLE: Final = frozenset((*SINGLE_READABLE, *TIMER_READABLE, *LVTS, *range(ISR, IRR + 8)))
XAPIC_READABLE: Final = READABLE | {APR, RRD, EOI, DFR, ICR_HIGH}
