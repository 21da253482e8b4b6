from vtx.isa.builder import Builder, Value


def check_controls(b: Builder) -> Value:
    return b.const(1, 1)


def check_host(b: Builder) -> Value:
    return b.const(1, 1)


def check_guest(b: Builder) -> tuple[Value, Value]:
    return b.const(1, 0), b.const(64, 0)
