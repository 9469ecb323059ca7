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

/* Decision trees as arrays: nodes compare a feature of the row with a value, ~node >= 0 is a leaf, which
 * owns targets[entries[leaf] .. entries[leaf + 1]) and as many weights. */
enum { MOERT_TREE_LEQ, MOERT_TREE_LT, MOERT_TREE_GTE, MOERT_TREE_GT, MOERT_TREE_EQ, MOERT_TREE_NEQ,
       MOERT_TREE_MEMBER };
enum { MOERT_TREE_AVERAGE, MOERT_TREE_SUM, MOERT_TREE_MIN, MOERT_TREE_MAX };
typedef struct moert_trees {
  int64_t trees, count, least_features; /* `count` targets */
  int64_t aggregate;
  const int32_t *roots;                      /* [trees] */
  const int32_t *modes, *features, *yes, *no; /* by node */
  const int32_t *missing;                    /* by node: a NaN takes the true branch */
  const double *values;                      /* by node; of MEMBER: where its members begin */
  const double *members;                     /* sets, each ended by a NaN */
  const int64_t *entries;                    /* [leaves + 1] */
  const int32_t *targets;
  const double *weights;
  const double *base; /* [count], or null */
} moert_trees;

#endif
