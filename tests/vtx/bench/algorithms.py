"""What the kernels compute, computed once more in Python: iterations -> checksum."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from itertools import chain

WORD = (1 << 64) - 1


def rotate(value: int, count: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return (value << count | value >> (bits - count)) & ((1 << bits) - 1)


def sieve(iterations: int) -> int:
    limit = 8192
    composite = bytearray(limit)
    primes = []
    for number in range(2, limit):
        if not composite[number]:
            primes.append(number)
            composite[2 * number :: number] = b"\1" * len(composite[2 * number :: number])
    checksum = 0
    for number in primes * iterations:
        checksum = (checksum * 31 + number) & WORD
    return checksum


def crc32(iterations: int) -> int:
    return zlib.crc32(bytes((167 * i + 13) & 0xFF for i in range(4096)) * iterations)


def matmul(iterations: int) -> int:
    size = 24
    a = [[3 * (r * size + c) + 1 for c in range(size)] for r in range(size)]
    b = [[5 * (r * size + c) + 7 for c in range(size)] for r in range(size)]
    checksum = 0
    for _ in range(iterations):
        columns = list(zip(*b, strict=True))
        for row in a:
            for column in columns:
                dot = sum(x * y for x, y in zip(row, column, strict=True))
                checksum = rotate(checksum + dot, 1)
        b[0][0] ^= checksum
    return checksum


def bubble(iterations: int) -> int:
    numbers, number = [], 2024
    for _ in range(96):
        number = (number * 1664525 + 1013904223) & 0xFFFF_FFFF
        numbers.append(number)
    checksum = 0
    for number in sorted(numbers) * iterations:
        checksum = (checksum * 31 + number) & WORD
    return checksum


def linked_list(iterations: int) -> int:
    checksum = 0
    for _ in range(iterations):
        checksum = rotate(checksum + sum(range(4096)), 1)
    return checksum


def calls(iterations: int) -> int:
    checksum = 0
    for _ in range(iterations):
        checksum = (checksum * 31 + 987) & WORD  # Fibonacci number 16
    return checksum


def pages(iterations: int) -> int:
    cells: dict[int, int] = {}
    checksum = 0
    for _ in range(iterations):
        for step in range(1024):
            page = 7 * step % 1024
            place = (page * 4096 + page * 8) % (4 << 20)
            checksum = (checksum + cells.get(place, 0) + page) & WORD
            cells[place] = checksum
    return checksum


def interpreter(iterations: int) -> int:
    cells, a = [1, 2, 3, 4], 0
    for _ in range(iterations):
        for counter in range(100, 0, -1):
            a = (a + counter + cells[0]) * 37 & WORD
            a ^= cells[1]
            cells[0] = a
            a = (rotate(a, 7) + cells[2]) & WORD
            cells[1] = a
            a = ((a ^ cells[3]) + cells[1]) & WORD
            cells[2] = a
            a = cells[3] = rotate(a, 7)
    return a


def strings(iterations: int) -> int:
    source = bytearray((3 * i + 1) & 0xFF for i in range(512))
    checksum = 0
    for _ in range(iterations):
        filled = checksum
        checksum += 512 - (source.index(0) + 1)  # what SCAS leaves in RCX
        checksum += 2 + filled  # the copy is equal
        for i in range(0, 512, 8):
            checksum = checksum * 31 + int.from_bytes(source[i : i + 8], "little") & WORD
        source[5] = (source[5] + 1) & 0xFF
    return checksum


def code32(iterations: int) -> int:
    state, checksum = 0x9ABCDEF012345678, 0
    histogram = [0] * 1024
    for _ in range(256 * iterations):
        state = (state * 6364136223846793005 + 1442695040888963407) & WORD
        upper = state >> 32
        checksum = rotate(checksum, 5, 32) ^ upper
        place = upper >> 20 >> 2
        histogram[place] += 1
        checksum = (checksum + histogram[place]) & 0xFFFF_FFFF
    return checksum


def switch(iterations: int) -> int:
    registers = [1, 2, 3, 4]
    private = [[0] * 4 for _ in range(4)]
    for _ in range(iterations):
        for process in range(4):
            for page in range(4):
                registers[process] = rotate(registers[process] + private[process][page], 3)
                private[process][page] = registers[process]
    checksum = 0
    for value in chain.from_iterable(private):
        checksum = (checksum * 31 + value) & WORD
    return checksum


def syscall(iterations: int) -> int:
    checksum = count = 0
    for _ in range(4 * iterations):
        checksum = (checksum * 31 + count + 1) & WORD
        count += 2  # this call and the one that mixes
    return checksum


def churn(iterations: int) -> int:
    frames = [0] * 64
    checksum = frame = 0
    for _ in range(iterations):
        for page in range(32):
            checksum = (checksum + frames[frame] + 0x40000000 + page * 4096) & WORD
            frames[frame] = checksum
            checksum = (3 * checksum + 0x60) & WORD  # accessed and dirty
            checksum = rotate(checksum ^ frames[frame], 7)
            frame = (frame + 37) % 64
    return checksum


def cpuid(iterations: int) -> int:
    return 8 * iterations


def tlb_miss(iterations: int, touched: int, pages: int) -> int:
    frames = [sum(range(frame, pages, 16)) for frame in range(16)]
    checksum = page = 0
    for _ in range(iterations):
        for _ in range(1024):
            checksum = (checksum + frames[page % 16]) & WORD
            page = (page + 33) % touched
        checksum = rotate(checksum, 1)
    return checksum


ALGORITHMS: dict[str, Callable[[int], int]] = {
    "sieve": sieve, "crc32": crc32, "matmul": matmul, "bubble": bubble, "list": linked_list,
    "calls": calls, "pages": pages, "interpreter": interpreter, "strings": strings,
    "code32": code32, "switch": switch, "syscall": syscall, "churn": churn,
    "cpuid-exit": cpuid, "cpuid-root": cpuid,
}  # fmt: skip
"""All but `cold`, whose program only means work, and `tlb-miss`, which has a size."""
