// moec compress: its options.
#include "Commands.h"
#include "Compress/Run.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;

static std::string methodsText() {
  std::string text;
  for (const CompressMethod &method : compressMethods())
    text += llvm::formatv("{0,-12} {1}\n", method.name, method.summary);
  return text;
}

void moec::addCompressCommand(CLI::App &app, Action &action) {
  CLI::App *command = addCommand(
      app, "compress", "Removes experts of a model and says what that costs.",
      "moec compress examples/moe-lm/prefill.onnx --prune=0.25 --data examples/moe-lm/calibration "
      "--eval examples/moe-lm/eval --method soft --out small.onnx");
  auto flags = std::make_shared<CompressFlags>();
  command->add_option("model", flags->setup.model, "model.onnx, or IR (.mlir)")->required();
  command->add_option("--data", flags->data,
                      "calibration data: folders of <label>.npy files of token ids, such files, folders in "
                      "ONNX test layout, or NAME=FILE.npy for each input")
      ->required()->delimiter(',');
  command->add_option("--eval", flags->eval, "held-out data, in the same forms")
      ->required()->delimiter(',');
  auto names = measureNames();
  names.push_back("auto");
  command->add_option("--measure", flags->measure,
                      "what results are judged by: perplexity (of texts), kl (of the softmax of the "
                      "outputs' last dimension, to the original), error (squares of the outputs' "
                      "difference over the original's), auto (perplexity of texts, else error)")
      ->check(CLI::IsMember(names));
  command->add_option("--outputs", flags->outputs,
                      "outputs that kl and error compare, with arrays (all that hold floats)")
      ->delimiter(',');
  command->add_option("-o,--out", flags->output, "the smaller model: .onnx, or .so (compiled)");
  command->add_option("--prune", flags->prune, "share of each layer's experts that goes");
  command->add_option("--memory", flags->memory,
                      "what all weights may take: a share (60%) or bytes (12M)");
  command->add_option("--keep", flags->budgets,
                      "experts that each layer keeps: one number, or one for each layer");
  command->add_option("--method", flags->method,
                      "auto (measures all and searches), or one of --methods");
  command->add_option("--repair", flags->repair,
                      "after the experts went: none, down (least squares on the down projections), "
                      "sequential (the same, layer by layer), auto (what measures best; none with "
                      "a --method)")
      ->check(CLI::IsMember({"auto", "none", "down", "sequential"}));
  command->add_option("--compare", flags->compare,
                      "measures methods at this size on the held-out data, plain and repaired, in place "
                      "of one result: names, comma-separated, or all");
  command->add_option("--labels", flags->labels, "weights of the calibration's labels: c4:1,code:4");
  command->add_option("--seed", flags->seed, "of random choices");
  command->add_option("--window", flags->window, "tokens of a window")->check(CLI::PositiveNumber);
  command->add_option("--windows", flags->windows, "windows of each calibration text to profile")
      ->check(CLI::PositiveNumber);
  command->add_option("--eval-windows", flags->evalWindows,
                      "windows of each held-out text (0: all)")->check(CLI::NonNegativeNumber);
  command->add_option("--search-windows", flags->searchWindows,
                      "windows of each calibration text that the search scores recipes on")
      ->check(CLI::PositiveNumber);
  command->add_option("--rows", flags->rows, "cut arrays into runs of so many rows (0: do not)")
      ->check(CLI::NonNegativeNumber);
  addDimFlag(*command, flags->dims);
  command->add_option("--random-seeds", flags->randomSeeds,
                      "random choices that the result is compared with: seeds 0, 1, ... (3)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--moves", flags->moves, "tries of the search to shift experts between layers")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--reservoir", flags->setup.reservoir,
                      "tokens of each label that repairs fit (0: as many as 512 MiB hold)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--profile", flags->setup.profile, "a profile of the model (moec profile)");
  command->add_option("--work", flags->work,
                      "folder for what was measured: an interrupted run with the same folder goes on");
  command->add_option("--report", flags->page, "an HTML page on the result, with other sizes");
  command->add_option("--threads", flags->setup.threads, "threads (0: all cores)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--weights", flags->setup.folder,
                      "folder of the weight files, when they are not beside the model")
      ->check(CLI::ExistingDirectory);
  addSemanticsFlag(*command, flags->setup.moeSemantics);
  addProgressFlag(*command, flags->progress);
  addFormatFlag(*command, flags->json);
  auto listMethods = [] {
    llvm::outs() << methodsText();
    throw CLI::Success();
  };
  command->add_flag_callback("--methods", listMethods, "lists the methods")->trigger_on_parse();
  command->callback([flags, &action] { action = [flags] { return runCompress(*flags); }; });
}
