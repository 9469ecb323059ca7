/* One recurrence in the number type REAL; included by ops_recurrent.c for f32 and f64, which
 * defines REAL, NAME(x), TANH, EXP and MULTIPLY (sums = h R^T for all sequences of the batch). */

static REAL NAME(activate)(const recurrent_job *job, int64_t which, REAL x) {
  double a = job->parameters[2 * which], b = job->parameters[2 * which + 1];
  if (job->clip > 0)
    x = x < -job->clip ? (REAL)-job->clip : x > job->clip ? (REAL)job->clip : x;
  switch (job->functions[which]) {
  case ACT_TANH:
    return TANH(x);
  case ACT_SIGMOID:
    return 1 / (1 + EXP(-x));
  case ACT_RELU:
    return x < 0 ? 0 : x;
  case ACT_SOFTSIGN:
    return x / (1 + (x < 0 ? -x : x));
  case ACT_SOFTPLUS:
    return (REAL)(x > 0 ? x + log1p(exp(-(double)x)) : log1p(exp((double)x)));
  case ACT_LEAKY_RELU:
    return (REAL)(x < 0 ? a * x : x);
  case ACT_THRESHOLDED_RELU:
    return x > a ? x : 0;
  case ACT_ELU:
    return (REAL)(x < 0 ? a * expm1(x) : x);
  case ACT_AFFINE:
    return (REAL)(a * x + b);
  case ACT_SCALED_TANH:
    return (REAL)(a * tanh(b * x));
  default: { // HardSigmoid
    double y = a * x + b;
    return (REAL)(y < 0 ? 0 : y > 1 ? 1 : y);
  }
  }
}

/* The next h and cell of one sequence; xs: what the input adds to each gate, biases of W included,
 * hs: h R^T. */
static void NAME(rnn)(const recurrent_job *job, int64_t d, const REAL *xs, const REAL *hs,
                      const REAL *rb, REAL *h) {
  for (int64_t j = 0; j < job->hidden; ++j)
    h[j] = NAME(activate)(job, d, xs[j] + hs[j] + (rb ? rb[j] : 0));
}

static void NAME(lstm)(const recurrent_job *job, int64_t d, const REAL *xs, const REAL *hs,
                       const REAL *rb, const REAL *p, REAL *h, REAL *cell) {
  int64_t n = job->hidden;
  for (int64_t j = 0; j < n; ++j) {
    REAL gate[4];
    for (int g = 0; g < 4; ++g)
      gate[g] = xs[g * n + j] + hs[g * n + j] + (rb ? rb[g * n + j] : 0);
    REAL c = cell[j];
    REAL input = NAME(activate)(job, 3 * d, gate[0] + (p ? p[j] * c : 0));
    REAL forget =
        job->coupled ? 1 - input : NAME(activate)(job, 3 * d, gate[2] + (p ? p[2 * n + j] * c : 0));
    c = forget * c + input * NAME(activate)(job, 3 * d + 1, gate[3]);
    REAL output = NAME(activate)(job, 3 * d, gate[1] + (p ? p[n + j] * c : 0));
    cell[j] = c;
    h[j] = output * NAME(activate)(job, 3 * d + 2, c);
  }
}

/* First half of a GRU's step: the gates; what the last product takes goes to `reset`. */
static void NAME(gru_gates)(const recurrent_job *job, int64_t d, const REAL *xs, REAL *hs,
                            const REAL *rb, const REAL *h, REAL *reset) {
  int64_t n = job->hidden;
  for (int64_t j = 0; j < n; ++j) {
    hs[j] = NAME(activate)(job, 2 * d, xs[j] + hs[j] + (rb ? rb[j] : 0));
    REAL r = NAME(activate)(job, 2 * d, xs[n + j] + hs[n + j] + (rb ? rb[n + j] : 0));
    hs[n + j] = r;
    reset[j] = r * h[j];
  }
}

/* Second half: `past` is R_h times h or times the reset h. */
static void NAME(gru_next)(const recurrent_job *job, int64_t d, const REAL *xs, const REAL *hs,
                           const REAL *rb, const REAL *past, REAL *h) {
  int64_t n = job->hidden;
  for (int64_t j = 0; j < n; ++j) {
    REAL sum = past[j] + (rb ? rb[2 * n + j] : 0);
    if (job->reset_after)
      sum *= hs[n + j];
    REAL next = NAME(activate)(job, 2 * d + 1, xs[2 * n + j] + sum);
    h[j] = (1 - hs[j]) * next + hs[j] * h[j];
  }
}

static void NAME(direction)(moert_ctx *ctx, const recurrent_job *job, int64_t d, int backward) {
  int64_t n = job->hidden, width = job->gates * n, batch = job->batch;
  const REAL *x = job->x, *r = (const REAL *)job->r + d * width * n;
  const REAL *rb = job->bias ? (const REAL *)job->bias + (2 * d + 1) * width : NULL;
  const REAL *p = job->peephole ? (const REAL *)job->peephole + d * 3 * n : NULL;
  REAL *h = (REAL *)job->h + d * batch * n, *y = job->y;
  REAL *cell = job->cell ? (REAL *)job->cell + d * batch * n : NULL;
  /* h R^T, the reset h, R_h times it, each for all sequences */
  REAL *hs = moert_alloc(ctx, batch * (width + 2 * n) * (int64_t)sizeof(REAL));
  REAL *reset = hs + batch * width, *past = reset + batch * n;
  for (int64_t i = 0; i < job->length; ++i) {
    int gru = job->kind == RECURRENT_GRU, twice = gru && !job->reset_after;
    MULTIPLY(0, h, r, twice ? 2 * n : width, hs, width);
    for (int64_t b = 0; b < batch && gru; ++b) {
      int64_t t = backward ? job->lengths[b] - 1 - i : i;
      if (i < job->lengths[b])
        NAME(gru_gates)
        (job, d, x + ((t * batch + b) * job->directions + d) * width, hs + b * width, rb, h + b * n,
         reset + b * n);
      else
        memset(reset + b * n, 0, (size_t)n * sizeof(REAL));
    }
    if (twice)
      MULTIPLY(1, reset, r + 2 * n * n, n, past, n);
    for (int64_t b = 0; b < batch; ++b) {
      if (i >= job->lengths[b])
        continue;
      int64_t t = backward ? job->lengths[b] - 1 - i : i;
      const REAL *xs = x + ((t * batch + b) * job->directions + d) * width;
      REAL *to = h + b * n, *sums = hs + b * width;
      if (gru)
        NAME(gru_next)(job, d, xs, sums, rb, twice ? past + b * n : sums + 2 * n, to);
      else if (job->kind == RECURRENT_LSTM)
        NAME(lstm)(job, d, xs, sums, rb, p, to, cell + b * n);
      else
        NAME(rnn)(job, d, xs, sums, rb, to);
      if (y)
        memcpy(y + ((t * job->directions + d) * batch + b) * n, to, (size_t)n * sizeof(REAL));
    }
  }
  moert_free(ctx, hs);
}
