#!/usr/bin/env python3
"""Creates the files of a new pass, ready to be built and filled in.

usage: new_pass.py ROOM NAME SUMMARY
       new_pass.py Routing drop-idle-experts "Remove experts that no token can choose"

ROOM is a folder of lib/Transforms. The pass is declared in the room's Passes.td (which registers it
with moe-opt and moec), implemented in lib/Transforms/ROOM/Name.cpp, and tested by two files in
test/Transforms/ROOM; the generated reference pages are brought up to date. As written it visits every moe.experts op and says so in a remark; the tests
pass, so that each step from there on can be a small one.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

DECLARATION = '''
def {cls} : Pass<"{name}", "::mlir::ModuleOp"> {{
  let summary = "{summary}";
  let description = [{{
    Visits every `moe.experts` and says in a remark that it was seen; the IR stays as it is.

    Before:
    ```mlir
    %y = moe.experts @bank (%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
    ```
    After:
    ```mlir
    %y = moe.experts @bank (%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
    ```
  }}];
  let statistics = [
    Statistic<"numSeen", "seen", "Layers that were visited">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect"];
}}
'''

SOURCE = '''// {name}: see Passes.td.
#include "moec/Transforms/{room}/Passes.h"

using namespace mlir;

namespace moec {{
#define GEN_PASS_DEF_{upper}
#include "moec/Transforms/{room}/Passes.h.inc"

namespace {{

struct {cls} : impl::{cls}Base<{cls}> {{
  using {cls}Base::{cls}Base;

  void runOnOperation() override {{
    getOperation().walk([&](Operation *op) {{
      if (op->getName().getStringRef() != "moe.experts")
        return;
      ++numSeen;
      op->emitRemark() << "{name}: seen";
    }});
  }}
}};

}} // namespace
}} // namespace moec
'''

TEST = '''// RUN: moe-opt --{name} %s 2>/dev/null | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK: return
func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {{
  return %x : tensor<?x8xf32>
}}
'''

ERRORS = '''// RUN: moe-opt --{name} --verify-diagnostics --split-input-file %s

// Every message of the pass has a case here. A graph without MoE layers has none.
func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {{
  return %x : tensor<?x8xf32>
}}
'''


def fail(text):
    sys.exit(f"new_pass.py: {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", help="folder of lib/Transforms")
    parser.add_argument("name", help="name of the pass on command lines, in lower case with dashes")
    parser.add_argument("summary", help="one line without a full stop")
    args = parser.parse_args()
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", args.name):
        fail(f"'{args.name}' is no pass name: lower case words joined by dashes")
    table = ROOT / "include/moec/Transforms" / args.room / "Passes.td"
    if not table.exists():
        fail(f"lib/Transforms has no room '{args.room}'")
    cls = "".join(word.capitalize() for word in args.name.split("-")).replace("Moe", "MoE")
    words = dict(room=args.room, name=args.name, cls=cls, upper=cls.upper(),
                 summary=args.summary.replace('"', '\\"'))
    text = table.read_text()
    if f'Pass<"{args.name}"' in text:
        fail(f"{table.relative_to(ROOT)} declares {args.name} already")
    tests = ROOT / "test/Transforms" / args.room
    files = {ROOT / "lib/Transforms" / args.room / f"{cls}.cpp": SOURCE,
             tests / f"{args.name}.mlir": TEST,
             tests / f"{args.name}-errors.mlir": ERRORS}
    for file in files:
        if file.exists():
            fail(f"{file.relative_to(ROOT)} exists already")
    at = text.rindex("#endif")
    table.write_text(text[:at].rstrip() + "\n" + DECLARATION.format(**words) + "\n" + text[at:])
    print(f"changed {table.relative_to(ROOT)}")
    for file, template in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(template.format(**words))
        print(f"wrote   {file.relative_to(ROOT)}")
    subprocess.run([sys.executable, ROOT / "utils/gen_docs.py"], check=True)


main()
