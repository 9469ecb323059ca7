#!/usr/bin/env python3
"""Runs a model with ONNX Runtime on .npy inputs; used by `moec verify` and `moec bench`.

usage: run_ort.py MODEL INPUT_DIR OUTPUT_DIR          outputs as OUTPUT_DIR/output_I.npy
       run_ort.py MODEL INPUT_DIR --bench REPS [--warm-up N] [--threads N]
                                                      times in milliseconds as JSON

INPUT_DIR holds input_I.npy in graph order. Exit code 3: onnxruntime is not installed or refuses the
model (the reason on stderr).
"""
import argparse
import json
import pathlib
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("inputs", type=pathlib.Path)
    parser.add_argument("outputs", type=pathlib.Path, nargs="?")
    parser.add_argument("--bench", type=int)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    try:
        import numpy as np
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = args.threads
        session = ort.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
        feed = {value.name: np.load(args.inputs / f"input_{i}.npy")
                for i, value in enumerate(session.get_inputs())}
        if args.bench is None:
            for i, value in enumerate(session.run(None, feed)):
                np.save(args.outputs / f"output_{i}.npy", value)
            return 0
        times = []
        for i in range(args.warm_up + args.bench):
            start = time.perf_counter()
            session.run(None, feed)
            if i >= args.warm_up:
                times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps({"version": ort.__version__, "milliseconds": times}))
        return 0
    except Exception as error:  # whatever ONNX Runtime raises: it is not the caller's fault
        print(str(error).splitlines()[0] if str(error) else type(error).__name__, file=sys.stderr)
        return 3


sys.exit(main())
