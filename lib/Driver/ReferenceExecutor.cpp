#include "Compile.h"
#include "Executors.h"

#include "moec/Reference/Reference.h"

using namespace moec;

namespace {

class ReferenceExecutor : public Executor {
public:
  ReferenceExecutor(std::unique_ptr<Model> model, Signature signature)
      : model(std::move(model)), values(std::move(signature)),
        interpreter(this->model->module(), this->model->folder()) {}

  const Signature &signature() const override { return values; }

  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor> inputs) override {
    std::vector<reference::Array> arrays;
    for (const Tensor &t : inputs)
      arrays.push_back({int(t.type), t.shape, t.data});
    auto results = interpreter.run(arrays);
    if (!results)
      return fail(Exit::input, model->path() + ": " + llvm::toString(results.takeError()));
    std::vector<Tensor> outputs;
    for (auto [i, array] : llvm::enumerate(*results)) {
      Tensor &t = outputs.emplace_back();
      t.type = DType(array.type);
      t.shape = std::move(array.shape);
      t.data = std::move(array.data);
      if (i < values.outputs.size())
        t.name = values.outputs[i].name;
    }
    return outputs;
  }

private:
  std::unique_ptr<Model> model;
  Signature values;
  reference::Interpreter interpreter;
};

} // namespace

llvm::Expected<std::unique_ptr<Executor>> moec::interpret(std::unique_ptr<Model> model) {
  auto signature = model->signature();
  if (!signature)
    return signature.takeError();
  if (llvm::Error error = refuse(*model, reference::collectUnsupported(model->module())))
    return error;
  return std::make_unique<ReferenceExecutor>(std::move(model), std::move(*signature));
}
