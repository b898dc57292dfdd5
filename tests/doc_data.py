"""What stands at a site's paths when the pages' commands are tested: of the form of the published files, and small."""

from pathlib import Path

import numpy as np

ROWS = {"train": 200, "t10k": 40}
FEATURES = 123


def mnist(folder: Path) -> None:
    """Four IDX files of random images with ten labels."""
    folder.mkdir()
    rng = np.random.default_rng(7)
    for part, rows in ROWS.items():
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = (np.arange(rows) % 10).astype(np.uint8)
        for values, name in ((images, "images-idx3"), (labels, "labels-idx1")):
            header = bytes((0, 0, 8, values.ndim)) + b"".join(size.to_bytes(4, "big") for size in values.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(header + values.tobytes())


def a9a(path: Path) -> None:
    """LIBSVM text of two classes, 123 features coded 0/1."""
    rng = np.random.default_rng(8)
    lines = []
    for _ in range(300):
        chosen = np.sort(rng.choice(FEATURES, 14, replace=False))
        label = "+1" if chosen[:7].sum() + rng.normal(0, 20) > 150 else "-1"
        lines.append(label + " " + " ".join(f"{index + 1}:1" for index in chosen))
    path.write_text("\n".join(lines) + "\n")
