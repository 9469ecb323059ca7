// Files of other kinds that people give by mistake, told by their first bytes.
#include "Context.h"

#include "llvm/Support/Endian.h"

using llvm::StringRef;

// "<8 bytes of length>{": the header of a safetensors file is JSON.
static bool isSafetensors(StringRef bytes) {
  if (bytes.size() < 10 || bytes[8] != '{')
    return false;
  uint64_t length = llvm::support::endian::read64le(bytes.data());
  return length <= bytes.size() - 8 && (bytes[9] == '"' || bytes[9] == '}' || bytes[9] == ' ');
}

StringRef moec::onnx_import::foreignFormat(StringRef bytes) {
  struct Magic {
    StringRef start, what;
  };
  static constexpr Magic kMagics[] = {
      {"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the data: run git lfs pull"},
      {"\x1f\x8b", "a gzip file, not a model: unpack it first"},
      {"PK\x03\x04", "a zip archive (or a PyTorch checkpoint, which is one), not an ONNX model"},
      {"\x80\x02", "a Python pickle (a PyTorch checkpoint?), not an ONNX model"},
      {"GGUF", "a GGUF file, not an ONNX model"},
      {"\x89HDF", "an HDF5 file (a Keras model?), not an ONNX model"},
      {"\x7f" "ELF", "a compiled library or program, not an ONNX model"},
  };
  for (const Magic &magic : kMagics)
    if (bytes.starts_with(magic.start))
      return magic.what;
  StringRef text = bytes.take_front(512).ltrim();
  if (text.starts_with_insensitive("<!doctype html") || text.starts_with_insensitive("<html"))
    return "a web page (was the download refused?), not an ONNX model";
  if (isSafetensors(bytes))
    return "a safetensors file, not an ONNX model";
  return "";
}
