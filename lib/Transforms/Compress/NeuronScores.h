// How much each neuron of an expert matters, and which go first.
#pragma once

#include "ExpertMath.h"

namespace moec::compress {

/// What the neurons of one slab did on the tokens that reached it. With phi, [inter], a token's
/// intermediate results times its weight:
struct NeuronStatistics {
  int64_t tokens = 0;
  Eigen::VectorXd energy; ///< [inter], sum of phi_i^2
  Eigen::MatrixXd gram;   ///< [inter, inter], sum of phi phi^T; empty when not asked for
};

/// Of the experts of `slab`, on tokens [n, hidden] with these picks; `scale`, [n], multiplies a
/// token's weight. Memory: the square of inter with `gram`, and 64 MiB or 64 tokens. Errors: weights
/// that cannot be read.
llvm::Expected<NeuronStatistics> neuronStatistics(FfnBank &bank, int64_t slab, const Rows &x,
                                                  const Picks &picks, const Eigen::VectorXf &scale,
                                                  bool gram);

/// The neurons that go, the first to go first, and the part of the score that stays.
struct NeuronRanking {
  std::vector<int64_t> gone;
  double retained = 1;
};

/// The `count` least scores, ties to the lower number.
NeuronRanking leastNeurons(const Eigen::VectorXd &scores, int64_t count);

/// Optimal brain surgeon (Hassibi and Stork, NIPS 1992) for one linear map: of its inputs with the
/// second moments C = `gram` + ridge * mean(diagonal) * I, `count` go one after the other, each the
/// one that raises tr((W - W') C (W - W')^T) least when the columns W' of the inputs that stay are
/// fitted again. `down` is W, [hidden, inter]. Time: inter^2 * (inter + hidden); memory: 50 bytes
/// times the square of inter. The score that stays is 1 - that rise / tr(W C W^T).
NeuronRanking surgeonNeurons(const Eigen::MatrixXd &gram, const Rows &down, int64_t count,
                             double ridge);

/// |gate_i| |up_i| |down_i| of each neuron, from the weights alone; 1 for a gate that there is not.
Eigen::VectorXd weightScores(const FfnSlab &slab, const Rows &down);

} // namespace moec::compress
