// Objects -> shared library, by lld in this process.
#include "Parts.h"
#include "lld/Common/Driver.h"
#include "moert/format.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"
#include <link.h>
#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace moec;
using namespace moec::link;
using llvm::StringRef;

namespace {

// What LLVM and Halide may call of libc and libm.
bool isSystemFunction(StringRef name) {
  static constexpr StringRef kMemory[] = {
      "memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen", "_GLOBAL_OFFSET_TABLE_"};
  if (llvm::is_contained(kMemory, name))
    return true;
  static constexpr StringRef kMath[] = {
      "acos",  "acosh",    "asin",      "asinh",  "atan",   "atan2",     "atanh", "cbrt",
      "ceil",  "copysign", "cos",       "cosh",   "erf",    "erfc",      "exp",   "exp10",
      "exp2",  "expm1",    "fabs",      "floor",  "fma",    "fmax",      "fmin",  "fmod",
      "frexp", "hypot",    "ldexp",     "lgamma", "llrint", "llround",   "log",   "log10",
      "log1p", "log2",     "lrint",     "lround", "modf",   "nearbyint", "pow",   "remainder",
      "rint",  "round",    "roundeven", "sin",    "sincos", "sinh",      "sqrt",  "tan",
      "tanh",  "tgamma",   "trunc"};
  return llvm::is_contained(kMath, name) ||
         (name.consume_back("f") && llvm::is_contained(kMath, name));
}

// The libc and libm of this process, by the names that programs need them under.
std::vector<std::string> systemLibraries() {
  std::vector<std::string> found;
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        StringRef file = llvm::sys::path::filename(info->dlpi_name);
        if (file == "libc.so.6" || file == "libm.so.6")
          static_cast<std::vector<std::string> *>(data)->push_back(info->dlpi_name);
        return 0;
      },
      &found);
  return found;
}

// Files that go when the scope does, or when a signal ends the process.
struct TemporaryFiles {
  std::vector<std::string> files;

  llvm::Expected<std::string> write(StringRef suffix, StringRef contents) {
    llvm::SmallString<128> file;
    int fd;
    if (std::error_code code = llvm::sys::fs::createTemporaryFile("moec-link", suffix, fd, file))
      return fileError("a temporary file", code);
    files.push_back(file.str().str());
    llvm::sys::RemoveFileOnSignal(file);
    llvm::raw_fd_ostream out(fd, /*shouldClose=*/true);
    out << contents;
    out.close();
    std::error_code code = out.error();
    out.clear_error();
    if (code)
      return fileError(file, code);
    return files.back();
  }

  ~TemporaryFiles() {
    for (const std::string &file : files) {
      llvm::sys::fs::remove(file);
      llvm::sys::DontRemoveFileOnSignal(file);
    }
  }
};

} // namespace

llvm::Error moec::link::checkSymbols(llvm::ArrayRef<llvm::ArrayRef<char>> objects) {
  llvm::StringSet<> defined;
  std::vector<std::pair<std::string, size_t>> undefined;
  for (auto [i, bytes] : llvm::enumerate(objects)) {
    auto object = llvm::object::ObjectFile::createELFObjectFile(
        llvm::MemoryBufferRef(StringRef(bytes.data(), bytes.size()), "object"));
    if (!object)
      return internalError("object " + llvm::Twine(i) +
                           " is damaged: " + llvm::toString(object.takeError()));
    for (const llvm::object::ELFSymbolRef symbol :
         llvm::cast<llvm::object::ELFObjectFileBase>(**object).symbols()) {
      auto flags = symbol.getFlags();
      auto name = symbol.getName();
      if (!flags || !name) {
        llvm::consumeError(flags.takeError());
        llvm::consumeError(name.takeError());
        return internalError("object " + llvm::Twine(i) + " has a damaged symbol table");
      }
      if (*flags & llvm::object::SymbolRef::SF_Undefined) {
        if (!name->empty())
          undefined.emplace_back(name->str(), i);
      } else {
        defined.insert(*name);
      }
    }
  }
  std::string missing;
  for (auto &[name, object] : undefined)
    if (!defined.contains(name) && !isSystemFunction(name))
      missing += (missing.empty() ? "" : ", ") + name;
  if (!missing.empty())
    return internalError("generated code refers to undefined symbols: " + missing);
  return llvm::Error::success();
}

static llvm::Error runLld(llvm::ArrayRef<std::string> args) {
  static std::mutex lock; // lld's own state is global
  std::lock_guard guard(lock);
  std::vector<const char *> pointers;
  for (const std::string &arg : args)
    pointers.push_back(arg.c_str());
  std::string text;
  llvm::raw_string_ostream out(text);
  lld::Result result = lld::lldMain(pointers, out, out, {{lld::Gnu, &lld::elf::link}});
  if (result.retCode == 0)
    return llvm::Error::success();
  return internalError("lld: " + StringRef(text).trim().split('\n').first);
}

llvm::Error moec::link::linkObjects(llvm::ArrayRef<llvm::ArrayRef<char>> objects,
                                    StringRef output) {
  TemporaryFiles temporary;
  std::vector<std::string> args{"ld.lld",
                                "-shared",
                                "--hash-style=gnu",
                                "-zdefs",
                                "-znow",
                                "-zrelro",
                                "-znoexecstack",
                                "-Bsymbolic",
                                "--gc-sections",
                                "--no-undefined-version",
                                "--threads=1",
                                "-o",
                                output.str()};
  auto script = temporary.write("exports", StringRef("{ global: " MOERT_DESCRIPTOR_SYMBOL
                                                     "; " MOERT_CODE_SYMBOL "; local: *; };\n"));
  if (!script)
    return script.takeError();
  args.push_back("--version-script=" + *script);
  for (llvm::ArrayRef<char> bytes : objects) {
    auto file = temporary.write("o", StringRef(bytes.data(), bytes.size()));
    if (!file)
      return file.takeError();
    args.push_back(*file);
  }
  // By path: development files (libm.so, libc.so) need not be installed.
  for (const std::string &library : systemLibraries())
    args.push_back(library);
  return runLld(args);
}
