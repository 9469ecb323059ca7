/* Ensembles of decision trees (ai.onnx.ml): one row of features after the other. */
#include "elements.h"
#include <math.h>

/* Whether the row goes on with the node's true branch. */
static bool takes(const moert_trees *t, int32_t node, double value) {
  if (isnan(value) && t->missing[node])
    return true;
  double with = t->values[node];
  switch (t->modes[node]) {
  case MOERT_TREE_LEQ:
    return value <= with;
  case MOERT_TREE_LT:
    return value < with;
  case MOERT_TREE_GTE:
    return value >= with;
  case MOERT_TREE_GT:
    return value > with;
  case MOERT_TREE_EQ:
    return value == with;
  case MOERT_TREE_NEQ:
    return value != with;
  default: /* member of a set that begins at the node's value and ends with a NaN */
    for (const double *member = t->members + (int64_t)with; !isnan(*member); ++member)
      if (*member == value)
        return true;
    return false;
  }
}

static double feature(const moert_view *x, int64_t at) {
  double result = 0;
#define FEATURE(S, C, LOAD, STORE) result = (double)LOAD(((const S *)x->data)[at]);
  switch (x->dtype) {
  case T_F32: FEATURE(float, float, MOERT_SAME, MOERT_SAME) break;
  case T_F64: FEATURE(double, double, MOERT_SAME, MOERT_SAME) break;
  case T_F16: FEATURE(uint16_t, float, f16_float, float_f16) break;
  case T_I32: FEATURE(int32_t, int32_t, MOERT_SAME, MOERT_SAME) break;
  case T_I64: FEATURE(int64_t, int64_t, MOERT_SAME, MOERT_SAME) break;
  }
#undef FEATURE
  return result;
}

static void add_leaf(const moert_trees *t, int32_t leaf, double *sums, int32_t *seen) {
  for (int64_t i = t->entries[leaf]; i < t->entries[leaf + 1]; ++i) {
    int32_t target = t->targets[i];
    double weight = t->weights[i];
    bool first = !seen[target]++;
    if (t->aggregate == MOERT_TREE_MIN || t->aggregate == MOERT_TREE_MAX) {
      bool better = t->aggregate == MOERT_TREE_MIN ? weight < sums[target] : weight > sums[target];
      sums[target] = first || better ? weight : sums[target];
    } else {
      sums[target] += weight;
    }
  }
}

typedef struct {
  const moert_view *x;
  const moert_trees *t;
  double *out;
  int32_t *seen; /* `count` for each worker */
  int64_t rows, per_task;
} trees_job;

static void trees_rows(void *arg, int64_t task, int worker) {
  const trees_job *job = arg;
  const moert_trees *t = job->t;
  int32_t *seen = job->seen + worker * t->count;
  int64_t features = job->x->dims[1], end = (task + 1) * job->per_task;
  for (int64_t row = task * job->per_task; row < end && row < job->rows; ++row) {
    double *sums = job->out + row * t->count;
    memset(seen, 0, (size_t)t->count * sizeof *seen);
    memset(sums, 0, (size_t)t->count * sizeof *sums);
    for (int64_t tree = 0; tree < t->trees; ++tree) {
      int32_t node = t->roots[tree];
      while (node >= 0) { /* a leaf is ~node */
        bool yes = takes(t, node, feature(job->x, row * features + t->features[node]));
        node = yes ? t->yes[node] : t->no[node];
      }
      add_leaf(t, ~node, sums, seen);
    }
    for (int64_t k = 0; k < t->count; ++k) {
      if (t->aggregate == MOERT_TREE_AVERAGE)
        sums[k] /= (double)t->trees;
      sums[k] += t->base ? t->base[k] : 0;
    }
  }
}

void moert_op_trees(moert_ctx *ctx, const moert_view *x, const void *ensemble, double *out,
                    const char *node) {
  const moert_trees *t = ensemble;
  int64_t rows = x->dims[0];
  if (x->dims[1] < t->least_features)
    moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\" (TreeEnsemble): %lld features, not %lld or more",
                node, (long long)x->dims[1], (long long)t->least_features);
  trees_job job = {x, t, out, NULL, rows, 1 + 4096 / (1 + t->trees)};
  job.seen = moert_alloc(ctx, moert_threads(ctx) * t->count * (int64_t)sizeof *job.seen);
  moert_parallel(ctx, (rows + job.per_task - 1) / job.per_task, trees_rows, &job);
  moert_free(ctx, job.seen);
}
