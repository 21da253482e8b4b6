"""Loading segment registers, and asking about selectors."""

import pytest

GP, NP, SS, UD = 13, 11, 12, 6
CODE, GDT = 0x10000, 0x1000


@pytest.mark.parametrize(
    ("selector", "vector", "error"),
    [
        (0x1230, GP, 0x1230),  # beyond the table
        (0x04, GP, 0x04),  # an LDT that is not there
        (0x38, GP, 0x38),  # a system descriptor
        (0x13, GP, 0x10),  # RPL above DPL
        (0x48, NP, 0x48),
    ],
)
def test_mov_ds_checks_the_descriptor(long, selector, vector, error):
    assert long.fault(f"mov eax, {selector}\nmov ds, eax") == (vector, error)


@pytest.mark.parametrize(
    ("selector", "vector", "error"),
    [
        (3, GP, 0),  # a null selector of another level
        (0x13, GP, 0x10),
        (0x2B, GP, 0x28),
        (0x08, GP, 0x08),
        (0x80, GP, 0x80),  # read-only
        (0x48, SS, 0x48),
    ],
)
def test_mov_ss_checks_the_descriptor(long, selector, vector, error):
    assert long.fault(f"mov eax, {selector}\nmov ss, eax") == (vector, error)


def test_a_null_ss_is_allowed_in_64_bit_mode_below_ring_3(long):
    long.run("xor eax, eax\nmov ss, eax", most=2)
    assert (long["ss_sel"], long["ss_ar"]) == (0, 0x10000)


def test_a_null_ss_is_refused_in_protected_mode(protected):
    assert protected.fault("xor eax, eax\nmov ss, eax") == (GP, 0)


def test_a_null_data_segment_is_unusable(protected):
    assert protected.fault("xor eax, eax\nmov es, eax\nmov al, es:[0]") == (GP, 0)
    assert protected["es_ar"] == 0x10000


def test_a_load_sets_the_accessed_bit_and_fills_the_hidden_part(protected):
    protected.run("mov eax, 0x88\nmov fs, eax", most=2)
    assert protected.read(GDT + 0x8D, 1) == 0x93
    parts = [protected[f"fs_{part}"] for part in ("sel", "base", "limit", "ar")]
    assert parts == [0x88, 0x10000, 0xFFF, 0x4093]


def test_mov_ss_blocks_events_for_one_instruction(long):
    long.run("mov eax, ss\nmov ss, eax", most=2)
    assert long["interruptibility"] & 3 == 2
    long.runner.run(long.cpu.now() + 1)
    assert long["interruptibility"] & 3 == 0


def test_mov_cs_is_undefined(long):
    long.run("mov cs, eax")
    assert long.vector == UD


def test_mov_from_a_segment_register_is_16_bits_in_memory_and_extended_in_registers(long):
    long.write(0x6000, 0xFFFFFFFF, 4)
    long.run("mov rax, -1\nmov eax, ds\nmov [0x6000], ds\nmov rcx, -1\nmov cx, ds", most=5)
    assert (long["rax"], long.read(0x6000, 4)) == (0x10, 0xFFFF0010)
    assert long["rcx"] == 0xFFFFFFFFFFFF0010


def test_push_and_pop_of_segments_use_the_operand_size(long):
    long.run("push fs\nmov eax, 0x2B\npush rax\npop gs\npushw gs", most=5)
    assert (long["gs_sel"], long["rsp"]) == (0x2B, 0x20000 - 10)


def test_pop_of_a_bad_selector_leaves_the_stack(protected):
    assert protected.fault("push 0x1230\npop ds") == (GP, 0x1230)
    assert protected["rsp"] == 0x20000 - 4 - 16


def test_lss_loads_pointer_and_segment_together(protected):
    protected.write(0x6000, 0x10_0000_7000, 6)
    protected.run("lss esp, [0x6000]", most=1)
    assert (protected["rsp"], protected["ss_sel"]) == (0x7000, 0x10)
    protected.write(0x6000, 0x1230_0000_5000, 6)
    protected["rip"] = CODE
    assert protected.fault("les ecx, [0x6000]") == (GP, 0x1230)
    assert protected["rcx"] == 0


def test_real_mode_loads_shift_the_selector(real):
    real.run("mov ax, 0x1234\nmov ds, ax", most=2)
    assert (real["ds_sel"], real["ds_base"], real["ds_limit"]) == (0x1234, 0x12340, 0xFFFF)


# --- LAR, LSL, VERR, VERW, ARPL --------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "rights"),
    [(0x10, 0xC09200), (0x38, 0x8900), (0x48, 0xC01200), (0x33, 0xA0FA00), (0, None),
     (0x1230, None), (0x13, None), (0x53, 0xA09E00)],
)  # fmt: skip
def test_lar_gives_the_rights_of_visible_segments(long, selector, rights):
    long.run(f"mov ecx, {selector}\nmov eax, -1\nlar eax, ecx", most=3)
    assert (long["zf"], long["rax"]) == ((0, 0xFFFFFFFF) if rights is None else (1, rights))


def test_lsl_gives_the_limit_in_bytes(long):
    long.run("mov ecx, 0x10\nlsl eax, ecx\nmov edx, 0x88\nlsl rbx, rdx", most=4)
    assert (long["zf"], long["rax"], long["rbx"]) == (1, 0xFFFFFFFF, 0xFFF)


@pytest.mark.parametrize(
    ("selector", "readable", "writable"), [(0x10, 1, 1), (0x80, 1, 0), (0x08, 1, 0), (0x38, 0, 0),
                                           (0, 0, 0), (0x13, 0, 0)]
)  # fmt: skip
def test_verr_and_verw_tell_what_is_allowed(long, selector, readable, writable):
    long.run(f"mov eax, {selector}\nverr ax\nsetz bl\nverw ax\nsetz cl", most=5)
    assert (long["rbx"] & 1, long["rcx"] & 1) == (readable, writable)


def test_arpl_raises_the_rpl(protected):
    protected.run("mov eax, 0x10\nmov ecx, 3\narpl ax, cx", most=3)
    assert (protected["rax"], protected["zf"]) == (0x13, 1)
    protected["rip"] = CODE
    protected.run("mov eax, 0x13\nmov ecx, 2\narpl ax, cx", most=3)
    assert (protected["rax"], protected["zf"]) == (0x13, 0)


@pytest.mark.parametrize("source", ["lar ax, cx", "verr ax", "sldt ax", "ltr ax"])
def test_protected_mode_instructions_are_undefined_in_real_mode(real, source):
    real.run(source)
    assert real.vector == UD
