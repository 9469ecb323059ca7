#include "Layers.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Transforms/Raise/Passes.h"
#include "moec/Weights/Weights.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

#include <nlohmann/json.hpp>

using namespace moec;
using nlohmann::json;

namespace {

uint64_t bytesOf(mlir::Type type) {
  auto tensor = llvm::dyn_cast<mlir::RankedTensorType>(type);
  if (!tensor || !tensor.hasStaticShape())
    return 0;
  return uint64_t(tensor.getNumElements()) * uint64_t(elementBytes(tensor.getElementType()));
}

int64_t integer(mlir::Operation *op, llvm::StringRef name) {
  auto attr = op->getAttrOfType<mlir::IntegerAttr>(name);
  return attr ? attr.getInt() : 0;
}

// The op that chose the ids, behind ops that only change their form.
mlir::Operation *chooserOf(mlir::Value ids) {
  static constexpr llvm::StringLiteral views[] = {"onnx.Cast", "onnx.Reshape", "onnx.Identity",
                                                  "onnx.Squeeze", "onnx.Unsqueeze", "onnx.Flatten"};
  mlir::Operation *op = ids.getDefiningOp();
  while (op && llvm::is_contained(views, op->getName().getStringRef()))
    op = op->getOperand(0).getDefiningOp();
  return op;
}

RouterInfo describeRouter(mlir::Value ids) {
  RouterInfo info;
  if (auto type = llvm::dyn_cast<mlir::RankedTensorType>(ids.getType());
      type && type.getRank() == 2 && !type.isDynamicDim(1))
    info.k = type.getDimSize(1);
  mlir::Operation *op = chooserOf(ids);
  if (!op) {
    info.kind = "input";
    return info;
  }
  info.node = nodeOf(op).second;
  info.kind = op->getName().stripDialect().str();
  if (auto router = op->getAttrOfType<moe::RouterAttr>("router")) {
    info.score = moe::stringifyRouterScore(router.getScore()).str();
    info.renorm = moe::stringifyRouterRenorm(router.getRenorm()).str();
    info.k = router.getK();
    info.groups = router.getGroups();
    info.groupK = router.getGroupK();
    info.epsilon = router.getEpsilon();
    info.minimum = router.getMinimum();
    info.scale = router.getScale();
    info.bias = op->getNumOperands() > 1;
  }
  return info;
}

struct Describer {
  mlir::ModuleOp module;
  llvm::StringMap<uint64_t> binds;           // bytes
  llvm::StringMap<mlir::Operation *> banks;

  explicit Describer(mlir::ModuleOp module) : module(module) {
    module.walk([&](mlir::Operation *op) {
      auto name = op->getAttrOfType<mlir::StringAttr>("sym_name");
      if (name && op->getName().getStringRef() == "moe.weight.bind")
        binds[name.getValue()] = bytesOf(op->getOperand(0).getType());
      else if (name && op->getName().getStringRef() == "moe.bank")
        banks[name.getValue()] = op;
    });
  }

  LayerInfo layer(mlir::Operation *experts) {
    LayerInfo info;
    info.node = nodeName(experts->getLoc());
    if (auto pattern = experts->getAttrOfType<mlir::StringAttr>(patternAttr))
      info.pattern = pattern.str();
    if (auto bank = experts->getAttrOfType<mlir::FlatSymbolRefAttr>("bank")) {
      info.bank = bank.getValue().str();
      if (mlir::Operation *op = banks.lookup(bank.getValue()))
        describeBank(op, info);
    }
    auto op = mlir::dyn_cast<moe::ExpertsOp>(experts);
    if (!op) { // moe.merge_weights
      info.router = RouterInfo{};
      info.router->kind = "merged parameters";
      info.router->text = "one expert whose parameters are the experts' under weights";
      info.k = info.experts;
      return info;
    }
    if (op.getIds()) {
      info.router = describeRouter(op.getIds());
      info.k = info.router->k;
    } else if (op.getWeights()) {
      info.router = RouterInfo{};
      info.router->kind = "dense";
      info.k = info.experts;
    }
    if (info.router)
      info.router->text = routerText(op.getIds(), op.getWeights());
    if (auto kind = experts->getAttrOfType<mlir::StringAttr>(routerKindAttr); kind && info.router) {
      info.router->kind = kind.str();
      info.router->text = kind.str();
    }
    return info;
  }

  void describeBank(mlir::Operation *bank, LayerInfo &info) {
    info.experts = integer(bank, "experts");
    info.hidden = integer(bank, "hidden");
    info.inter = integer(bank, "inter");
    info.body = "region";
    if (auto ffn = bank->getAttrOfType<moe::FfnAttr>("body")) {
      info.body = "ffn";
      info.activation = ffn.getActivation().str();
      info.gated = ffn.getGated();
      info.alpha = ffn.getAlpha();
      info.limit = ffn.getLimit();
      info.upOffset = ffn.getUpOffset();
    }
    llvm::StringSet<> parameters; // of regions in lists, or read in them
    bank->walk([&](mlir::Operation *op) {
      for (mlir::NamedAttribute attr : op->getAttrs())
        attr.getValue().walk([&](mlir::FlatSymbolRefAttr ref) {
          parameters.insert(ref.getValue());
          info.biases |= attr.getName().strref().ends_with("_bias");
        });
    });
    for (llvm::StringRef name : parameters.keys())
      info.parameterBytes += binds.lookup(name);
  }
};

json routerToJson(const RouterInfo &r) {
  json j{{"kind", r.kind}, {"k", r.k}, {"node", r.node}, {"text", r.text}};
  if (r.score.empty())
    return j;
  j.update({{"score", r.score}, {"renorm", r.renorm}, {"scale", r.scale}, {"bias", r.bias}});
  if (r.epsilon != 0)
    j["epsilon"] = r.epsilon;
  if (r.minimum != 0)
    j["minimum"] = r.minimum;
  if (r.groups > 1)
    j.update({{"groups", r.groups}, {"group_k", r.groupK}});
  return j;
}

} // namespace

llvm::Expected<ModelInfo> moec::describeModel(const Model &model) {
  auto main = model.module().lookupSymbol<mlir::func::FuncOp>("main");
  auto signature = model.signature();
  if (!signature)
    return signature.takeError();
  ModelInfo info;
  info.signature = std::move(*signature);
  Describer describer(model.module());
  main.walk([&](mlir::Operation *op) {
    llvm::StringRef name = op->getName().getStringRef();
    if (op == main.getOperation() || name == "func.return" || name == "onnx.none" ||
        name == "moe.weight.use" || name == "onnx.Constant")
      return;
    auto custom = op->getAttrOfType<mlir::StringAttr>("op_type");
    ++info.operators[custom ? custom.str() : name.str()];
    if (name == "moe.experts" || name == "moe.merge_weights")
      info.layers.push_back(describer.layer(op));
  });
  for (const auto &bind : describer.binds) {
    ++info.weights;
    info.weightBytes += bind.second;
  }
  for (const Message &message : model.remarks())
    if (!message.kind.empty())
      info.notRaised.push_back(message);
  return info;
}

json moec::layersToJson(const ModelInfo &info) {
  json layers = json::array();
  for (const LayerInfo &l : info.layers) {
    json j{{"node", l.node}, {"bank", l.bank}, {"experts", l.experts}, {"k", l.k},
           {"hidden", l.hidden}, {"inter", l.inter}, {"body", l.body},
           {"parameter_bytes", l.parameterBytes}, {"biases", l.biases},
           {"shared", !l.router.has_value()}};
    if (l.body == "ffn")
      j.update({{"activation", l.activation}, {"gated", l.gated}});
    if (l.alpha != 1)
      j["alpha"] = l.alpha;
    if (l.limit)
      j["limit"] = *l.limit;
    if (l.upOffset != 0)
      j["up_offset"] = l.upOffset;
    if (!l.pattern.empty())
      j["pattern"] = l.pattern;
    j["router"] = l.router ? routerToJson(*l.router) : json();
    layers.push_back(std::move(j));
  }
  return layers;
}

json moec::notRaisedToJson(const ModelInfo &info) {
  json refused = json::array();
  for (const Message &m : info.notRaised)
    refused.push_back({{"node", m.node}, {"op", m.op}, {"reason", m.text}});
  return refused;
}
