// libmoert for C++20: RAII over moert.h. Header-only; errors are exceptions of type moert::Error.
//
//   moert::Model model("model.so");
//   moert::Session session(model, {.threads = 4});
//   std::vector<int64_t> ids = {1, 2, 3};
//   auto outputs = session.run({moert::TensorView(std::span(ids), {1, 3})});
//   std::span<const float> logits = outputs[0].as<float>();
//
// Threads and ownership are those of moert.h: a Model may be shared, a Session runs one call at a
// time, a Tensor owns its data and may outlive both.
#pragma once

#include "moert/moert.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace moert {

class Error : public std::runtime_error {
public:
  explicit Error(const moert_error &error)
      : std::runtime_error(error.message), status(error.status) {}
  Error(moert_status status, const std::string &message)
      : std::runtime_error(message), status(status) {}
  moert_status status;
};

/// Types for 16-bit floats, which C++20 has none for: their bits.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

/// The DLPack type of T.
template <typename T>
constexpr DLDataType dataType() {
  uint8_t bits = sizeof(T) * 8;
  if constexpr (std::is_same_v<T, bool>)
    return {kDLBool, 8, 1};
  else if constexpr (std::is_same_v<T, Float16>)
    return {kDLFloat, 16, 1};
  else if constexpr (std::is_same_v<T, BFloat16>)
    return {kDLBfloat, 16, 1};
  else if constexpr (std::is_floating_point_v<T>)
    return {kDLFloat, bits, 1};
  else {
    static_assert(std::is_integral_v<T>, "no element type of tensors");
    return {uint8_t(std::is_signed_v<T> ? kDLInt : kDLUInt), bits, 1};
  }
}

/// A borrowed input: the caller keeps the data until the run is over.
class TensorView {
public:
  template <typename T>
  TensorView(std::span<T> data, std::vector<int64_t> shape) : dims(std::move(shape)) {
    int64_t count = 1;
    for (int64_t d : dims)
      count *= d;
    if (count != int64_t(data.size()))
      throw Error(MOERT_ERROR_USAGE, "a tensor's shape does not fit its data");
    dl.data = const_cast<std::remove_const_t<T> *>(data.data());
    dl.dtype = dataType<std::remove_const_t<T>>();
  }
  /// Any DLPack tensor.
  explicit TensorView(const DLTensor &tensor)
      : dims(tensor.shape, tensor.shape + tensor.ndim), dl(tensor) {
    if (tensor.strides)
      steps.assign(tensor.strides, tensor.strides + tensor.ndim);
  }

  DLTensor dlpack() const {
    DLTensor t = dl;
    t.ndim = int32_t(dims.size());
    t.shape = const_cast<int64_t *>(dims.data());
    t.strides = steps.empty() ? nullptr : const_cast<int64_t *>(steps.data());
    return t;
  }

private:
  std::vector<int64_t> dims, steps;
  DLTensor dl = {nullptr, {kDLCPU, 0}, 0, {}, nullptr, nullptr, 0};
};

/// An output, owned.
class Tensor {
public:
  explicit Tensor(DLManagedTensor *tensor) : tensor(tensor) {}

  std::span<const int64_t> shape() const {
    return {tensor->dl_tensor.shape, size_t(tensor->dl_tensor.ndim)};
  }
  int64_t count() const {
    int64_t n = 1;
    for (int64_t d : shape())
      n *= d;
    return n;
  }
  DLDataType dtype() const { return tensor->dl_tensor.dtype; }
  const void *data() const { return tensor->dl_tensor.data; }

  /// The elements, row-major; throws when T is not their type.
  template <typename T>
  std::span<const T> as() const {
    DLDataType want = dataType<T>(), got = dtype();
    if (want.code != got.code || want.bits != got.bits)
      throw Error(MOERT_ERROR_USAGE, "a tensor has another element type than was asked for");
    return {static_cast<const T *>(data()), size_t(count())};
  }
  /// To pass on as an input.
  TensorView view() const { return TensorView(tensor->dl_tensor); }
  /// Hands the tensor over to another DLPack user, who calls its deleter.
  DLManagedTensor *release() { return tensor.release(); }

private:
  struct Deleter {
    void operator()(DLManagedTensor *t) const { t->deleter(t); }
  };
  std::unique_ptr<DLManagedTensor, Deleter> tensor;
};

/// A loaded model. Copies share it.
class Model {
public:
  explicit Model(const std::string &path, const moert_model_options &options = {}) {
    moert_model *raw;
    moert_error error;
    if (moert_model_open(path.c_str(), &options, &raw, &error))
      throw Error(error);
    model = std::shared_ptr<moert_model>(raw, moert_model_release);
  }

  moert_model_info info() const {
    moert_model_info info;
    moert_model_get_info(model.get(), &info);
    return info;
  }
  const moert_tensor_info &input(size_t i) const { return *check(moert_model_input(get(), i)); }
  const moert_tensor_info &output(size_t i) const { return *check(moert_model_output(get(), i)); }
  const moert_hook_info &hook(size_t i) const { return *check(moert_model_hook(get(), i)); }
  moert_model *get() const { return model.get(); }

private:
  template <typename T>
  static const T *check(const T *info) {
    if (!info)
      throw Error(MOERT_ERROR_USAGE, "no such input, output or routing hook");
    return info;
  }
  std::shared_ptr<moert_model> model;
};

/// Changes of a layer's routing; an empty list is one that is null in moert_routing, others have an
/// entry for each expert.
struct Routing {
  std::vector<float> scale = {}, bias = {};
  std::vector<uint8_t> keep = {};
};

class Session {
public:
  explicit Session(const Model &model, const moert_session_options &options = {})
      : outputs(model.info().outputs) {
    moert_session *raw;
    moert_error error;
    if (moert_session_create(model.get(), &options, &raw, &error))
      throw Error(error);
    session.reset(raw);
  }

  /// Inputs in the model's order; outputs too.
  std::vector<Tensor> run(std::span<const TensorView> inputs) {
    std::vector<DLTensor> in;
    for (const TensorView &view : inputs)
      in.push_back(view.dlpack());
    std::vector<DLManagedTensor *> out(outputs);
    moert_error error;
    if (moert_session_run(session.get(), in.data(), in.size(), out.data(), out.size(), &error))
      throw Error(error);
    return std::vector<Tensor>(out.begin(), out.end());
  }
  std::vector<Tensor> run(std::initializer_list<TensorView> inputs) {
    return run(std::span(inputs.begin(), inputs.size()));
  }

  /// For later runs; an error leaves what was set before.
  void setRouting(const std::string &layer, const Routing &routing) {
    size_t experts = std::max({routing.scale.size(), routing.bias.size(), routing.keep.size()});
    for (size_t n : {routing.scale.size(), routing.bias.size(), routing.keep.size()})
      if (n && n != experts)
        throw Error(MOERT_ERROR_USAGE, "layer \"" + layer + "\": settings that differ in length");
    auto list = [](auto &v) { return v.empty() ? nullptr : v.data(); };
    moert_routing raw = {list(routing.scale), list(routing.bias), list(routing.keep)};
    moert_error error;
    if (moert_session_set_routing(session.get(), layer.c_str(), &raw, experts, &error))
      throw Error(error);
  }
  void clearRouting(const std::string &layer) { clear(layer.c_str()); }
  /// Of all layers.
  void clearRouting() { clear(nullptr); }

  moert_session *get() const { return session.get(); }
  moert_counters counters() const {
    moert_counters counters;
    moert_session_get_counters(session.get(), &counters);
    return counters;
  }
  int threads() const { return moert_session_threads(session.get()); }

private:
  void clear(const char *layer) {
    moert_error error;
    if (moert_session_clear_routing(session.get(), layer, &error))
      throw Error(error);
  }

  struct Deleter {
    void operator()(moert_session *s) const { moert_session_release(s); }
  };
  std::unique_ptr<moert_session, Deleter> session;
  size_t outputs;
};

} // namespace moert
