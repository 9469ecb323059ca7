// The same as run_model.c in C++: run_model_cpp model.so token id...
#include <moert/moert.hpp>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <numeric>

int main(int argc, char **argv) try {
  if (argc < 3) {
    std::cerr << "usage: run_model_cpp model.so token-id...\n";
    return 2;
  }
  moert::Model model(argv[1]);
  moert::Session session(model);
  std::vector<int64_t> ids;
  for (int i = 2; i < argc; ++i)
    ids.push_back(std::atoll(argv[i]));

  auto outputs = session.run({moert::TensorView(std::span(ids), {1, int64_t(ids.size())})});
  std::span<const float> logits = outputs.at(0).as<float>();

  size_t vocabulary = size_t(outputs[0].shape().back());
  logits = logits.last(vocabulary); // of the last token
  std::vector<int64_t> order(vocabulary);
  std::iota(order.begin(), order.end(), 0);
  size_t shown = std::min<size_t>(5, vocabulary);
  std::partial_sort(order.begin(), order.begin() + shown, order.end(),
                    [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  for (size_t i = 0; i < shown; ++i)
    std::cout << "token " << order[i] << ": " << logits[order[i]] << "\n";
  return 0;
} catch (const moert::Error &error) {
  std::cerr << error.what() << "\n";
  return int(error.status);
}
