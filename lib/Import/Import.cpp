#include "moec/Import/Import.h"
#include "Context.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <climits>
#include <map>
#include <new>

using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

static constexpr int64_t kOldest = 7, kNewest = 28;

// Whether some operator's meaning depends on the opset of the default domain.
static bool usesDefaultDomain(::onnx::ModelProto &model) {
  bool found = model.functions_size() > 0;
  forEachGraph(*model.mutable_graph(), [&](::onnx::GraphProto &graph) {
    for (const ::onnx::NodeProto &node : graph.node())
      found |= isDefaultDomain(node.domain());
  });
  return found;
}

// The opset of the default domain, or errors.
static void checkOpset(Context &context, ::onnx::ModelProto &model) {
  std::map<std::string, int64_t> versions;
  for (::onnx::OperatorSetIdProto &opset : *model.mutable_opset_import()) {
    if (isDefaultDomain(opset.domain()))
      opset.set_domain("");
    auto [it, fresh] = versions.try_emplace(opset.domain(), opset.version());
    if (!fresh && it->second != opset.version())
      context.error("the operators of domain \"" + brief(opset.domain()) +
                    "\" are imported twice, in versions " + llvm::Twine(it->second) + " and " +
                    llvm::Twine(opset.version()));
  }
  auto found = versions.find("");
  if (found == versions.end() && usesDefaultDomain(model))
    return context.error("the model does not say which version of ONNX's operators it uses");
  if (found == versions.end()) { // for the nodes that the importer may make
    model.add_opset_import()->set_version(kNewest);
    return;
  }
  int64_t version = found->second;
  if (version < 1)
    return context.error("opset " + llvm::Twine(version) + " does not exist");
  // Of older versions those operators are taken that have not changed since.
  bool old = version < kOldest && needsConversion(model, static_cast<int>(version));
  if (old || version > kNewest)
    context.error("opset " + llvm::Twine(version) + " is unsupported; " + llvm::Twine(kOldest) +
                  " to " + llvm::Twine(kNewest) + " are");
}

// The message without tensors; an empty one after errors.
static ::onnx::ModelProto readModel(Context &context) {
  ::onnx::ModelProto model;
  StringRef text(reinterpret_cast<const char *>(context.bytes.data()), context.bytes.size());
  if (text.empty()) {
    context.error("the file is empty");
    return model;
  }
  std::string error;
  std::optional<Skimmed> skimmed = skim(context.bytes, error);
  if (!skimmed) {
    StringRef format = foreignFormat(text);
    context.error(format.empty() ? error : "is " + format.str());
    return model;
  }
  context.sources = std::move(skimmed->sources);
  if (!model.ParseFromString(skimmed->message) || !model.has_ir_version())
    context.error("not an ONNX file, or damaged");
  else if (!model.has_graph())
    context.error("the model has no graph");
  else if (skimmed->sparse)
    context.error("sparse tensors are unsupported");
  return model;
}

static mlir::OwningOpRef<mlir::ModuleOp> import(Context &context) {
  ::onnx::ModelProto model = readModel(context);
  if (!context.errors)
    checkOpset(context, model);
  if (context.errors)
    return nullptr;
  // What older versions of the format lack is made up for above; the library wants a recent one.
  model.set_ir_version(::onnx::IR_VERSION);
  for (auto step : {normalise, check, expandStandard, convert, expand, infer}) {
    step(context, model);
    if (context.errors)
      return nullptr;
  }
  mlir::OwningOpRef<mlir::ModuleOp> module = emit(context, model);
  if (!module || mlir::failed(mlir::verify(*module)))
    return nullptr;
  contradictions(context, *module);
  return context.errors ? nullptr : std::move(module);
}

mlir::OwningOpRef<mlir::ModuleOp> moec::importOnnx(StringRef path, mlir::MLIRContext &mlir) {
  mlir.loadDialect<moec::onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
  Context context(mlir, llvm::sys::path::parent_path(path), llvm::sys::path::filename(path));
  // Reading a pipe or a device could last for ever.
  llvm::sys::fs::file_status status;
  if (!llvm::sys::fs::status(path, status) && !llvm::sys::fs::is_regular_file(status)) {
    context.error("is no regular file");
    return nullptr;
  }
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer) {
    context.error("cannot be read: " + buffer.getError().message());
    return nullptr;
  }
  StringRef text = (*buffer)->getBuffer();
  context.bytes = {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
  try {
    return import(context);
  } catch (const std::bad_alloc &) {
    context.error("needs more memory than there is");
  } catch (const std::exception &e) {
    context.error(e.what());
  }
  return nullptr;
}
