// The experts of one domain, as a model or as masks for a session.
// RUN: rm -rf %t && mkdir -p %t && %python %S/Inputs/write_profile.py %s %t/p.moep
// RUN: moe-opt %s --subset-experts="profile=%t/p.moep label=code keep=3 criterion=frequency" 2>&1 | FileCheck %s
// RUN: moe-opt %s --subset-experts="profile=%t/p.moep label=code,prose keep=50% criterion=frequency" 2>&1 | FileCheck %s --check-prefix=BOTH
// RUN: moe-opt %s --subset-experts="profile=%t/p.moep keep=3 criterion=frequency masks=%t/masks" 2>&1 | FileCheck %s --check-prefix=SAME
// RUN: FileCheck %s --check-prefix=CODE --input-file=%t/masks/code.json
// RUN: FileCheck %s --check-prefix=PROSE --input-file=%t/masks/prose.json
// RUN: not moe-opt %s --subset-experts="profile=%t/p.moep keep=3" 2>&1 | FileCheck %s --check-prefix=LABEL
// RUN: not moe-opt %s --subset-experts="profile=%t/p.moep keep=3 label=maths criterion=frequency" 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: not moe-opt %s --subset-experts="profile=%t/p.moep label=code" 2>&1 | FileCheck %s --check-prefix=KEEP

// CHECK: subset-experts: layer 'layer0': 3 of 6 experts go (1, 2, 5); 100.0 % of frequency on code stays
// CHECK: moe.bank @layer0 experts(3)
// Each label counts the same: shares 0.5, 0.6 and 0.4 are the largest.
// BOTH: 3 of 6 experts go (1, 3, 4)
// SAME: moe.bank @layer0 experts(6)
// CODE: "layers": {
// CODE-NEXT: "layer0": {
// CODE-NEXT: "keep": [
// CODE-NEXT: 0,
// CODE-NEXT: 3,
// CODE-NEXT: 4
// PROSE: "keep": [
// PROSE-NEXT: 0,
// PROSE-NEXT: 2,
// PROSE-NEXT: 5
// LABEL: error: subset-experts: needs the label whose experts stay, or like; the profile has code, prose
// OTHER: error: subset-experts: {{.*}}maths
// KEEP: error: subset-experts: needs keep

// LABELS: code prose
// MEASURED: layer0 2 4 tokens [10, 500]
// MEASURED: layer0 2 4 count [[10, 0, 0, 5, 5, 0], [3, 1, 500, 0, 0, 496]]

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<6x3x4xf32>
  moe.weight.bind @up %0 : tensor<6x3x4xf32>
  %1 = moe.weight.load "w.bin" at 288 : tensor<6x4x3xf32>
  moe.weight.bind @down %1 : tensor<6x4x3xf32>
}
moe.bank @layer0 experts(6) hidden(4) inter(3) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down)
func.func @main(%x: tensor<?x4xf32>, %z: tensor<?x6xf32>) -> tensor<?x4xf32> {
  %i, %g = moe.route(%z) router<score = softmax, k = 2>
      : (tensor<?x6xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @layer0(%x, %i, %g)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
