#include "Lint.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Weights/Weights.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/xxhash.h"

#include <cmath>
#include <map>

using namespace moec;

namespace {

std::string list(llvm::ArrayRef<int64_t> numbers) {
  std::string text;
  for (auto [i, n] : llvm::enumerate(numbers))
    text += (i == 0 ? "" : i + 1 == numbers.size() ? " and " : ", ") + std::to_string(n);
  return text;
}

struct WeightLint {
  Findings &findings;
  WeightEvaluator evaluator;
  llvm::StringMap<std::vector<uint64_t>> hashes;  // of each row of axis 0
  llvm::StringMap<std::vector<uint64_t>> columns; // of each column, of matrices named here

  WeightLint(const Model &model, Findings &findings)
      : findings(findings), evaluator(model.module(), model.folder()) {}

  void add(Finding::Severity severity, llvm::StringRef check, mlir::Operation *op,
           const llvm::Twine &text) {
    addFinding(findings, severity, check, op, text);
  }

  llvm::Error scan(moe::WeightBindOp bind);
  void findTied(moe::BankOp bank);
  void findEqualColumns(mlir::Operation *router, llvm::ArrayRef<uint64_t> experts);
};

// Goes on with the hash of each column of a matrix by a row of it.
void addRow(llvm::ArrayRef<char> row, std::vector<uint64_t> &hashes) {
  size_t size = hashes.empty() ? 0 : row.size() / hashes.size();
  llvm::SmallVector<uint8_t> both;
  for (size_t c = 0; c < hashes.size(); ++c) {
    both.assign(reinterpret_cast<const uint8_t *>(&hashes[c]),
                reinterpret_cast<const uint8_t *>(&hashes[c] + 1));
    both.append(row.begin() + c * size, row.begin() + (c + 1) * size);
    hashes[c] = llvm::xxh3_64bits(both);
  }
}

// NaN and infinite numbers, and a hash for each row, of routers for each column.
llvm::Error WeightLint::scan(moe::WeightBindOp bind) {
  auto type = evaluator.type(bind.getSymName());
  if (!type)
    return type.takeError();
  int64_t rows = type->getRank() == 0 ? 1 : type->getDimSize(0);
  std::vector<uint64_t> &hash = hashes[bind.getSymName()];
  auto router = columns.find(bind.getSymName());
  if (router != columns.end() && type->getRank() == 2)
    router->second.assign(size_t(type->getDimSize(1)), 0);
  llvm::SmallVector<char> bytes, floats;
  auto f32 = mlir::Float32Type::get(bind.getContext());
  bool isFloat = llvm::isa<mlir::FloatType>(type->getElementType());
  int64_t nan = 0, infinite = 0, first = -1;
  for (int64_t row = 0; row < rows; ++row) {
    if (llvm::Error error = evaluator.rows(bind.getSymName(), row, 1, bytes))
      return error;
    hash.push_back(llvm::xxh3_64bits({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}));
    if (router != columns.end())
      addRow(bytes, router->second);
    if (!isFloat)
      continue;
    int64_t count = int64_t(bytes.size()) / elementBytes(type->getElementType());
    floats.resize(size_t(count) * 4);
    convertElements(type->getElementType(), bytes.data(), f32, floats.data(), count);
    auto *values = reinterpret_cast<const float *>(floats.data());
    for (int64_t i = 0; i < count; ++i)
      if (!std::isfinite(values[i])) {
        (std::isnan(values[i]) ? nan : infinite) += 1;
        first = first < 0 ? row : first;
      }
  }
  if (nan)
    add(Finding::warning, "non-finite-weight", bind,
        llvm::formatv("weight \"{0}\" holds {1} NaN{2}, the first in row {3} of axis 0",
                      bind.getSymName(), nan,
                      infinite ? llvm::formatv(" and {0} infinities", infinite).str() : "", first));
  else if (infinite) // masks are made of them
    add(Finding::note, "non-finite-weight", bind,
        llvm::formatv("weight \"{0}\" holds {1} infinities, the first in row {2} of axis 0",
                      bind.getSymName(), infinite, first));
  return llvm::Error::success();
}

// Experts of one bank whose parameters are the same numbers.
void WeightLint::findTied(moe::BankOp bank) {
  std::vector<std::string> parameters;
  for (mlir::NamedAttribute attr : bank->getAttrs())
    attr.getValue().walk([&](mlir::FlatSymbolRefAttr ref) { parameters.push_back(ref.getValue().str()); });
  std::map<std::vector<uint64_t>, std::vector<int64_t>> equal;
  for (int64_t e = 0; e < bank.getExperts(); ++e) {
    int64_t slab = bank.getSlab(e);
    if (slab < 0)
      continue;
    std::vector<uint64_t> key;
    for (const std::string &name : parameters)
      if (auto it = hashes.find(name); it != hashes.end() && size_t(slab) < it->second.size())
        key.push_back(it->second[size_t(slab)]);
    if (!key.empty())
      equal[key].push_back(e);
  }
  std::map<int64_t, std::vector<int64_t>> groups; // in order of their first expert
  for (auto &[key, experts] : equal)
    if (experts.size() > 1)
      groups[experts.front()] = experts;
  for (auto &[first, experts] : groups)
    add(Finding::warning, "tied-experts", bank,
        "bank @" + bank.getSymName() + ": experts " + list(experts) +
            " have the same parameters; one of them would do");
}

// A router whose columns for two experts are equal always ties, and the lower id wins.
void WeightLint::findEqualColumns(mlir::Operation *router, llvm::ArrayRef<uint64_t> experts) {
  std::map<uint64_t, size_t> known;
  std::vector<std::vector<int64_t>> groups; // in order of their first expert
  for (auto [e, hash] : llvm::enumerate(experts)) {
    size_t group = known.insert({hash, groups.size()}).first->second;
    groups.resize(std::max(groups.size(), group + 1));
    groups[group].push_back(int64_t(e));
  }
  for (const std::vector<int64_t> &tied : groups)
    if (tied.size() > 1)
      add(Finding::warning, "equal-router-columns", router,
          "the router gives experts " + list(tied) +
              " the same score for every token: ties go to the lower id, the others may never run");
}

// The weight that logits are the product with, behind casts, reshapes and an added bias.
std::pair<moe::WeightUseOp, bool> routerWeight(mlir::Value logits) {
  for (mlir::Operation *op = logits.getDefiningOp(); op; op = op->getOperand(0).getDefiningOp()) {
    llvm::StringRef name = op->getName().getStringRef();
    if (name == "onnx.MatMul" || name == "onnx.Gemm") {
      auto flag = op->getAttrOfType<mlir::IntegerAttr>("transB");
      bool transposed = flag && flag.getInt();
      mlir::Operation *weight = op->getOperand(1).getDefiningOp();
      while (weight && weight->getName().getStringRef() == "onnx.Transpose") {
        transposed = !transposed;
        weight = weight->getOperand(0).getDefiningOp();
      }
      return {llvm::dyn_cast_or_null<moe::WeightUseOp>(weight), !transposed};
    }
    if (name != "onnx.Cast" && name != "onnx.Reshape" && name != "onnx.Identity" &&
        name != "onnx.Softmax" && name != "onnx.Sigmoid" && name != "onnx.Add")
      break;
  }
  return {nullptr, false};
}

} // namespace

llvm::Error moec::lintWeights(const Model &model, Findings &findings) {
  WeightLint lint(model, findings);
  mlir::ModuleOp module = model.module();
  struct Router {
    mlir::Operation *op;
    llvm::StringRef weight;
    bool columns; // the experts are columns of the matrix, else rows
  };
  llvm::SmallVector<Router> routers;
  module.walk([&](mlir::Operation *op) {
    if (!llvm::isa<moe::RouteOp, moe::SelectOp>(op))
      return;
    auto [use, columns] = routerWeight(op->getOperand(0));
    auto name = use ? use->getAttrOfType<mlir::FlatSymbolRefAttr>("weight") : nullptr;
    auto type = use ? llvm::dyn_cast<mlir::RankedTensorType>(use->getResult(0).getType()) : nullptr;
    if (!name || !type || type.getRank() != 2)
      return;
    routers.push_back({op, name.getValue(), columns});
    if (columns)
      lint.columns[name.getValue()];
  });
  llvm::SmallVector<moe::WeightBindOp> binds;
  module.walk([&](moe::WeightBindOp bind) { binds.push_back(bind); });
  for (moe::WeightBindOp bind : binds)
    if (llvm::Error error = lint.scan(bind))
      return error;
  module.walk([&](moe::BankOp bank) { lint.findTied(bank); });
  for (const Router &router : routers)
    lint.findEqualColumns(router.op, router.columns ? lint.columns[router.weight]
                                                    : lint.hashes[router.weight]);
  return llvm::Error::success();
}
