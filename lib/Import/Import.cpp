#include "moec/Import/Import.h"
#include "Context.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <climits>
#include <new>

using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

static constexpr int64_t kOldest = 11, kNewest = 26;

// The opset of the default domain, or errors.
static void checkOpset(Context &context, ::onnx::ModelProto &model) {
  int64_t version = 0;
  for (::onnx::OperatorSetIdProto &opset : *model.mutable_opset_import())
    if (isDefaultDomain(opset.domain())) {
      version = opset.version();
      opset.set_domain("");
    }
  if (version == 0)
    return context.error("the model does not say which version of ONNX's operators it uses");
  if (version < kOldest || version > kNewest)
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
  if (text.size() <= 1024 && text.starts_with("version https://git-lfs.github.com/spec/")) {
    context.error("is a Git LFS pointer, not the data: run git lfs pull");
    return model;
  }
  std::string error;
  std::optional<Skimmed> skimmed = skim(context.bytes, error);
  if (!skimmed) {
    context.error(error);
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
  for (auto step : {normalise, check, convert, infer}) {
    step(context, model);
    if (context.errors)
      return nullptr;
  }
  mlir::OwningOpRef<mlir::ModuleOp> module = emit(context, model);
  if (module && mlir::failed(mlir::verify(*module)))
    return nullptr;
  return module;
}

mlir::OwningOpRef<mlir::ModuleOp> moec::importOnnx(StringRef path, mlir::MLIRContext &mlir) {
  mlir.loadDialect<moec::onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
  Context context(mlir, llvm::sys::path::parent_path(path), llvm::sys::path::filename(path));
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
