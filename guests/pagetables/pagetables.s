# pagetables: changes its page tables in every way an operating system does.
#
# What it is for: a VMM with shadow page tables must notice each of these changes, and one with
# nested paging must not get in their way. Whatever the guest writes into its tables, the next
# access it makes must see what the tables say.
#
# What you learn: the usual life of page tables: mapping and unmapping, moving a page, sharing
# one, splitting and merging large pages, tables that map themselves, accessed and dirty bits,
# a page that was a table and becomes data, two address spaces with a table in common.
#
#   tables.inc     walking the tables and changing entries
#   churn.inc      map, unmap, remap, alias, rights
#   shapes.inc     large pages, self-map, tables that become data, address spaces
#
# Every change is followed by the invalidation that the architecture asks for. Each test prints
# a checksum of what it read; they can be worked out by hand, and never depend on time.

        .intel_syntax noprefix
        .include "../include/x86.inc"
        .include "../include/ports.inc"

# Physical memory: the image is in the first 2 MiB, all of the first 8 MiB is mapped to itself.
.equ TABLES, 0x300000                   # new page tables, one after the other
.equ FRAMES, 0x400000                   # data frames; the first 2 MiB of them are contiguous
.equ MORE_FRAMES, 0x600000

# Linear addresses, each area in a PML4 entry of its own.
.equ CHURN, 0x10000000000
.equ LARGE, 0x18000000000
.equ SHARED, 0x20000000000
.equ SELF_SLOT, 510
.equ SELF_TABLES, 0xffffff0000000000    # where the self-map shows all page tables
.equ SELF_PML4, 0xffffff7fbfdfe000      # and the PML4 itself

        .text
        .include "../include/serial.inc"
        .include "../include/catch.inc"

        .globl _start
_start:
        lea rsp, [rip + stack_top]
        call serial_init
        call catch_init
        call tables_init
        call test_churn
        call test_remap
        call test_alias
        call test_rights
        call test_accessed_dirty
        call test_large
        call test_gigabyte
        call test_self_map
        call test_table_becomes_data
        call test_address_spaces
        print "pagetables: done\n"
        power_off

        .include "tables.inc"
        .include "churn.inc"
        .include "shapes.inc"

        .bss
        .align 16
        .skip 8192
stack_top:
