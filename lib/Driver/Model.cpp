#include "moec/Driver/Model.h"

#include "moec/Driver/Register.h"
#include "moec/Import/Import.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <mutex>

using namespace moec;
using llvm::StringRef;

std::string moec::nodeName(mlir::Location location) {
  if (auto named = llvm::dyn_cast<mlir::NameLoc>(location))
    return named.getName().str();
  if (auto position = llvm::dyn_cast<mlir::FileLineColLoc>(location))
    return llvm::sys::path::filename(position.getFilename().strref()).str() + ":" +
           std::to_string(position.getLine());
  if (auto fused = llvm::dyn_cast<mlir::FusedLoc>(location))
    for (mlir::Location part : fused.getLocations())
      if (std::string name = nodeName(part); !name.empty())
        return name;
  if (auto call = llvm::dyn_cast<mlir::CallSiteLoc>(location))
    return nodeName(call.getCallee());
  return "";
}

std::pair<std::string, std::string> moec::nodeOf(mlir::Operation *op) {
  std::string type = op->getName().stripDialect().str();
  if (auto custom = op->getAttrOfType<mlir::StringAttr>("op_type"))
    type = custom.str();
  return {type, nodeName(op->getLoc())};
}

std::string Message::line(StringRef file) const {
  std::string text;
  if (!file.empty() && !StringRef(this->text).starts_with(file))
    text = file.str() + ": ";
  if (!node.empty())
    text += "node \"" + node + "\"";
  if (!op.empty())
    text += (node.empty() ? "node (" : " (") + op + ")";
  return text + (node.empty() && op.empty() ? "" : ": ") + this->text;
}

// MLIR writes `'onnx.TopK' op k must ...`: the operator goes to its own field.
static Message toMessage(mlir::Diagnostic &diagnostic) {
  Message message{nodeName(diagnostic.getLocation()), "", diagnostic.str()};
  for (const mlir::DiagnosticArgument &argument : diagnostic.getMetadata())
    if (argument.getKind() == mlir::DiagnosticArgument::DiagnosticArgumentKind::String)
      message.kind = argument.getAsString().str();
  StringRef text = message.text;
  if (text.consume_front("'")) {
    auto [op, rest] = text.split("' op ");
    if (!rest.empty() && !op.contains(' ')) {
      message.op = op.rsplit('.').second.str();
      message.text = rest.str();
    }
  }
  std::replace(message.text.begin(), message.text.end(), '\n', ' ');
  return message;
}

static std::shared_ptr<mlir::MLIRContext> makeContext() {
  static std::once_flag once;
  std::call_once(once, registerPasses);
  mlir::DialectRegistry registry;
  registerDialects(registry);
  auto context =
      std::make_shared<mlir::MLIRContext>(registry, mlir::MLIRContext::Threading::DISABLED);
  context->loadAllAvailableDialects();
  return context;
}

Model::Model(StringRef path, StringRef folder, std::shared_ptr<mlir::MLIRContext> shared)
    : file(path.str()), base(folder.str()), context(shared ? std::move(shared) : makeContext()) {
  if (base.empty())
    base = llvm::sys::path::parent_path(path).str();
  if (base.empty())
    base = ".";
  handler = std::make_unique<mlir::ScopedDiagnosticHandler>(
      context.get(), [this](mlir::Diagnostic &diagnostic) {
        bool error = diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error;
        (error ? errors : said).push_back(toMessage(diagnostic));
        return mlir::success();
      });
}

Model::~Model() = default;

std::unique_ptr<Model> Model::clone(bool remarks) const {
  std::unique_ptr<Model> copy(new Model(file, base, context));
  copy->ir = module().clone();
  if (remarks)
    copy->said = said;
  return copy;
}

llvm::Error Model::takeErrors(StringRef otherwise) {
  std::string text;
  bool unsupported = false;
  std::vector<std::string> seen;
  for (const Message &message : errors) {
    std::string line = message.line(file);
    if (llvm::is_contained(seen, line))
      continue;
    seen.push_back(line);
    unsupported |= StringRef(message.text).contains_insensitive("unsupported");
    text += (text.empty() ? "" : "\n") + line;
  }
  errors.clear();
  if (text.empty())
    return fail(Exit::internal, file + ": " + otherwise);
  return fail(unsupported ? Exit::unsupported : Exit::input, text);
}

llvm::Expected<std::unique_ptr<Model>> Model::load(StringRef path, StringRef folder) {
  if (!llvm::sys::fs::exists(path))
    return fail(Exit::input, path + ": no such file");
  if (llvm::sys::fs::is_directory(path))
    return fail(Exit::input, path + ": is a folder, not a model file");
  std::unique_ptr<Model> model(new Model(path, folder));
  if (path.ends_with(".mlir"))
    model->ir = mlir::parseSourceFile<mlir::ModuleOp>(path, model->context.get());
  else
    model->ir = importOnnx(path, *model->context);
  if (!model->ir)
    return model->takeErrors("cannot be read");
  return model;
}

llvm::Error Model::runPipeline(StringRef pipeline) {
  mlir::PassManager manager(context.get());
  std::string problem;
  llvm::raw_string_ostream os(problem);
  if (mlir::failed(mlir::parsePassPipeline(pipeline, manager, os)))
    return fail(Exit::internal, "pipeline '" + pipeline + "': " + os.str());
  manager.enableVerifier(true);
  if (mlir::failed(manager.run(*ir)))
    return takeErrors("a pass failed");
  return llvm::Error::success();
}

llvm::Error Model::raise(int level, StringRef semantics) {
  std::string pipeline = "canonicalize,cse,refine-shapes,decompose-contrib,decompose-ml,decompose-onnx,fold-weights";
  std::string meaning = ("semantics=" + semantics).str();
  if (level == 0)
    pipeline += ",raise-moe{nodes-only=true " + meaning + "}";
  else
    pipeline += ",raise-moe{" + meaning + "},canonicalize,cse,share-experts{banks-only=" +
                (level > 1 ? "false" : "true") + "},fuse-gating,canonicalize,cse";
  return runPipeline(pipeline);
}

llvm::Error Model::finish(int level, bool decomposeQuantised) {
  std::string pipeline;
  if (level > 1)
    pipeline += ",fuse-attention,canonicalize,cse";
  if (decomposeQuantised)
    pipeline += ",decompose-quantised";
  if (level > 0)
    pipeline += ",fold-weights";
  return pipeline.empty() ? llvm::Error::success() : runPipeline(pipeline.substr(1));
}

llvm::Error Model::optimise(int level, StringRef semantics, bool decomposeQuantised) {
  if (llvm::Error error = raise(level, semantics))
    return error;
  return finish(level, decomposeQuantised);
}

static std::optional<DType> dtypeOf(mlir::Type type) {
  if (type.isF32()) return DType::f32;
  if (type.isF16()) return DType::f16;
  if (type.isBF16()) return DType::bf16;
  if (type.isF64()) return DType::f64;
  if (llvm::isa<mlir::Float8E4M3FNType>(type)) return DType::f8e4m3fn;
  if (llvm::isa<mlir::Float8E4M3FNUZType>(type)) return DType::f8e4m3fnuz;
  if (llvm::isa<mlir::Float8E5M2Type>(type)) return DType::f8e5m2;
  if (llvm::isa<mlir::Float8E5M2FNUZType>(type)) return DType::f8e5m2fnuz;
  if (llvm::isa<mlir::Float4E2M1FNType>(type)) return DType::f4e2m1;
  if (llvm::isa<mlir::Float8E8M0FNUType>(type)) return DType::f8e8m0;
  auto integer = llvm::dyn_cast<mlir::IntegerType>(type);
  if (!integer)
    return std::nullopt;
  bool isUnsigned = integer.isUnsigned();
  switch (integer.getWidth()) {
  case 1: return DType::boolean;
  case 2: return isUnsigned ? DType::u2 : DType::i2;
  case 4: return isUnsigned ? DType::u4 : DType::i4;
  case 8: return isUnsigned ? DType::u8 : DType::i8;
  case 16: return isUnsigned ? DType::u16 : DType::i16;
  case 32: return isUnsigned ? DType::u32 : DType::i32;
  case 64: return isUnsigned ? DType::u64 : DType::i64;
  default: return std::nullopt;
  }
}

static llvm::Expected<ValueInfo> valueInfo(mlir::Type type, mlir::DictionaryAttr attributes,
                                           std::string name) {
  ValueInfo info;
  if (auto given = attributes ? attributes.getAs<mlir::StringAttr>("onnx.name") : nullptr)
    name = given.str();
  info.name = name;
  auto shaped = llvm::dyn_cast<mlir::ShapedType>(type);
  auto dtype = shaped ? dtypeOf(shaped.getElementType()) : std::nullopt;
  if (!dtype) {
    std::string text;
    llvm::raw_string_ostream(text) << type;
    return fail(Exit::unsupported, "\"" + name + "\": unsupported type " + text);
  }
  info.type = *dtype;
  if (!shaped.hasRank())
    return fail(Exit::unsupported, "\"" + name + "\": unsupported tensor of unknown rank");
  for (int64_t d : shaped.getShape())
    info.dims.push_back(mlir::ShapedType::isDynamic(d) ? "?" : std::to_string(d));
  auto dims = attributes ? attributes.getAs<mlir::ArrayAttr>("onnx.dims") : nullptr;
  if (dims && dims.size() == info.dims.size())
    for (auto [dim, attr] : llvm::zip(info.dims, dims))
      if (auto text = llvm::dyn_cast<mlir::StringAttr>(attr); text && dim == "?" && !text.empty())
        dim = text.str();
  return info;
}

llvm::Expected<Signature> Model::signature() const {
  auto main = module().lookupSymbol<mlir::func::FuncOp>("main");
  if (!main)
    return fail(Exit::input, file + ": no function @main");
  Signature signature;
  for (auto [i, type] : llvm::enumerate(main.getArgumentTypes())) {
    auto info = valueInfo(type, main.getArgAttrDict(i), "input_" + std::to_string(i));
    if (!info)
      return fail(Exit::unsupported, file + ": input " + llvm::toString(info.takeError()));
    signature.inputs.push_back(std::move(*info));
  }
  for (auto [i, type] : llvm::enumerate(main.getResultTypes())) {
    auto info = valueInfo(type, main.getResultAttrDict(i), "output_" + std::to_string(i));
    if (!info)
      return fail(Exit::unsupported, file + ": output " + llvm::toString(info.takeError()));
    signature.outputs.push_back(std::move(*info));
  }
  return signature;
}

void moec::addOutputs(mlir::ModuleOp module, llvm::ArrayRef<mlir::Value> values,
                      llvm::ArrayRef<std::string> names) {
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  if (!main || values.empty())
    return;
  mlir::Operation *terminator = main.front().getTerminator();
  llvm::SmallVector<mlir::Value> operands(terminator->getOperands());
  operands.append(values.begin(), values.end());
  unsigned first = main.getNumResults();
  terminator->setOperands(operands);
  llvm::SmallVector<mlir::Type> types(mlir::ValueRange(operands).getTypes());
  llvm::SmallVector<mlir::DictionaryAttr> attributes;
  main.getAllResultAttrs(attributes);
  mlir::Builder builder(module.getContext());
  attributes.resize(first, builder.getDictionaryAttr({}));
  for (const std::string &name : names)
    attributes.push_back(builder.getDictionaryAttr(
        builder.getNamedAttr("onnx.name", builder.getStringAttr(name))));
  main.setType(builder.getFunctionType(main.getArgumentTypes(), types));
  main.setAllResultAttrs(attributes);
}
