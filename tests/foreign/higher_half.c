/* A kernel linked at the top of the address space and loaded at 1 MiB. */

typedef unsigned long u64;
typedef unsigned char u8;

#define BASE 0xffffffff80000000ul

static volatile u64 counters[300];
static const char *const words[] = {"higher", "half"};
extern char scratch_start[], scratch_end[];

static inline void outb(unsigned short port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void puts(const char *text)
{
	while (*text)
		outb(0x3f8, *text++);
}

static void check(const char *what, int good)
{
	puts(good ? "PASS " : "FAIL ");
	puts(what);
	puts("\n");
	if (!good)
		outb(0xf4, 2);
}

void kmain(void)
{
	u64 rip, sum = 0;
	volatile u64 *low = (u64 *)((u64)counters - BASE);
	char *byte;

	__asm__("lea 0(%%rip), %0" : "=r"(rip));
	check("runs in the higher half", rip > BASE);
	for (int i = 0; i < 300; i++)
		sum |= counters[i];
	for (byte = scratch_start; byte < scratch_end; byte++)
		sum |= *byte;
	check("bss is empty", sum == 0);
	check("the bss segment is large", scratch_end - scratch_start == 0x5000);
	counters[7] = 42;
	check("and stands at its physical place", low[7] == 42);
	puts(words[0]);
	puts(" ");
	puts(words[1]);
	puts("\n");
	outb(0xf4, 0);
	for (;;)
		__asm__ volatile("hlt");
}
