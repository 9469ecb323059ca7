"""usage: check_run_time.py FOLDER

Inputs that are well-formed but that a node cannot work on: indices out of range, shapes that do not fit,
sizes that are negative or whose product overflows. Compiled code and interpreter must end with exit
code 1 and one line that names the node.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys

from kinds.base import *

X = np.ones((3, 4), np.float32)
BIG = 1 << 62


def i64(*values):
    return np.array(values, np.int64)


def case(name, op, feeds, outputs=1, **attributes):
    """One node over inputs x [n, 4] and integers whose sizes are not known when it is compiled."""
    inputs = []
    for key, v in feeds.items():
        whole = v.dtype == np.int64
        dims = v.shape if whole else [f"{key}{i}" for i in range(v.ndim)]
        inputs.append(value(key, *dims, kind=INT64 if whole else FLOAT))
    names = [f"y{i}" for i in range(outputs)]
    kind = INT64 if op == "Range" else FLOAT
    results = [value(n, *RESULT.get(op, "ab"), kind=kind) for n in names]
    proto = model([node(op, list(feeds), names, "one", **attributes)], inputs, results)
    return name, proto, feeds


RESULT = {"Range": "a"}
CASES = [
    case("gather", "Gather", dict(x=X, i=i64(0, 9))),
    case("gather-nd", "GatherND", dict(x=X, i=i64([-7]))),
    case("gather-elements", "GatherElements", dict(x=X, i=np.full((3, 4), 5))),
    case("scatter-nd", "ScatterND", dict(x=X, i=i64([3]), u=X[:1])),
    case("scatter-elements", "ScatterElements", dict(x=X, i=np.full((1, 4), -4), u=X[:1])),
    case("top-k", "TopK", dict(x=X, k=i64(5))),
    case("top-k-negative", "TopK", dict(x=X, k=i64(-1))),
    case("reshape", "Reshape", dict(x=X, s=i64(5, -1))),
    case("expand", "Expand", dict(x=X, s=i64(1 << 40, 4))),
    case("expand-overflow", "Expand", dict(x=X[:1, :1], s=i64(1 << 34, 1 << 33))),
    case("expand-product-of-zero", "Expand", dict(x=X[:1, :1], s=i64(BIG, 4))),
    case("tile-negative", "Tile", dict(x=X, s=i64(-1, 2))),
    case("tile-overflow", "Tile", dict(x=X, s=i64(BIG, BIG))),
    case("filled-overflow", "ConstantOfShape", dict(s=i64(1 << 32, 1 << 32))),
    case("filled-negative", "ConstantOfShape", dict(s=i64(-3, 2))),
    case("range-huge", "Range", dict(a=np.array(0), b=np.array(BIG), c=np.array(1))),
    case("range-step-of-zero", "Range", dict(a=np.array(0), b=np.array(5), c=np.array(0))),
    case("split-negative", "Split", dict(x=X, s=i64(4, -1)), outputs=2),
    case("split-overflow", "Split", dict(x=X, s=i64(2**63 - 1, 2**63 - 1, 5)), outputs=3),
    case("slice-step-of-zero", "Slice", dict(x=X, a=i64(0), b=i64(9), c=i64(0), d=i64(0))),
    case("pad-overflow", "Pad", dict(x=X, p=i64(BIG, 0, 0, 0))),
    case("one-hot-negative", "OneHot", dict(i=i64(0, 1), d=np.array(-4), v=X[0, :2])),
    case("add", "Add", dict(x=X, z=X[:2])),
    case("product", "MatMul", dict(x=X, z=X)),
    case("concat", "Concat", dict(x=X, z=X[:, :2]), axis=0),
]


def run(folder, name, proto, feeds):
    place = folder / name
    place.mkdir(parents=True)
    write(place, proto)
    arguments = []
    for key, values in feeds.items():
        np.save(place / f"{key}.npy", values)
        arguments += ["--input", f"{key}={place / key}.npy"]
    faults = []
    for way in ([], ["--reference"]):
        got = subprocess.run(["moec", "run", place / "model.onnx", *arguments, *way],
                             capture_output=True, text=True, errors="replace")
        if got.returncode != 1 or got.stderr.count("\n") != 1 or 'node "one"' not in got.stderr:
            faults.append(f"{' '.join(way) or 'compiled'} ends with {got.returncode}: "
                          + got.stdout[:200] + got.stderr[:400])
    return faults


def main():
    folder = pathlib.Path(sys.argv[1]).absolute()
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, *_), faults in zip(CASES, pool.map(lambda c: run(folder, *c), CASES)):
            failed += bool(faults)
            print("FAILED" if faults else "ok", name, *faults, flush=True)
    print(f"{len(CASES)} inputs, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
