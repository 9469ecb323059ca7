"""usage: check_properties.py FOLDER [--seed N] [--rounds N] [--family NAME...]

Relations that hold between MoE layers whatever their numbers, checked on random layers in every form
that exporters write. One model holds a layer and its relatives, an output for each; the compiled model
must give values that are as related as the relation says:

  permuted   experts in another order, with their router columns
  halves     each expert split in two along its inner size, the halves added
  densely    the layer in the dense form
  shifted    a constant added to all logits (softmax only)
  scaled     output matrices times powers of two, combine weights divided by them: equal to the bit
  nothing    an expert that gives zero, left out while its router column stays
  merged     two identical experts as one, its logit the log-sum-exp of theirs (where all experts run)
  rows       a row depends on no other: repeated rows and joined batches
  ways       -O0 and -O2, 1 and 3 threads (equal to the bit), static and dynamic shapes, interpreter
  special    ties go to the lower id; a NaN stays in its row

Rows in which the last chosen and the first other score are nearer than GAP are left out, because
rounding may choose differently there; they are counted, and may be few. Everything follows from the
seed, which is printed.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

import layers as L

GAP = 1e-4        # between scores
NEAR = 2e-5       # difference of results, relative to 1 + their size
TOKENS = 37


def moec(*words):
    run = subprocess.run(["moec", *map(str, words)], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"moec {' '.join(map(str, words))} ended with {run.returncode}: {run.stderr}")


def permute(layer, order):
    def pick(values, axis=0):
        return None if values is None else np.take(values, order, axis)
    return dataclasses.replace(layer, router=pick(layer.router, 1), up=pick(layer.up), down=pick(layer.down),
                               gate=pick(layer.gate), bias=pick(layer.bias), combine=pick(layer.combine))


def half(layer, part):
    gate = None if layer.gate is None else layer.gate[:, part]
    return dataclasses.replace(layer, up=layer.up[:, part], gate=gate, down=layer.down[:, :, part])


class Family:
    """The model of one form and one seed, and what its outputs must be."""

    def __init__(self, name, seed):
        self.name, self.seed = name, seed
        self.rng = np.random.default_rng([seed, *name.encode()])
        pick = self.rng.integers
        experts, kinds = int(pick(2, 7)), L.routers_of(name)
        hidden, inner, k = int(pick(3, 40)), int(pick(2, 20)), int(pick(1, min(experts, 3) + 1))
        kind, gated = kinds[pick(len(kinds))], bool(pick(2))
        self.layer = L.random_layer(self.rng, experts, hidden, inner, k, kind, gated)
        self.graph, self.outputs, self.related = L.Graph(), [], []  # related: (output, output, exact)
        self.emit = L.EMIT[name]
        self.build()
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["n", hidden]) for o in self.outputs]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", hidden])
        self.model = self.graph.model([x], infos)
        self.x = self.rng.uniform(-1, 1, (TOKENS, hidden)).astype(np.float32)

    def describe(self):
        l = self.layer
        return (f"{self.name}, seed {self.seed}: {l.experts} experts, k {l.k}, hidden "
                f"{l.router.shape[0]}, inner {l.up.shape[1]}, {l.kind}"
                + (", gated" if l.gate is not None else ""))

    def output(self, name, value):
        self.graph.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self.outputs.append(name)

    def relative(self, name, value, to="base", exact=False):
        self.output(name, value)
        self.related.append((name, to, exact))

    def build(self):
        g, l = self.graph, self.layer
        self.output("base", self.emit(g, l, "x"))
        self.relative("permuted", self.emit(g, permute(l, self.rng.permutation(l.experts)), "x"))
        m = int(self.rng.integers(1, l.up.shape[1]))
        self.relative("halves", g.op("Add", [self.emit(g, half(l, slice(0, m)), "x"),
                                             self.emit(g, half(l, slice(m, None)), "x")]))
        if self.name != "gates":
            self.relative("densely", L.dense(g, l, "x"))
        if l.kind != "sigmoid":
            self.relative("shifted", self.emit(g, dataclasses.replace(l, shift=3.25), "x"))
        if self.name != "fused":
            powers = 2.0 ** self.rng.integers(-3, 4, l.experts)
            scaled = dataclasses.replace(l, down=l.down * powers[:, None, None].astype(np.float32),
                                         combine=(1 / powers).astype(np.float32))
            ones = dataclasses.replace(l, combine=np.ones(l.experts, np.float32))
            self.output("ones", self.emit(g, ones, "x"))
            self.relative("scaled", self.emit(g, scaled, "x"), "ones", exact=True)
        self.nothing()
        if self.name == "gates":
            self.merged()

    def nothing(self):
        """An expert without effect: as a matrix of zeros, and by a sum that leaves it out."""
        g, l = self.graph, self.layer
        e = int(self.rng.integers(l.experts))
        down = l.down.copy()
        down[e] = 0
        zero = dataclasses.replace(l, down=down)
        self.output("zero", self.emit(g, zero, "x"))
        if self.name == "gates":
            w = g.op("Softmax", [g.op("MatMul", ["x", g.weight(l.router)])], axis=-1)
        else:
            ids, slots = L.router(g, l, "x")
        total = g.op("Mul", ["x", g.weight(0.0)])
        for other in range(l.experts):
            if other == e:
                continue
            if self.name == "gates":
                weight = g.op("Gather", [w, g.ints(other)], axis=1)
            else:
                hit = g.op("Cast", [g.op("Equal", [ids, g.scalar(other)])], to=TensorProto.FLOAT)
                weight = g.op("ReduceSum", [g.op("Mul", [hit, slots]), g.ints(-1)])
            total = g.op("Add", [total, g.op("Mul", [L.expert(g, l, "x", other), weight])])
        self.relative("nothing", total, "zero")

    def merged(self):
        """Experts 0 and 1 made identical, then one expert for both."""
        g, l = self.graph, self.layer
        copy = np.arange(l.experts)
        copy[1] = 0
        twins = dataclasses.replace(permute(l, copy), router=l.router)
        self.output("twins", L.gates(g, twins, "x"))
        z = g.op("MatMul", ["x", g.weight(l.router)])
        pair = g.op("Slice", [z, g.ints(0), g.ints(2), g.ints(1)])
        one = g.op("ReduceLogSumExp", [pair, g.ints(1)])
        w = g.op("Concat", [one, g.op("Slice", [z, g.ints(2), g.ints(1 << 30), g.ints(1)])], axis=1)
        w = g.op("Softmax", [w], axis=-1)
        rest = permute(l, np.delete(np.arange(l.experts), 1))
        total = None
        for e in range(rest.experts):
            y = g.op("Mul", [L.expert(g, rest, "x", e), g.op("Gather", [w, g.ints(e)], axis=1)])
            total = y if total is None else g.op("Add", [total, y])
        self.relative("merged", total, "twins")


class Check:
    def __init__(self, folder, family):
        self.folder, self.family, self.faults, self.runs = folder, family, [], 0
        folder.mkdir(parents=True, exist_ok=True)
        margins = L.margin(family.layer, family.x, family.name)
        self.clear = margins >= GAP  # rows whose choice rounding cannot change
        self.near_ties = int((~self.clear).sum())

    def run(self, model, x, *flags):
        """All outputs by name."""
        self.runs += 1
        place = self.folder / f"run{self.runs}"
        place.mkdir(exist_ok=True)
        np.save(place / "x.npy", x)
        moec("run", model, "--input", place / "x.npy", "--save", place, "--elements", 1, *flags)
        return {name: np.load(place / f"output_{i}.npy") for i, name in enumerate(self.family.outputs)}

    def compile(self, name, proto, level):
        onnx.save(proto, self.folder / f"{name}.onnx")
        moec("compile", self.folder / f"{name}.onnx", "-o", self.folder / f"{name}.so", f"-O{level}")
        return self.folder / f"{name}.so"

    def same(self, what, a, b, exact=False, rows=None):
        rows = slice(None) if rows is None else rows
        a, b = a[rows].astype(np.float64), b[rows].astype(np.float64)
        if a.shape != b.shape:
            return self.faults.append(f"{what}: shapes {a.shape} and {b.shape}")
        bad = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        if not exact:
            with np.errstate(invalid="ignore"):
                bad &= ~(np.abs(a - b) <= NEAR * (1 + np.abs(b)))
        if bad.any():
            with np.errstate(invalid="ignore"):
                worst = np.nanmax(np.abs(a - b))
            self.faults.append(f"{what}: {bad.sum()} of {bad.size} numbers differ, by up to {worst:.3g}")

    def all(self):
        f, x = self.family, self.family.x
        best = self.compile("o2", f.model, 2)
        base = self.run(best, x)
        for name, to, exact in f.related:
            self.same(name, base[name], base[to], exact, self.clear)
        self.same("double precision", base["base"], L.value(f.layer, x, f.name), rows=self.clear)
        ways = {"-O0": self.run(self.compile("o0", f.model, 0), x),
                "static shapes": self.run(self.compile("static", self.static(), 2), x),
                "interpreter": self.run(self.folder / "o2.onnx", x, "--reference")}
        threads = [self.run(best, x, "--threads", n) for n in (1, 3)]
        for name in f.outputs:
            for way, values in ways.items():
                self.same(f"{name} by {way}", values[name], base[name], rows=self.clear)
            self.same(f"{name} with 1 and 3 threads", threads[0][name], threads[1][name], exact=True)
        self.rows(best, base)
        self.special(best)
        if self.near_ties > TOKENS // 4:
            self.faults.append(f"{self.near_ties} of {TOKENS} rows are near ties")
        return self

    def static(self):
        proto = onnx.ModelProto()
        proto.CopyFrom(self.family.model)
        for info in (*proto.graph.input, *proto.graph.output):
            info.type.tensor_type.shape.dim[0].dim_value = TOKENS
        return proto

    def rows(self, best, base):
        """Repeated rows, and batches that are joined."""
        x = self.family.x
        order = self.family.rng.integers(0, TOKENS, 2 * TOKENS)
        again = self.run(best, x[order])
        parts = [self.run(best, part) for part in (x[:1], x[1:5], x[5:5], x[5:])]
        for name in self.family.outputs:
            kept = self.clear[order]
            self.same(f"{name}, repeated rows", again[name][kept], base[name][order][kept])
            joined = np.concatenate([p[name] for p in parts])
            self.same(f"{name}, joined batches", joined, base[name], rows=self.clear)

    def special(self, best):
        x = self.family.x.copy()
        x[3, 1] = np.nan
        x[7] = np.inf
        got, clean = self.run(best, x), self.run(best, self.family.x)
        other = self.clear.copy()
        other[[3, 7]] = False
        for name in self.family.outputs:
            if not np.isnan(got[name][3]).all():
                self.faults.append(f"{name}: a row with a NaN gives {got[name][3][:4]}")
            self.same(f"{name}, rows beside a NaN", got[name], clean[name], rows=other)


def ties(folder, seed):
    """Equal scores, on numbers that are exact in any order of summation."""
    faults = []
    for name in L.FAMILIES[:-1]:
        rng = np.random.default_rng([seed, 7])
        layer = L.random_layer(rng, 6, 8, 4, 3, "first" if name != "fused" else "renorm")
        router = rng.integers(-2, 3, layer.router.shape).astype(np.float32)
        layer = dataclasses.replace(layer, router=router[:, [0, 1, 0, 2, 1, 0]])
        g = L.Graph()
        y = L.EMIT[name](g, layer, "x")
        x = rng.integers(-2, 3, (TOKENS, 8)).astype(np.float32)
        proto = g.model([helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
                        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", 8])])
        place = folder / f"ties-{name}"
        place.mkdir(parents=True, exist_ok=True)
        onnx.save(proto, place / "m.onnx")
        np.save(place / "x.npy", x)
        moec("run", place / "m.onnx", "--input", place / "x.npy", "--save", place)
        got, want = np.load(place / "output_0.npy"), L.value(layer, x, name)
        bad = ~(np.abs(got - want) <= 10 * NEAR * (1 + np.abs(want))).all(-1)
        if bad.any():
            faults.append(f"ties, {name}, seed {seed}: {bad.sum()} of {TOKENS} rows are not the lower expert's")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--family", nargs="*", choices=L.FAMILIES, default=L.FAMILIES)
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.rounds)
    families = [Family(name, seed) for seed in seeds for name in args.family]
    failed = near = 0

    def work(family):
        check = Check(args.folder / f"{family.name}-{family.seed}", family)
        try:
            check.all()
        except (RuntimeError, OSError) as error:
            check.faults.append(str(error))
        return check

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for check in pool.map(work, families):
            near += check.near_ties
            failed += bool(check.faults)
            print("FAILED" if check.faults else "ok", check.family.describe(), f"({check.near_ties} near ties)")
            print("".join(f"    {f}\n" for f in check.faults[:12]), end="", flush=True)
    faults = ties(args.folder, args.seed)
    print("".join(f"FAILED {f}\n" for f in faults), end="")
    print(f"{len(families)} layers, seeds from {args.seed}: {failed} failed, {near} of "
          f"{len(families) * TOKENS} rows were near ties")
    return 1 if failed or faults or not families else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
