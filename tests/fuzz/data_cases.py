"""Cases of data files: read by psopt and, where it accepts, by `plain_readers`; some then train a few rounds."""

import os
import random
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import data_files as files
from fuzz import plain_readers as plain
from fuzz.judge import Case, Wrong, untimed
from psopt import config
from psopt.data import CSR, Table, open_shards
from psopt.errors import PsoptError
from psopt.runs.experiment import Plan, simulate
from psopt.runs.readiness import ready

Plainly = Callable[[], plain.Table]
FORMATS = ("libsvm", "csv", "npy", "npz", "csr", "idx")
MOST_FEATURES = 100


def _write(path: Path, raw: bytes) -> str:
    path.write_bytes(raw)
    return str(path)


def _case(kind: str, here: Path, data: dict[str, Any], plainly: Plainly | None, rng: random.Random) -> Case:
    """Reads ``data``, compares all rows with what ``plainly`` finds, and trains if that is little."""
    workers, few = rng.choice([1, 1, 2, 3]), rng.random() < 0.25
    if data.get("source") == "shards":
        workers = 2
    problem = rng.choice(["least-squares", "logistic", {"kind": "softmax", "classes": 3}])
    tree = {
        "workers": workers,
        "problem": problem,
        "data": data,
        "algorithm": rng.choice(["gd", "lag-wk", "sgd", "sasg"]),
    }
    tree |= {"stop": {"max_rounds": 2}, "f_star": "none"}
    (here / "config.txt").write_text(ascii(tree))

    def act() -> None:
        made = config.parse(tree)
        shards = open_shards(made.data, workers, 1)
        tables = [shards.shard(m) for m in range(workers)]
        for m in range(workers):
            shards.held_out(m)
        if plainly is not None:
            _compare(tables, plainly)
        if few and tables[0].n_features <= MOST_FEATURES:
            with untimed():
                ready(made, isinstance(tables[0].features, CSR), False)
            case.names = ()
            done = simulate(Plan(made, quiet=True, warns=False))
            if not np.isfinite(done.theta).all():
                raise Wrong("a run that ended well has no finite theta")

    case = Case(kind, act, (str(here), "workers", "key '", "config: data", "the shard of worker"))
    return case


def _compare(tables: list[Table], plainly: Plainly) -> None:
    with untimed():
        try:
            rows, labels = plainly()
        except PsoptError:
            raise
        except Exception as error:
            raise Wrong(f"accepted, but the plain reader says {type(error).__name__}") from error
    mine = [row for table in tables for row in _rows(table)]
    found = np.concatenate([table.labels for table in tables])
    if len(mine) != len(rows) or not np.array_equal(found, np.array(labels, dtype=np.float64)):
        raise Wrong("other labels than the plain reader")
    for row, other in zip(mine, rows, strict=True):
        if row.keys() != other.keys() and any(abs(row.get(j, 0) - other.get(j, 0)) > 1e-12 for j in {*row, *other}):
            raise Wrong("other columns than the plain reader")
        if not np.allclose([row.get(j, 0.0) for j in other], list(other.values()), rtol=1e-12, atol=1e-290):
            raise Wrong("other numbers than the plain reader")


def _rows(table: Table) -> list[dict[int, float]]:
    x = table.features
    if isinstance(x, CSR):
        bounds = zip(x.indptr[:-1].tolist(), x.indptr[1:].tolist(), strict=True)
        pairs = [zip(x.indices[a:b].tolist(), x.data[a:b].tolist(), strict=True) for a, b in bounds]
    else:
        pairs = [enumerate(row) for row in x.tolist()]
    return [{column: value for column, value in row if value} for row in pairs]


def _made(rng: random.Random, form: str, wrong: bool) -> dict[str, bytes]:
    """Name -> bytes of the file, or the two files, of one format; something in it is wrong if asked for."""
    X, y = files.table(rng)
    which = rng.random() < 0.5
    match form:
        case "libsvm":
            return {"data": files.wrong_libsvm(rng, X, y) if wrong else files.libsvm(X, y)}
        case "csv":
            return {"data.csv": files.wrong_delimited(rng, X, y) if wrong else files.delimited(X, y)}
        case "idx":
            images, labels = files.idx(X), files.idx(y)
            if wrong and which:
                images = files.wrong_idx(rng, X)
            elif wrong:
                labels = files.wrong_idx(rng, y)
            return {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}
        case "csr":
            arrays = files.wrong_csr(rng, X, y) if wrong else files.csr(X, y)
            return {"data.npz": files.npz({k: files.npy(v) for k, v in arrays.items()}, rng, which)}
    members = {"X": files.npy(X), "y": files.npy(y)}
    if wrong:
        key = rng.choice(["X", "y"])
        array = {"X": X, "y": y}[key]
        lies = rng.random() < 0.5
        members[key] = files.odd_header(rng, array) if lies else files.npy(files.odd_array(rng, array))
    if form == "npy":
        return {"data.npy": members["X"], "labels.npy": members["y"]}
    if wrong and rng.random() < 0.2:
        members["extra"] = files.npy(np.array([files.Executes()], dtype=object))
    if wrong and rng.random() < 0.1:
        del members[rng.choice(["X", "y"])]
    return {"data.npz": files.npz(members, rng, which, odd=wrong and rng.random() < 0.3)}


def _placed(rng: random.Random, here: Path, form: str, made: dict[str, bytes]) -> tuple[dict[str, Any], Plainly]:
    """The files in the folder, and the `data:` section and the plain reader for them."""
    paths = [_write(here / name, raw) for name, raw in made.items()]
    data: dict[str, Any] = {"source": "file", "path": paths[0]}
    match form:
        case "libsvm":
            data |= rng.choice([{}, {}, {"n_features": 4}, {"n_features": 2**40}, {"n_features": 2**31 - 1}])
            return data, lambda: plain.libsvm(paths[0])
        case "csv":
            keys = {
                "label": rng.choice([None, None, None, None, 0, -1, "y", "x0", 9, 2**40]),
                "header": rng.choice([None, None, None, True, False]),
                "delimiter": rng.choice([",", ";", '"', "\n", "\r", " ", "\0", "é", "ab", ""])
                if rng.random() < 0.2
                else None,
            }
            data |= {key: value for key, value in keys.items() if value is not None}
            return data, lambda: plain.delimited(paths[0], keys["label"], keys["header"], keys["delimiter"] or ",")
        case "npy":
            return data | {"labels_path": paths[1]}, lambda: plain.npy(*paths)
        case "idx":
            return {"source": "idx", "path": str(here)}, lambda: plain.idx_pair(*paths)
    return data, lambda: plain.npz(paths[0])


def bytes_case(rng: random.Random, here: Path) -> Case:
    """A good file whose bytes are battered: as they are, or before they are packed."""
    form = rng.choice(FORMATS)
    made = _made(rng, form, wrong=False)
    name = rng.choice(list(made))
    packs = form in ("libsvm", "csv", "idx") and rng.random() < 0.5
    suffix = rng.choice(list(files.PACK) if form != "idx" else [".gz"]) if packs else ""
    kind = f"data bytes: {form}"
    if suffix:
        kind += " packed"
        raw = made.pop(name)
        inside = rng.random() < 0.4
        raw = files.PACK[suffix](files.battered(rng, raw)) if inside else files.battered(rng, files.PACK[suffix](raw))
        made = {name + suffix: raw, **made} if "labels" not in name else {**made, name + suffix: raw}
        if rng.random() < 0.01:
            made[name + suffix] = files.bomb(rng)
    elif form in ("npz", "csr") and rng.random() < 0.8:
        made[name] = _repacked(rng, here, made[name])
    else:
        made[name] = files.battered(rng, made[name])
    data, plainly = _placed(rng, here, form, made)
    return _case(kind, here, data, plainly, rng)


def _repacked(rng: random.Random, here: Path, raw: bytes) -> bytes:
    """A zip archive one of whose members is battered, with a checksum that is right."""
    path = here / "before.zip"
    path.write_bytes(raw)
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    key = rng.choice(list(members))
    members[key] = files.battered(rng, members[key])
    path.unlink()
    return files.npz(members, rng, rng.random() < 0.5)


def content_case(rng: random.Random, here: Path) -> Case:
    """A whole file that says something wrong."""
    form = rng.choice(FORMATS)
    data, plainly = _placed(rng, here, form, _made(rng, form, wrong=True))
    return _case(f"data content: {form}", here, data, plainly, rng)


def set_case(rng: random.Random, here: Path) -> Case:
    """Several files that do not belong together, and paths that are no files."""
    if rng.random() < 0.5:
        return _several(rng, here)
    target = here / rng.choice(["thing", "thing.csv", "thing.npz", "thing.npy", "thing.gz", "thing.xz"])
    what = _special(rng, target)
    path = what if what.startswith("/dev") or len(what) > 500 or "\0" in what else str(target)
    good = _write(here / "good.npy", files.npy(np.ones(3)))
    data: dict[str, Any] = {"source": "file", "path": path}
    if path.endswith(".npy"):
        data["labels_path"] = good
    match rng.randrange(5):
        case 0:
            data = {"source": "idx", "path": path}
        case 1:
            folder = here / "images"
            folder.mkdir()
            name = folder / ("train-images-idx3-ubyte" + rng.choice(["", ".gz"]))
            _special(rng, name)
            _write(folder / "train-labels-idx1-ubyte", files.idx(np.ones(3)))
            data = {"source": "idx", "path": str(folder)}
        case 2:
            train = _write(here / "train.csv", b"1,2\n3,4\n5,6\n")
            data = {"source": "file", "path": train, "format": "csv", "test": {"path": path}}
    case = _case("data paths", here, data, None, rng)
    case.names = (*case.names, path[:60].rstrip("\0"), "a\\x00b", "a?b")
    return case


def _special(rng: random.Random, path: Path) -> str:
    """Makes something at ``path`` that is no ordinary file, or names such a thing elsewhere."""
    what = rng.choice(
        ["folder", "fifo", "loop", "dangling", "unreadable", "missing", "socket", "zero", "null", "long", "nul"]
    )
    match what:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "dangling":
            path.symlink_to(path.with_name("nowhere"))
        case "unreadable":
            path.write_bytes(b"1,2\n3,4\n5,6\n")
            path.chmod(0)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(os.path.relpath(path))
        case "zero" | "null":
            return f"/dev/{what}"
        case "long":
            return str(path.with_name("x" * 5000))
        case "nul":
            return str(path.with_name("a\0b"))
    return what


def _several(rng: random.Random, here: Path) -> Case:
    """Shards, or a file and its test rows, with different widths, lengths, formats or labels."""
    X, y = files.table(rng)
    other = rng.choice([X[:, :-1], np.hstack([X, X]), X[:0], X * 1e200, np.full_like(X, np.nan), X, X.astype("f4")])
    others = rng.choice([y, y, y[:-1], y * 7, y[:, None], np.zeros(0), y.astype("S3")])
    form = rng.choice(["npz", "csr", "libsvm"])
    if form == "libsvm":
        raw = [files.libsvm(X, y), rng.choice([b"", b"1 9:1\n", b"1\n", b"-1 1:1\n", b"nan 1:1\n"])]
    else:
        pack = files.csr if form == "csr" else lambda x, label: {"X": x, "y": label}
        sets = [pack(X, y), {"X": other, "y": others} if rng.random() < 0.5 else pack(other, others[: len(other)])]
        raw = [files.npz({k: files.npy(v) for k, v in arrays.items()}, rng, False) for arrays in sets]
    end = "" if form == "libsvm" else ".npz"
    paths = [_write(here / f"{m}{end}", each) for m, each in enumerate(raw)]
    width = {"n_features": X.shape[1]} if form == "libsvm" or rng.random() < 0.5 else {}
    if rng.random() < 0.5:
        data = {"source": "shards", "path": str(here / ("{worker}" + end)), **width}
        read = plain.libsvm if form == "libsvm" else plain.npz

        def plainly() -> plain.Table:
            tables = [read(path) for path in paths]
            return [row for rows, _ in tables for row in rows], [label for _, labels in tables for label in labels]

        return _case("data shards", here, data, plainly, rng)
    data = {"source": "file", "path": paths[0], "test": {"path": paths[1]}, **width}
    return _case("data test rows", here, data, None, rng)
