from vtx.bench.qemu import Qemu


def bochs_problem() -> str | None:
    return "no bochs on PATH"


class Bochs(Qemu):
    pass
