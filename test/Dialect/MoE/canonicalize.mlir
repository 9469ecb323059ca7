// RUN: moe-opt %s --canonicalize --cse | FileCheck %s

// CHECK: moe.weights @weights {
moe.weights @weights {
  // CHECK-NEXT: %[[W:.*]] = moe.weight.load "w.bin" at 0 : tensor<4x6x8xf16>
  %w = moe.weight.load "w.bin" at 0 : tensor<4x6x8xf16>

  // Steps that change nothing.
  // CHECK-NEXT: moe.weight.bind @same %[[W]]
  %0 = moe.weight.cast %w : tensor<4x6x8xf16> -> tensor<4x6x8xf16>
  %1 = moe.weight.transpose %0 [0, 1, 2] : tensor<4x6x8xf16> -> tensor<4x6x8xf16>
  %2 = moe.weight.reshape %1 : tensor<4x6x8xf16> -> tensor<4x6x8xf16>
  %3 = moe.weight.slice %2 [0, 0, 0] [4, 6, 8] [1, 1, 1] : tensor<4x6x8xf16> -> tensor<4x6x8xf16>
  %4 = moe.weight.gather %3 axis 0 [0, 1, 2, 3] : tensor<4x6x8xf16> -> tensor<4x6x8xf16>
  %5 = moe.weight.concat %4 axis 0 : (tensor<4x6x8xf16>) -> tensor<4x6x8xf16>
  %6 = moe.weight.combine %5 [1.0] : (tensor<4x6x8xf16>) -> tensor<4x6x8xf16>
  moe.weight.bind @same %6 : tensor<4x6x8xf16>

  // To a wider type and back.
  // CHECK-NEXT: moe.weight.bind @there_and_back %[[W]]
  %7 = moe.weight.cast %w : tensor<4x6x8xf16> -> tensor<4x6x8xf32>
  %8 = moe.weight.cast %7 : tensor<4x6x8xf32> -> tensor<4x6x8xf16>
  moe.weight.bind @there_and_back %8 : tensor<4x6x8xf16>

  // To a type that holds less, and back: numbers are rounded on the way.
  // CHECK-NEXT: %[[R:.*]] = moe.weight.cast %[[W]] : tensor<4x6x8xf16> -> tensor<4x6x8xbf16>
  // CHECK-NEXT: %[[RR:.*]] = moe.weight.cast %[[R]] : tensor<4x6x8xbf16> -> tensor<4x6x8xf16>
  // CHECK-NEXT: moe.weight.bind @rounded %[[RR]]
  %9 = moe.weight.cast %w : tensor<4x6x8xf16> -> tensor<4x6x8xbf16>
  %10 = moe.weight.cast %9 : tensor<4x6x8xbf16> -> tensor<4x6x8xf16>
  moe.weight.bind @rounded %10 : tensor<4x6x8xf16>

  // CHECK-NEXT: moe.weight.bind @transposed_twice %[[W]]
  %11 = moe.weight.transpose %w [0, 2, 1] : tensor<4x6x8xf16> -> tensor<4x8x6xf16>
  %12 = moe.weight.transpose %11 [0, 2, 1] : tensor<4x8x6xf16> -> tensor<4x6x8xf16>
  moe.weight.bind @transposed_twice %12 : tensor<4x6x8xf16>

  // CHECK-NEXT: %[[T:.*]] = moe.weight.transpose %[[W]] [1, 2, 0] : tensor<4x6x8xf16> -> tensor<6x8x4xf16>
  // CHECK-NEXT: moe.weight.bind @transposes %[[T]]
  %13 = moe.weight.transpose %w [1, 0, 2] : tensor<4x6x8xf16> -> tensor<6x4x8xf16>
  %14 = moe.weight.transpose %13 [0, 2, 1] : tensor<6x4x8xf16> -> tensor<6x8x4xf16>
  moe.weight.bind @transposes %14 : tensor<6x8x4xf16>

  // CHECK-NEXT: %[[F:.*]] = moe.weight.reshape %[[W]] : tensor<4x6x8xf16> -> tensor<192xf16>
  // CHECK-NEXT: moe.weight.bind @reshapes %[[F]]
  %15 = moe.weight.reshape %w : tensor<4x6x8xf16> -> tensor<24x8xf16>
  %16 = moe.weight.reshape %15 : tensor<24x8xf16> -> tensor<192xf16>
  moe.weight.bind @reshapes %16 : tensor<192xf16>

  // CHECK-NEXT: %[[S:.*]] = moe.weight.slice %[[W]] [2, 3, 0] [1, 1, 8] [1, 4, 1] : tensor<4x6x8xf16> -> tensor<1x1x8xf16>
  // CHECK-NEXT: moe.weight.bind @slices %[[S]]
  %17 = moe.weight.slice %w [1, 1, 0] [3, 3, 8] [1, 2, 1] : tensor<4x6x8xf16> -> tensor<3x3x8xf16>
  %18 = moe.weight.slice %17 [1, 1, 0] [1, 1, 8] [1, 2, 1] : tensor<3x3x8xf16> -> tensor<1x1x8xf16>
  moe.weight.bind @slices %18 : tensor<1x1x8xf16>

  // Steps without a bind go; equal steps are one.
  // CHECK-NEXT: %[[G:.*]] = moe.weight.gather
  // CHECK-NEXT: moe.weight.bind @first %[[G]]
  // CHECK-NEXT: moe.weight.bind @second %[[G]]
  // CHECK-NEXT: }
  %19 = moe.weight.literal dense<1.0> : tensor<4xf32>
  %20 = moe.weight.gather %w axis 1 [5] : tensor<4x6x8xf16> -> tensor<4x1x8xf16>
  %21 = moe.weight.gather %w axis 1 [5] : tensor<4x6x8xf16> -> tensor<4x1x8xf16>
  moe.weight.bind @first %20 : tensor<4x1x8xf16>
  moe.weight.bind @second %21 : tensor<4x1x8xf16>
}

// Ops of functions are pure, but for the probe.
// CHECK-LABEL: func.func @pure
func.func @pure(%z: tensor<?x8xf32>) -> tensor<?x2xi32> {
  // CHECK-NEXT: %[[IDS:.*]], %{{.*}} = moe.route
  // CHECK-NEXT: moe.probe "routing"(%[[IDS]]
  // CHECK-NEXT: return %[[IDS]]
  %0 = moe.weight.use @same : tensor<4x6x8xf16>
  %1, %2 = moe.select %z {k = 2 : i64} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %3, %4 = moe.route(%z) router<score = softmax, k = 2> : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %5, %6 = moe.route(%z) router<score = softmax, k = 2> : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  moe.probe "routing"(%3, %4) {experts = 8 : i64, layer = "layer0"}
      : tensor<?x2xi32>, tensor<?x2xf32>
  return %5 : tensor<?x2xi32>
}
