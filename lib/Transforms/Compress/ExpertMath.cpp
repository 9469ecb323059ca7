#include "ExpertMath.h"

#include "DenseKernels.h"
#include "Problem.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/Parallel.h"
#include <cmath>
#include <numbers>

using namespace moec;
using namespace moec::compress;
using llvm::StringRef;

using Activation = float (*)(float x, float alpha);

static Activation activationOf(StringRef name) {
  return llvm::StringSwitch<Activation>(name)
      .Case("identity", [](float x, float) { return x; })
      .Case("relu", [](float x, float) { return x < 0 ? 0 : x; })
      .Case("relu2", [](float x, float) { return x < 0 ? 0 : x * x; })
      .Cases({"silu", "swish"}, [](float x, float alpha) { return x / (1 + std::exp(-alpha * x)); })
      .Case("gelu",
            [](float x, float) {
              return 0.5f * x * (1 + std::erf(x / std::numbers::sqrt2_v<float>));
            })
      .Case("gelu_tanh",
            [](float x, float) {
              constexpr float factor = 0.7978845608f; // sqrt(2 / pi)
              return 0.5f * x * (1 + std::tanh(factor * (x + 0.044715f * x * x * x)));
            })
      .Case("tanh", [](float x, float) { return std::tanh(x); })
      .Case("sigmoid", [](float x, float) { return 1 / (1 + std::exp(-x)); })
      .Default(nullptr);
}

llvm::Expected<FfnBank> FfnBank::create(moe::BankOp bank, WeightEvaluator &weights) {
  FfnBank made(bank, weights);
  auto body = bank.getBody();
  if (!body || !bank.getUp() || !bank.getDown())
    return problem("unsupported: its experts are regions, no feed-forward of a known formula");
  made.activation = activationOf(body->getActivation());
  if (!made.activation)
    return problem("unsupported activation " + body->getActivation());
  for (auto bind : {bank.getGate(), bank.getUp(), bank.getDown(), bank.getGateBias(),
                    bank.getUpBias(), bank.getDownBias()}) {
    if (!bind)
      continue;
    auto type = weights.type(*bind);
    if (!type)
      return type.takeError();
    if (!llvm::isa<mlir::FloatType>(type->getElementType()))
      return problem("unsupported: weight \"" + *bind + "\" holds no floats");
    made.rows = type->getDimSize(0);
  }
  return made;
}

// One row of axis 0; of a vector, a matrix of one row.
llvm::Expected<Rows> FfnBank::read(StringRef bind, int64_t row) {
  auto type = weights->type(bind);
  if (!type)
    return type.takeError();
  llvm::SmallVector<char, 0> bytes;
  if (llvm::Error error = weights->rows(bind, row, 1, bytes))
    return std::move(error);
  int64_t columns = type->getShape().back(), n = type->getRank() == 3 ? type->getDimSize(1) : 1;
  Rows out(n, columns);
  convertFloats(type->getElementType(), bytes.data(),
                mlir::Float32Type::get(op()->getContext()), reinterpret_cast<char *>(out.data()),
                n * columns);
  return out;
}

llvm::Expected<FfnSlab> FfnBank::slab(int64_t slab) {
  FfnSlab out;
  for (auto [bind, to] : {std::pair(bank.getGate(), &out.gate), {bank.getUp(), &out.up}}) {
    if (!bind)
      continue;
    auto matrix = read(*bind, slab);
    if (!matrix)
      return matrix.takeError();
    *to = std::move(*matrix);
  }
  for (auto [bind, to] :
       {std::pair(bank.getGateBias(), &out.gateBias), {bank.getUpBias(), &out.upBias}}) {
    if (!bind)
      continue;
    auto vector = read(*bind, slab);
    if (!vector)
      return vector.takeError();
    *to = vector->row(0);
  }
  return out;
}

llvm::Expected<Rows> FfnBank::down(int64_t slab) { return read(*bank.getDown(), slab); }

llvm::Expected<Eigen::RowVectorXf> FfnBank::downBias(int64_t slab) {
  if (!bank.getDownBias())
    return Eigen::RowVectorXf(Eigen::RowVectorXf::Zero(hidden()));
  auto vector = read(*bank.getDownBias(), slab);
  if (!vector)
    return vector.takeError();
  return Eigen::RowVectorXf(vector->row(0));
}

llvm::Expected<Eigen::RowVectorXf> FfnBank::constant(int64_t expert) {
  auto vector = read(*bank.getConstants(), bank.getConstant(expert));
  if (!vector)
    return vector.takeError();
  return Eigen::RowVectorXf(vector->row(0));
}

// The first `count` columns of `to` = x matrix^T.
static void multiplyRows(const Rows &x, const Rows &matrix, int64_t count, Rows &to) {
  constexpr int64_t part = 512;
  llvm::parallelFor(0, static_cast<size_t>((x.rows() + part - 1) / part), [&](size_t i) {
    int64_t first = static_cast<int64_t>(i) * part;
    denseKernels().multiply(x.data() + first * x.cols(), x.cols(), matrix.data(), matrix.cols(),
                            std::min(part, x.rows() - first), x.cols(), count,
                            to.data() + first * to.cols(), to.cols());
  });
}

Rows FfnBank::intermediate(const FfnSlab &slab, const Rows &x, int64_t width) const {
  moe::FfnAttr body = *op().getBody();
  float alpha = body.getActivation() == "swish" ? static_cast<float>(body.getAlpha()) : 1.0f;
  auto projected = [&](const Rows &matrix, const Eigen::RowVectorXf &bias) {
    Rows z = Rows::Zero(x.rows(), matrix.rows());
    multiplyRows(x, matrix, width, z);
    if (bias.size() > 0)
      z.rowwise() += bias;
    return z;
  };
  auto activate = [act = activation, alpha](float v) { return act(v, alpha); };
  Rows up = projected(slab.up, slab.upBias);
  auto limit = body.getLimit();
  if (limit)
    up = up.cwiseMax(static_cast<float>(-*limit)).cwiseMin(static_cast<float>(*limit));
  if (!body.getGated()) {
    up = up.unaryExpr(activate);
  } else {
    Rows gate = projected(slab.gate, slab.gateBias);
    if (limit)
      gate = gate.cwiseMin(static_cast<float>(*limit));
    float offset = static_cast<float>(body.getUpOffset());
    up = gate.unaryExpr(activate).cwiseProduct((up.array() + offset).matrix());
  }
  up.rightCols(up.cols() - width).setZero();
  return up;
}

llvm::Expected<Rows> FfnBank::apply(int64_t expert, const Rows &x) {
  StringRef storage = op().getExpertStorage(expert);
  if (storage == "identity")
    return x;
  if (storage == "zero")
    return Rows(Rows::Zero(x.rows(), hidden()));
  if (storage == "constant") {
    auto row = constant(expert);
    if (!row)
      return row.takeError();
    return Rows(row->replicate(x.rows(), 1));
  }
  if (storage != "dense")
    return problem("unsupported storage of an expert: " + storage);
  int64_t of = op().getSlab(expert);
  auto weights = slab(of);
  if (!weights)
    return weights.takeError();
  Rows h = intermediate(*weights, x, op().getWidth(expert));
  auto matrix = down(of);
  if (!matrix)
    return matrix.takeError();
  auto bias = downBias(of);
  if (!bias)
    return bias.takeError();
  Rows y(h.rows(), matrix->rows());
  multiplyRows(h, *matrix, matrix->rows(), y);
  y.rowwise() += *bias;
  return y;
}

Rows compress::takeRows(const Rows &from, llvm::ArrayRef<int32_t> index) {
  Rows out(static_cast<int64_t>(index.size()), from.cols());
  for (auto [i, row] : llvm::enumerate(index))
    out.row(static_cast<int64_t>(i)) = from.row(row);
  return out;
}

llvm::Expected<Rows> compress::applyLayer(FfnBank &bank, const Rows &x, const Picks &picks) {
  Rows y = Rows::Zero(x.rows(), bank.hidden());
  std::vector<std::vector<int32_t>> of(static_cast<size_t>(bank.experts()));
  for (size_t i = 0; i < picks.ids.size(); ++i)
    if (picks.ids[i] >= 0 && picks.weights[i] != 0)
      of[static_cast<size_t>(picks.ids[i])].push_back(static_cast<int32_t>(i));
  for (auto [e, slots] : llvm::enumerate(of)) {
    if (slots.empty())
      continue;
    std::vector<int32_t> tokens;
    for (int32_t slot : slots)
      tokens.push_back(slot / static_cast<int32_t>(picks.k));
    auto rows = bank.apply(static_cast<int64_t>(e), takeRows(x, tokens));
    if (!rows)
      return rows.takeError();
    for (auto [i, slot] : llvm::enumerate(slots))
      y.row(tokens[i]) +=
          picks.weights[static_cast<size_t>(slot)] * rows->row(static_cast<int64_t>(i));
  }
  return y;
}
