// Profiles of made-up models, with every statistic.
#pragma once
#include "moec/Analysis/Profile.h"

#include <random>

namespace moec {

/// The part of a model's profile that one machine took: labels, tokens and values are random.
/// Profiles of the same `model` agree in their layers; their reservoirs draw from the same tokens,
/// whose values follow from their keys.
Profile randomProfile(uint32_t model, std::mt19937 &random);

/// Layers of the given shape without statistics.
Profile plainProfile(std::vector<std::string> labels, int64_t layers, int64_t experts, int64_t k,
                     int64_t hidden);

/// Sets a statistic of the table; `values` are those of all labels.
void set(LayerProfile &layer, llvm::StringRef name, std::vector<double> values);

/// Equal to the last bit.
void expectSame(const Profile &a, const Profile &b);

} // namespace moec
