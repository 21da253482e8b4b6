"""One run of a kernel in a process that has run nothing before: `python -m vtx.bench.child`.

Arguments: kernel, image file, iterations, style, engine, clock. Prints one JSON object: `seconds`,
`checksum` and `retired` of the run, or `error`.
"""

import json
import sys
from pathlib import Path

from vtx.bench.clock import CLOCKS
from vtx.bench.contestant import RunError
from vtx.bench.image import KernelImage
from vtx.bench.kernels import kernels_named
from vtx.bench.machine import run_kernel


def main(arguments: list[str]) -> None:
    """Run what the arguments name and print what came of it."""
    name, path, iterations, style, engine, clock = arguments
    (kernel,) = kernels_named((name,))
    image = KernelImage(kernel, Path(path).read_bytes())
    told: dict[str, float | str | None]
    try:
        run = run_kernel(image, int(iterations), style, engine, CLOCKS[clock])
        told = {"seconds": run.seconds, "checksum": run.checksum, "retired": run.retired}
    except RunError as error:
        told = {"error": str(error)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
