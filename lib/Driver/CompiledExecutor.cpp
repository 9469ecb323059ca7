#include "Executors.h"

#include "Compile.h"
#include "Files.h"

#include "moert/moert.h"

#include "llvm/Support/Path.h"

#include <optional>

using namespace moec;

namespace {

llvm::Error toError(const moert_error &error) { return fail(Exit(error.status), error.message); }

std::optional<DType> toDType(DLDataType type) {
  if (type.lanes != 1)
    return std::nullopt;
  switch (type.code << 8 | type.bits) {
  case kDLFloat << 8 | 16: return DType::f16;
  case kDLFloat << 8 | 32: return DType::f32;
  case kDLFloat << 8 | 64: return DType::f64;
  case kDLBfloat << 8 | 16: return DType::bf16;
  case kDLBool << 8 | 8: return DType::boolean;
  case kDLInt << 8 | 8: return DType::i8;
  case kDLInt << 8 | 16: return DType::i16;
  case kDLInt << 8 | 32: return DType::i32;
  case kDLInt << 8 | 64: return DType::i64;
  case kDLUInt << 8 | 8: return DType::u8;
  case kDLUInt << 8 | 16: return DType::u16;
  case kDLUInt << 8 | 32: return DType::u32;
  case kDLUInt << 8 | 64: return DType::u64;
  case kDLFloat8_e4m3fn << 8 | 8: return DType::f8e4m3fn;
  case kDLFloat8_e4m3fnuz << 8 | 8: return DType::f8e4m3fnuz;
  case kDLFloat8_e5m2 << 8 | 8: return DType::f8e5m2;
  case kDLFloat8_e5m2fnuz << 8 | 8: return DType::f8e5m2fnuz;
  case kDLUInt << 8 | 4: return DType::u4;
  case kDLInt << 8 | 4: return DType::i4;
  case kDLFloat4_e2m1fn << 8 | 4: return DType::f4e2m1;
  case kDLFloat8_e8m0fnu << 8 | 8: return DType::f8e8m0;
  case kDLUInt << 8 | 2: return DType::u2;
  case kDLInt << 8 | 2: return DType::i2;
  default: return std::nullopt;
  }
}

uint8_t codeOf(DType type) {
  switch (type) {
  case DType::bf16: return kDLBfloat;
  case DType::boolean: return kDLBool;
  case DType::f8e4m3fn: return kDLFloat8_e4m3fn;
  case DType::f8e4m3fnuz: return kDLFloat8_e4m3fnuz;
  case DType::f8e5m2: return kDLFloat8_e5m2;
  case DType::f8e5m2fnuz: return kDLFloat8_e5m2fnuz;
  case DType::f4e2m1: return kDLFloat4_e2m1fn;
  case DType::f8e8m0: return kDLFloat8_e8m0fnu;
  default: return isFloat(type) ? kDLFloat : nameOf(type).starts_with("u") ? kDLUInt : kDLInt;
  }
}

DLDataType toDLType(DType type) { return {codeOf(type), uint8_t(bitsOf(type)), 1}; }

class CompiledExecutor : public CompiledModel {
public:
  CompiledExecutor(std::string name, moert_model *model, moert_session *session)
      : name(std::move(name)), model(model), session(session) {}
  ~CompiledExecutor() override {
    moert_session_release(session);
    moert_model_release(model);
  }

  // Reads the signature; the library may come from another version of moec.
  llvm::Error describe() {
    moert_model_info info;
    moert_model_get_info(model, &info);
    for (size_t i = 0; i < info.inputs; ++i)
      if (llvm::Error error = add(moert_model_input(model, i), values.inputs))
        return error;
    for (size_t i = 0; i < info.outputs; ++i)
      if (llvm::Error error = add(moert_model_output(model, i), values.outputs))
        return error;
    return llvm::Error::success();
  }

  const Signature &signature() const override { return values; }
  moert_session *handle() override { return session; }
  const moert_hook_info *hook(size_t index) const override {
    return moert_model_hook(model, index);
  }
  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor> inputs) override;

  std::optional<TemporaryFolder> folder; // of a library that was compiled for this executor

private:
  static llvm::Error add(const moert_tensor_info *info, std::vector<ValueInfo> &list) {
    auto type = toDType(info->dtype);
    if (!type)
      return fail(Exit::unsupported,
                  llvm::Twine("\"") + info->name + "\": unsupported type " + info->dtype_name);
    ValueInfo &value = list.emplace_back();
    value.name = info->name;
    value.type = *type;
    for (int32_t d = 0; d < info->rank; ++d)
      value.dims.emplace_back(info->dim_names[d]);
    return llvm::Error::success();
  }

  std::string name; // of the file that the user gave
  moert_model *model;
  moert_session *session;
  Signature values;
};

llvm::Expected<std::vector<Tensor>> CompiledExecutor::run(llvm::ArrayRef<Tensor> inputs) {
  std::vector<DLTensor> arguments;
  for (const Tensor &t : inputs) {
    DLTensor &d = arguments.emplace_back();
    d.data = const_cast<char *>(t.data.data());
    d.device = {kDLCPU, 0};
    d.ndim = int32_t(t.shape.size());
    d.dtype = toDLType(t.type);
    d.shape = const_cast<int64_t *>(t.shape.data());
    d.strides = nullptr;
    d.byte_offset = 0;
  }
  std::vector<DLManagedTensor *> results(values.outputs.size());
  moert_error error{};
  if (moert_session_run(session, arguments.data(), arguments.size(), results.data(), results.size(),
                        &error))
    return fail(Exit(error.status), name + ": " + error.message);
  std::vector<Tensor> outputs;
  for (auto [result, info] : llvm::zip(results, values.outputs)) {
    const DLTensor &d = result->dl_tensor;
    Tensor &t = outputs.emplace_back();
    t.name = info.name;
    t.type = info.type;
    t.shape.assign(d.shape, d.shape + d.ndim);
    const char *data = static_cast<const char *>(d.data) + d.byte_offset;
    if (size_t bytes = size_t(t.count()) * sizeOf(t.type))
      t.data.assign(data, data + bytes);
    result->deleter(result);
  }
  return outputs;
}

llvm::Expected<std::unique_ptr<CompiledExecutor>> open(llvm::StringRef path, llvm::StringRef name,
                                                       int threads) {
  moert_error error{};
  moert_model *model = nullptr;
  if (moert_model_open(path.str().c_str(), nullptr, &model, &error))
    return toError(error);
  moert_session_options options{};
  options.threads = threads;
  moert_session *session = nullptr;
  if (moert_session_create(model, &options, &session, &error)) {
    moert_model_release(model);
    return toError(error);
  }
  auto executor = std::make_unique<CompiledExecutor>(name.str(), model, session);
  if (llvm::Error why = executor->describe())
    return why;
  return executor;
}

} // namespace

llvm::Expected<std::unique_ptr<CompiledModel>> moec::openLibrary(llvm::StringRef path,
                                                                 int threads) {
  auto executor = open(path, path, threads);
  if (!executor)
    return executor.takeError();
  return std::move(*executor);
}

llvm::Expected<std::unique_ptr<CompiledModel>>
moec::compileAndOpen(Model &model, const OpenOptions &options, Progress &progress) {
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  std::string library = folder->file(llvm::sys::path::stem(model.path()) + ".so");
  CompileOptions compile;
  compile.optimisation = options.optimisation;
  if (auto report = buildLibrary(model, library, compile, progress); !report)
    return report.takeError();
  auto executor = open(library, model.path(), options.threads);
  if (!executor)
    return executor.takeError();
  (*executor)->folder.emplace(std::move(*folder));
  return std::move(*executor);
}
