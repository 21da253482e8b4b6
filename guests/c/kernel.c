/*
 * kernel: a freestanding 64-bit kernel in C.
 *
 * What it is for: ELF images that did not come from our assembler must boot as well. A test
 * compiles this one with the system's compiler; flags.txt has the options.
 *
 * What you learn: how little C needs. A stack is there, the first 4 GiB are mapped, .bss is
 * zero, and the rest is done here: serial output, an IDT, and a page-fault handler that puts
 * a page where there was none, so that the instruction at fault can run again.
 */

#include <stdint.h>

enum {
    COM1 = 0x3f8,
    LINE_STATUS = COM1 + 5,
    THR_EMPTY = 0x20,
    ACPI_PM1A_CONTROL = 0x604,
    ACPI_SLEEP_ENABLE = 0x2000,
    VECTOR_PF = 14,
    PTE_P = 1,
    PTE_RW = 2,
    PAGE_SIZE = 4096,
};

/* PML4 slot 2 belongs to this kernel; its pages come on demand. */
static const uint64_t HEAP = 0x10000000000;
enum { HEAP_PAGES = 24 };

struct gate {
    uint16_t offset_low, selector, type, offset_middle;
    uint32_t offset_high, reserved;
};

struct table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

/* What the processor pushes; with no change of ring it is on the same stack. */
struct interrupt_frame {
    uint64_t rip, cs, rflags, rsp, ss;
};

static struct gate idt[32] __attribute__((aligned(16)));
static uint64_t heap_pdpt[512] __attribute__((aligned(4096)));
static uint64_t heap_pd[512] __attribute__((aligned(4096)));
static uint64_t heap_pt[512] __attribute__((aligned(4096)));
static uint64_t frames[HEAP_PAGES][512] __attribute__((aligned(4096)));
static unsigned int frames_used, faults_seen;

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put_char(char c)
{
    while (!(in8(LINE_STATUS) & THR_EMPTY))
        ;
    out8(COM1, (uint8_t)c);
}

static void put_string(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_hex(uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[value >> shift & 15]);
}

static void put_line(const char *label, uint64_t value)
{
    put_string(label);
    put_string(": ");
    put_hex(value);
    put_char('\n');
}

static void __attribute__((noreturn)) power_off(void)
{
    out16(ACPI_PM1A_CONTROL, ACPI_SLEEP_ENABLE);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static inline uint64_t read_cr2(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}

static inline uint64_t read_cr3(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}

static void __attribute__((interrupt)) page_fault(struct interrupt_frame *frame, uint64_t error)
{
    uint64_t page = (read_cr2() - HEAP) / PAGE_SIZE;

    faults_seen++;
    if ((error & PTE_P) || page >= HEAP_PAGES || frames_used == HEAP_PAGES) {
        put_line("page fault at", read_cr2());
        put_line("by the instruction at", frame->rip);
        power_off();
    }
    heap_pt[page] = (uint64_t)frames[frames_used++] | PTE_P | PTE_RW;
}

static void set_gate(int vector, uint64_t handler)
{
    uint16_t code_selector;

    __asm__("mov %%cs, %0" : "=r"(code_selector));
    idt[vector] = (struct gate){
        .offset_low = (uint16_t)handler,
        .selector = code_selector, /* the loader's GDT is still in use */
        .type = 0x8e00,            /* present interrupt gate, DPL 0 */
        .offset_middle = (uint16_t)(handler >> 16),
        .offset_high = (uint32_t)(handler >> 32),
    };
}

/* Hang the heap's tables into the address space that the loader built. */
static void map_heap(void)
{
    volatile uint64_t *pml4 = (uint64_t *)(read_cr3() & ~(uint64_t)(PAGE_SIZE - 1));

    heap_pd[0] = (uint64_t)heap_pt | PTE_P | PTE_RW;
    heap_pdpt[0] = (uint64_t)heap_pd | PTE_P | PTE_RW;
    pml4[HEAP >> 39 & 511] = (uint64_t)heap_pdpt | PTE_P | PTE_RW;
}

void _start(void)
{
    struct table_register idt_register = {sizeof idt - 1, (uint64_t)idt};
    volatile uint64_t *heap = (uint64_t *)HEAP;
    uint64_t checksum = 0;

    put_string("A kernel in C.\n");
    set_gate(VECTOR_PF, (uint64_t)page_fault);
    __asm__ volatile("lidt %0" : : "m"(idt_register));
    map_heap();

    /* One number in each 128 bytes: the first of a page faults, the others do not. */
    for (unsigned int i = 0; i < HEAP_PAGES * 512; i += 16)
        heap[i] = i * 0x9e3779b97f4a7c15u;
    for (unsigned int i = 0; i < HEAP_PAGES * 512; i += 16)
        checksum = checksum * 31 + heap[i];

    put_line("page faults", faults_seen);
    put_line("checksum", checksum);
    put_string("C kernel: done\n");
    power_off();
}
