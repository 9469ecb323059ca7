// Neurons of one expert in the order in which they resemble those of another.
#pragma once

#include "ExpertMath.h"

namespace moec::compress {

/// The linear assignment problem: for each row of `cost`, [n, n] of finite numbers, a column of its
/// own, so that the sum of the costs is least. By shortest augmenting paths (Jonker and Volgenant,
/// 1987): time by the third power of n.
std::vector<int64_t> assignRows(const Rows &cost);

/// What is needed of an expert to compare its neurons with another's.
struct Neurons {
  FfnSlab in;
  Rows down; ///< [hidden, inter]
};
llvm::Expected<Neurons> neuronsOf(FfnBank &bank, int64_t slab);

/// Neuron order[i] of `other` stands for neuron i of `reference`: the sum over neurons of squared
/// distances of gate rows, up rows, down columns and inner biases is least. Putting the neurons of
/// an expert into another order does not change what it computes. (Weight matching as in M-SMoE,
/// arXiv:2310.01334, and Git Re-Basin.)
std::vector<int64_t> alignNeurons(const Neurons &reference, const Neurons &other);

} // namespace moec::compress
