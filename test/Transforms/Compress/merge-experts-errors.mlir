// What cannot be merged is said in one line.
// RUN: rm -rf %t && mkdir -p %t && %python %S/Inputs/merge.py %t
// RUN: not moe-opt %s --merge-experts="groups=bank=0,1|1,2 weights=uniform" 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not moe-opt %s --merge-experts="groups=bank=0,4 weights=uniform" 2>&1 | FileCheck %s --check-prefix=RANGE
// RUN: not moe-opt %s --merge-experts="groups=other=0,1 weights=uniform" 2>&1 | FileCheck %s --check-prefix=LAYER
// RUN: not moe-opt %s --merge-experts="groups=bank=0,2 weights=uniform" 2>&1 | FileCheck %s --check-prefix=GUARD
// RUN: not moe-opt %s --merge-experts="groups=bank=0,1,3 weights=uniform router=drop" 2>&1 | FileCheck %s --check-prefix=SLOTS
// RUN: not moe-opt %s --merge-experts="groups=bank=0,1 weights=frequency" 2>&1 | FileCheck %s --check-prefix=WEIGHTS
// RUN: not moe-opt %s --merge-experts="groups=regions=0,1 weights=uniform" 2>&1 | FileCheck %s --check-prefix=REGION
// RUN: not moe-opt %s --merge-experts="groups=packed=0,1 weights=uniform" 2>&1 | FileCheck %s --check-prefix=PACKED
// RUN: not moe-opt %s --merge-experts="drop=1" 2>&1 | FileCheck %s --check-prefix=PROFILE
// RUN: not moe-opt %s --merge-experts="preset=best" 2>&1 | FileCheck %s --check-prefix=PRESET
// RUN: not moe-opt %s --merge-experts="max-group=1" 2>&1 | FileCheck %s --check-prefix=MOST

// TWICE: error: merge-experts: layer 'bank': groups: expert 1 is named twice; groups have to be a partition
// RANGE: error: merge-experts: layer 'bank': groups: "4" is none of its 4 experts
// LAYER: error: merge-experts: groups: "other=0,1" names no layer
// GUARD: error: merge-experts: layer 'bank': groups: expert 2 is protected
// SLOTS: error: merge-experts: layer 'bank': groups: 2 experts are left, but a token takes 3; give router=alias
// WEIGHTS: error: merge-experts: layer 'bank': weights = frequency needs a profile
// REGION: error: merge-experts: layer 'regions': unsupported: its experts are regions, whose neurons are not known; give align=none
// PACKED: error: merge-experts: layer 'packed': unsupported: @packed_up is not stored as floats
// PROFILE: error: merge-experts: needs a profile: profile=FILE
// PRESET: error: merge-experts: there is no preset "best"; it is one of ream, hc-smoe, m-smoe, sub-moe, mergemoe
// MOST: error: merge-experts: max-group = 1 is below 2

moe.weights @weights {
  %2 = moe.weight.load "w.bin" at 32 : tensor<4x3x4xf16>
  moe.weight.bind @up %2 : tensor<4x3x4xf16>
  %4 = moe.weight.load "w.bin" at 128 : tensor<4x4x3xf16>
  moe.weight.bind @down %4 : tensor<4x4x3xf16>
  %5 = moe.weight.load "w.bin" at 0 : tensor<4x3x4xi8>
  %6 = moe.weight.literal dense<0.5> : tensor<1x1x1xf16>
  %7 = moe.weight.dequantize %5, %6 blocks [4, 3, 4]
      : (tensor<4x3x4xi8>, tensor<1x1x1xf16>) -> tensor<4x3x4xf16>
  moe.weight.bind @packed_up %7 : tensor<4x3x4xf16>
}
moe.bank @bank experts(4) hidden(4) inter(3)
    body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
    attributes {moe.protected = array<i64: 2>}
moe.bank @packed experts(4) hidden(4) inter(3)
    body(#moe.ffn<gated = false, activation = "relu">) up(@packed_up) down(@down)
moe.bank @regions experts(4) hidden(4) inter(0) parameters([@up]) {
^bb0(%x: tensor<?x4xf16>, %w: tensor<3x4xf16>):
  moe.yield %x : tensor<?x4xf16>
}
func.func @main(%x: tensor<?x4xf16>, %i: tensor<?x3xi32>, %w: tensor<?x3xf16>)
    -> (tensor<?x4xf16>, tensor<?x4xf16>, tensor<?x4xf16>) {
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x4xf16>, tensor<?x3xi32>, tensor<?x3xf16>) -> tensor<?x4xf16>
  %y1 = moe.experts @packed(%x, %i, %w)
      : (tensor<?x4xf16>, tensor<?x3xi32>, tensor<?x3xf16>) -> tensor<?x4xf16>
  %y2 = moe.experts @regions(%x, %i, %w)
      : (tensor<?x4xf16>, tensor<?x3xi32>, tensor<?x3xf16>) -> tensor<?x4xf16>
  return %y, %y1, %y2 : tensor<?x4xf16>, tensor<?x4xf16>, tensor<?x4xf16>
}
