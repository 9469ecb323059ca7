#include "Compiled.h"
#include "Codegen/Link/Parts.h"
#include "moec/Codegen/CPU/CPU.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
extern "C" {
#include "context.h"
typedef void (*test_body)(moert_ctx *ctx, void *arg);
moert_ctx *test_context_create(int threads, int64_t spin_us);
void test_context_release(moert_ctx *ctx);
uint64_t test_context_peak(moert_ctx *ctx);
moert_status test_context_run(moert_ctx *ctx, test_body body, void *arg, moert_error *error);
}

namespace moec::host::test {

using reference::Array;
using reference::test::toArray;
using reference::test::toNumbers;

namespace {

/// A module with the dialects it needs.
struct Parsed {
  mlir::MLIRContext context;
  std::string messages;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  explicit Parsed(const std::string &ir) {
    context.loadDialect<onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
    context.getDiagEngine().registerHandler(
        [this](mlir::Diagnostic &d) { messages += d.str() + "\n"; });
    module = mlir::parseSourceString<mlir::ModuleOp>(ir, &context);
    if (!module)
      ADD_FAILURE() << messages << ir;
  }
};

/// The object of a host program and its kernels, loaded into this process.
struct Loaded {
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::vector<moert_kernel> kernels;
  moert_entry entry = nullptr;

  llvm::Error add(llvm::StringRef object, const std::string &name) {
    return jit->addObjectFile(llvm::MemoryBuffer::getMemBufferCopy(object, name));
  }
  llvm::Error load(const HostResult &result) {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    auto made = llvm::orc::LLJITBuilder().create();
    if (!made)
      return made.takeError();
    jit = std::move(*made);
    auto process = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
        jit->getDataLayout().getGlobalPrefix());
    if (!process)
      return process.takeError();
    jit->getMainJITDylib().addGenerator(std::move(*process));
    if (auto error = add({result.object.data(), result.object.size()}, "host"))
      return error;
    cpu::CpuOptions options;
    options.isas = {"avx2"};
    auto objects = cpu::compileKernels(result.program.kernels, options);
    if (!objects)
      return objects.takeError();
    kernels.resize(result.program.kernels.size());
    for (const cpu::KernelObject &k : *objects)
      if (auto error = add(k.object, k.symbol))
        return error;
    for (const cpu::KernelObject &k : *objects) {
      auto address = jit->lookup(k.symbol);
      if (!address)
        return address.takeError();
      kernels[k.slot] = address->toPtr<moert_kernel>();
    }
    auto address = jit->lookup("moe_main");
    if (!address)
      return address.takeError();
    entry = address->toPtr<moert_entry>();
    return llvm::Error::success();
  }
};

/// The weights of a program, packed as for its library.
struct Weights {
  std::vector<std::vector<char>> slabs;
  std::vector<void *> table;

  std::string pack(const std::string &ir, const Program &program) {
    Parsed parsed(ir);
    WeightEvaluator evaluator(*parsed.module, ".");
    link::Packer packer(evaluator, &parsed.context);
    for (const WeightEntry &entry : program.weights) {
      auto bytes = packer.bytes(entry);
      if (!bytes)
        return llvm::toString(bytes.takeError());
      // Aligned, and with a margin that tells reads beyond the end apart from zeros.
      std::vector<char> &slab = slabs.emplace_back(*bytes + 128, '\x7f');
      char *start = slab.data() + (64 - reinterpret_cast<uintptr_t>(slab.data()) % 64) % 64;
      table.push_back(start);
      auto sink = [&](uint64_t offset, llvm::ArrayRef<char> part) {
        std::copy(part.begin(), part.end(), start + offset);
        return llvm::Error::success();
      };
      if (llvm::Error error = packer.pack(entry, sink))
        return llvm::toString(std::move(error));
    }
    return "";
  }
};

struct Run {
  Loaded *loaded;
  const HostResult *result;
  std::vector<Array> inputs, outputs;
};

const std::pair<const char *, int> codes[] = {
    {"f32", 1}, {"ui8", 2},  {"i8", 3},   {"ui16", 4},  {"i16", 5},   {"i32", 6},  {"i64", 7},
    {"i1", 9},  {"f16", 10}, {"f64", 11}, {"ui32", 12}, {"ui64", 13}, {"bf16", 16},
    {"f8E4M3FN", 17}, {"f8E4M3FNUZ", 18}, {"f8E5M2", 19}, {"f8E5M2FNUZ", 20}, {"ui4", 21},
    {"i4", 22}, {"f4E2M1FN", 23}, {"f8E8M0FNU", 24}, {"ui2", 25}, {"i2", 26}};
size_t bytesOf(int code) {
  return code == 2 || code == 3 || code == 9 || code > 16     ? 1
         : code == 4 || code == 5 || code == 10 || code == 16 ? 2
         : code == 7 || code == 11 || code == 13              ? 8
                                                              : 4;
}

void execute(moert_ctx *ctx, void *arg) {
  Run &run = *static_cast<Run *>(arg);
  std::vector<moert_buffer> buffers(run.inputs.size() + run.result->program.outputs.size());
  for (size_t i = 0; i < run.inputs.size(); ++i) {
    buffers[i].data = run.inputs[i].data.data();
    std::copy(run.inputs[i].shape.begin(), run.inputs[i].shape.end(), buffers[i].dims);
  }
  run.loaded->entry(ctx, buffers.data());
  for (size_t i = 0; i < run.result->program.outputs.size(); ++i) {
    const SignatureEntry &s = run.result->program.outputs[i];
    const moert_buffer &b = buffers[run.inputs.size() + i];
    Array a;
    for (auto [name, code] : codes)
      if (s.dtype == name)
        a.type = code;
    a.shape.assign(b.dims, b.dims + s.dims.size());
    size_t count = 1;
    for (int64_t d : a.shape)
      count *= static_cast<size_t>(d);
    const char *data = static_cast<const char *>(b.data);
    a.data.assign(data, data + count * bytesOf(a.type));
    run.outputs.push_back(std::move(a));
  }
}

std::string tensorType(const Numbers &n, bool dynamic) {
  if (n.type == "none")
    return "none";
  std::string text = "tensor<";
  for (int64_t d : n.shape)
    text += (dynamic ? "?" : std::to_string(d)) + "x";
  return text + n.type + ">";
}

/// Elements of dense<...>, from dimension `depth` on.
std::string literal(const Numbers &n, size_t depth, size_t &next) {
  if (depth == n.shape.size()) {
    double v = n.values[next++];
    bool real = n.type[0] == 'f' || n.type[0] == 'b';
    return n.type == "i1" ? (v != 0 ? "true" : "false")
           : real         ? llvm::formatv("{0:E17}", v).str()
                          : std::to_string(static_cast<int64_t>(v));
  }
  std::string list;
  for (int64_t i = 0; i < n.shape[depth]; ++i)
    list += (i ? ", " : "") + literal(n, depth + 1, next);
  return "[" + list + "]";
}

/// The IR of an op whose results have the types of `results`; "none" is not wanted.
std::string opModule(const OpCase &op, const std::vector<Numbers> &results, bool dynamic,
                     std::vector<Numbers> &given) {
  std::string parameters, body, operands, types, outs, returned, returnedTypes;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const Numbers &n = op.inputs[i];
    bool constant = llvm::is_contained(op.constants, i);
    std::string type = tensorType(n, dynamic && !constant), comma = i ? ", " : "";
    types += comma + type;
    std::string value = "%a" + std::to_string(i);
    operands += comma + (n.type == "none" ? "%none" : value);
    if (constant) {
      size_t next = 0;
      std::string elements = n.values.empty() ? "" : literal(n, 0, next);
      body += "  " + value + " = onnx.Constant {value = dense<" + elements + "> : " + type +
              "} : () -> " + type + "\n";
    } else if (n.type != "none") {
      parameters += (given.empty() ? "" : ", ") + value + ": " + type;
      given.push_back(n);
    }
  }
  for (size_t i = 0, at = 0; i < op.results.size(); ++i) {
    bool wanted = op.results[i] != "none";
    std::string type = wanted ? tensorType(results[at], dynamic) : "none";
    outs += (i ? ", " : "") + type;
    if (!wanted)
      continue;
    ++at;
    returned += (returned.empty() ? "" : ", ") + ("%r#" + std::to_string(i));
    returnedTypes += (returnedTypes.empty() ? "" : ", ") + type;
  }
  return "func.func @main(" + parameters + ") -> (" + returnedTypes + ") {\n" + body +
         "  %none = \"onnx.none\"() : () -> none\n  %r:" + std::to_string(op.results.size()) +
         " = \"" + op.name + "\"(" + operands + ") " + op.attributes + " : (" + types + ") -> (" +
         outs + ") loc(\"the node\")\n  return " + returned + " : " + returnedTypes + "\n}\n";
}

} // namespace

Lowered lower(const std::string &ir, const HostOptions &options) {
  Lowered out;
  Parsed parsed(ir);
  if (!parsed.module) {
    out.error = parsed.messages;
    return out;
  }
  auto result = lowerToHost(*parsed.module, options);
  out.error = parsed.messages;
  if (mlir::succeeded(result))
    out.result = std::move(*result);
  llvm::raw_string_ostream(out.attributes) << (*parsed.module)->getAttrDictionary();
  return out;
}

Outcome runCompiled(const std::string &ir, const std::vector<Numbers> &inputs,
                    uint64_t *peakBytes) {
  Outcome out;
  Lowered lowered = lower(ir);
  if (!lowered.error.empty()) {
    out.error = lowered.error;
    return out;
  }
  Loaded loaded;
  if (llvm::Error error = loaded.load(lowered.result)) {
    out.error = llvm::toString(std::move(error));
    return out;
  }
  Weights weights;
  out.error = weights.pack(ir, lowered.result.program);
  if (!out.error.empty())
    return out;
  Run run{&loaded, &lowered.result, {}, {}};
  for (const Numbers &n : inputs)
    run.inputs.push_back(toArray(n));
  moert_ctx *ctx = test_context_create(1, 20);
  ctx->head.kernels = loaded.kernels.data();
  ctx->head.weights = weights.table.data();
  moert_error error = {};
  if (test_context_run(ctx, execute, &run, &error) != MOERT_OK)
    out.error = error.message;
  if (peakBytes)
    *peakBytes = test_context_peak(ctx);
  test_context_release(ctx);
  for (const Array &a : run.outputs)
    out.results.push_back(toNumbers(a));
  return out;
}

void expectSame(const OpCase &op) {
  SCOPED_TRACE(op.name + " " + op.attributes);
  Outcome want = reference::test::runOp(op.name, op.attributes, op.inputs, op.results);
  ASSERT_EQ(want.error, "");
  for (bool dynamic : {false, true}) {
    if (dynamic && op.onlyStatic)
      break;
    SCOPED_TRACE(dynamic ? "dynamic" : "static");
    std::vector<Numbers> given;
    std::string ir = opModule(op, want.results, dynamic, given);
    Outcome got = runCompiled(ir, given);
    ASSERT_EQ(got.error, "") << ir;
    ASSERT_EQ(got.results.size(), want.results.size());
    for (size_t i = 0; i < got.results.size(); ++i)
      expectNear(got.results[i], want.results[i], op.tolerance);
  }
}

void expectSameModule(const std::string &ir, const std::vector<Numbers> &inputs, double tolerance) {
  Outcome want = reference::test::runModule(ir, inputs), got = runCompiled(ir, inputs);
  ASSERT_EQ(want.error, "");
  ASSERT_EQ(got.error, "");
  ASSERT_EQ(got.results.size(), want.results.size());
  for (size_t i = 0; i < got.results.size(); ++i)
    expectNear(got.results[i], want.results[i], tolerance);
}

} // namespace moec::host::test
