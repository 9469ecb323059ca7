# lit configuration of the .mlir and .test files.
#
# Features a test may ask for with REQUIRES:
#   shared-models  the collection of real and generated models beside the checkout
#   onnxruntime    the Python package, for comparisons
#   avx512         the machine runs AVX-512 code
#   fuzzers        the compiler has libFuzzer (libclang-rt-22-dev), so its targets were built
#   slow           asked for with --param slow=1
import importlib.util
import os

import lit.formats

config.name = "moec"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "CMakeLists.txt", "lit.cfg.py"]
config.test_source_root = os.path.dirname(os.path.abspath(__file__))

root = os.path.dirname(config.test_source_root)
build = getattr(config, "moec_build", os.path.join(root, "build"))
config.test_exec_root = os.path.join(build, "test")

tools = os.path.join(build, "bin")
llvm = "/usr/lib/llvm-22/bin"
python = os.path.join(root, ".venv/bin/python")
config.environment["PATH"] = os.pathsep.join([tools, llvm, os.environ.get("PATH", "/usr/bin:/bin")])
config.environment["MOEC_SOURCE_DIR"] = root
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "MOERT_ISA"):
    if name in os.environ:
        config.environment[name] = os.environ[name]

shared = os.path.join(os.path.dirname(root), "shared", "models")
if os.path.isdir(shared):
    config.available_features.add("shared-models")
if importlib.util.find_spec("onnxruntime"):
    config.available_features.add("onnxruntime")
if os.path.exists(os.path.join(tools, "ImportFuzzer")):
    config.available_features.add("fuzzers")
if lit_config.params.get("slow"):
    config.available_features.add("slow")
try:
    flags = set(next(l for l in open("/proc/cpuinfo") if l.startswith("flags")).split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= flags:
        config.available_features.add("avx512")
except (OSError, StopIteration):
    pass

config.substitutions += [
    ("%shared-models", shared),
    ("%example-models", os.path.join(root, "examples")),
    ("%make-onnx", f"{python} {os.path.join(root, 'utils', 'make_onnx.py')}"),
    ("%make-moe-model", f"{python} {os.path.join(root, 'utils', 'make_moe_model.py')}"),
    ("%exit-code", os.path.join(root, "utils", "exit-code")),
    ("%python", python),
    ("%root", root),
    ("%build", build),
]
