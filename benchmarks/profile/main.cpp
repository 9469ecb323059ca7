// What probes cost: runs of a model without probes and with those of each tier, one after the
// other, so that whatever else the machine does falls on all of them; medians. See README.md.
#include "../../lib/Driver/Compile.h"
#include "../../lib/Driver/Executors.h"
#include "../../lib/Driver/Profiling.h"

#include "moert/moert.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

using namespace moec;

namespace {

struct Form {
  std::string name;
  std::unique_ptr<CompiledModel> model;
  std::vector<double> times = {};
};

template <typename T>
T check(llvm::Expected<T> value) {
  if (value)
    return std::move(*value);
  std::fprintf(stderr, "%s\n", llvm::toString(value.takeError()).c_str());
  std::exit(1);
}

void check(llvm::Error error) {
  if (error)
    check(llvm::Expected<int>(std::move(error)));
}

Form compile(const std::string &file, const std::string &name, const std::string &probes,
             int threads) {
  Progress silent(ProgressMode::none, compileStages);
  auto model = check(Model::load(file));
  check(model->raise(2));
  if (!probes.empty())
    check(model->runPipeline(probes));
  check(model->finish(2));
  OpenOptions options;
  options.threads = threads;
  return {name, check(compileAndOpen(*model, options, silent))};
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: profile-benchmark MODEL DATA [threads [runs [windows of a run]]]\n");
    return 2;
  }
  int threads = argc > 3 ? std::atoi(argv[3]) : 1, rounds = argc > 4 ? std::atoi(argv[4]) : 40;
  std::vector<Form> forms;
  forms.push_back(compile(argv[1], "plain", "", threads));
  for (std::string tier : {"0", "1", "2"})
    forms.push_back(compile(argv[1], "tier " + tier, "insert-probes{tier=" + tier + "}", threads));
  DataOptions read;
  read.tokens = read.window * (argc > 5 ? std::atoi(argv[5]) : 1);
  auto data = check(Dataset::open({argv[2]}, read));
  check(data.bind(forms[0].model->signature()));
  for (size_t i = 1; i < forms.size(); ++i)
    (void)moert_session_profile_start(forms[i].model->handle(), nullptr, nullptr);
  for (int round = -3; round < rounds; ++round) {
    auto run = check(data.run((round + 3) % data.runs()));
    for (Form &form : forms) {
      auto start = std::chrono::steady_clock::now();
      check(form.model->run(run.inputs));
      std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
      if (round >= 0)
        form.times.push_back(time.count());
    }
  }
  double plain = median(forms[0].times);
  for (Form &form : forms) {
    std::vector<double> ratios; // to the plain run of the same round
    for (int i = 0; i < rounds; ++i)
      ratios.push_back(form.times[i] / forms[0].times[i]);
    std::printf("%-8s median %8.3f ms  best %8.3f ms  %+6.1f %% of the plain median, %+6.1f %% in "
                "the median round\n",
                form.name.c_str(), median(form.times) * 1e3,
                *std::min_element(form.times.begin(), form.times.end()) * 1e3,
                (median(form.times) / plain - 1) * 100, (median(ratios) - 1) * 100);
  }
}
