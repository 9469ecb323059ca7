// Shapes of operators outside ONNX: those of com.microsoft that exporters and ONNX Runtime's
// optimiser write, and a rule for all others.
#pragma once
#include "onnx/defs/schema.h"

#include <map>
#include <memory>
#include <string>

namespace moec::onnx_import {

/// ONNX's registry, completed: every operator of another domain has a schema that accepts any
/// inputs, and inference is bounded in what it makes of lengths that a file claims. Not thread
/// safe.
class ContribRegistry : public ::onnx::ISchemaRegistry {
public:
  const ::onnx::OpSchema *GetSchema(const std::string &key, int maxInclusiveVersion,
                                  const std::string &domain) const override;

private:
  mutable std::map<const ::onnx::OpSchema *, std::unique_ptr<::onnx::OpSchema>> bounded;
  mutable std::map<std::pair<std::string, std::string>, std::unique_ptr<::onnx::OpSchema>> made;
};

/// Fails where the shapes of the parameters of com.microsoft.MoE (or QMoE) contradict each other.
void checkExperts(::onnx::InferenceContext &ctx, bool quantised);

using Inference = void (*)(::onnx::InferenceContext &);
/// Shape inference of an operator of another domain than ONNX's; never null.
Inference inferenceOf(const std::string &domain, const std::string &op);

/// Whether the shapes of this operator are inferred.
bool isInferred(const std::string &domain, const std::string &op, int64_t version);

} // namespace moec::onnx_import
