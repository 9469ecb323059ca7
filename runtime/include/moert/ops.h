/* Tensor operators that generated code calls instead of emitting loops.
 *
 * They are generic over the element type (ONNX TensorProto codes) and take contiguous row-major
 * tensors. Outputs are allocated by the caller unless the prototype in api_functions.def says
 * otherwise. An index out of range ends the run with a message that names the node; `node` is the
 * bare name of the ONNX node and must outlive the call.
 */
#ifndef MOERT_OPS_H
#define MOERT_OPS_H
#include <stdint.h>

/* A borrowed contiguous tensor: `rank` sizes at `dims`, elements of ONNX type `dtype` at `data`. */
typedef struct moert_view {
  void *data;
  const int64_t *dims;
  int32_t rank;
  int32_t dtype;
} moert_view;

/* How a scatter joins an update to the element it meets. */
enum { MOERT_SCATTER_SET, MOERT_SCATTER_ADD, MOERT_SCATTER_MUL, MOERT_SCATTER_MAX, MOERT_SCATTER_MIN };

#endif
