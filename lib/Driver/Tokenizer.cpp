// Byte-level BPE. Text is cut by the pre-tokeniser's regular expressions (ICU), each piece is
// written in the printable byte alphabet, and merges are applied in order of their rank.
#include "moec/Driver/Tokenizer.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/MemoryBuffer.h"

#include <nlohmann/json.hpp>
#include <unicode/normalizer2.h>
#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <unordered_map>

using json = nlohmann::json;
using llvm::StringRef;

namespace moec {

namespace {

// The pattern that `ByteLevel` with `use_regex` stands for (GPT-2's, published with the model).
constexpr const char *gpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes follow from U+0100.
std::array<char32_t, 256> makeByteAlphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
                     byte >= 0xae;
    alphabet[byte] = printable ? char32_t(byte) : next++;
  }
  return alphabet;
}

std::string toUtf8(char32_t c) {
  std::string out;
  icu::UnicodeString::fromUTF32(reinterpret_cast<const UChar32 *>(&c), 1).toUTF8String(out);
  return out;
}

llvm::Error refuse(StringRef path, const llvm::Twine &what) {
  return llvm::createStringError(path + ": " + what);
}

// One cut of the text: the regular expression's matches and the gaps between them are pieces.
struct Split {
  std::unique_ptr<icu::RegexPattern> pattern;
};

using PairRanks = std::map<std::pair<int64_t, int64_t>, std::pair<int, int64_t>>;

} // namespace

struct Tokenizer::Data {
  std::unordered_map<std::string, int64_t> vocabulary;
  std::vector<std::string> bytes; // per id
  std::set<int64_t> special;
  std::vector<std::pair<std::string, int64_t>> added; // longest first
  PairRanks merges;                                   // (left, right) -> (rank, merged id)
  std::array<int64_t, 256> byteIds{};
  std::vector<Split> splits;
  bool nfc = false, ignoreMerges = false, prefixSpace = false;

  llvm::Error readModel(StringRef path, const json &model);
  llvm::Error readPreTokenizer(StringRef path, const json &step);
  llvm::Error addPattern(StringRef path, const std::string &regex);
  void setBytes(int64_t id, std::string value);
  void encodePiece(const std::string &piece, std::vector<int64_t> &ids) const;
  void encodeText(StringRef text, std::vector<int64_t> &ids) const;
};

void Tokenizer::Data::setBytes(int64_t id, std::string value) {
  if (size_t(id) >= bytes.size())
    bytes.resize(id + 1);
  bytes[id] = std::move(value);
}

llvm::Error Tokenizer::Data::readModel(StringRef path, const json &model) {
  if (model.value("type", "BPE") != "BPE")
    return refuse(path, "unsupported tokenizer model '" + model.value("type", "") + "'");
  if (model.value("byte_fallback", false))
    return refuse(path, "unsupported: BPE with byte_fallback");
  ignoreMerges = model.value("ignore_merges", false);

  std::map<char32_t, char> fromAlphabet;
  auto alphabet = makeByteAlphabet();
  for (int byte = 0; byte < 256; ++byte)
    fromAlphabet[alphabet[byte]] = char(byte);
  constexpr int64_t maxId = int64_t(1) << 24;
  for (const auto &[token, value] : model.at("vocab").items()) {
    int64_t id = value.get<int64_t>();
    if (id < 0 || id >= maxId)
      return refuse(path, "token id " + llvm::Twine(id) + " is out of range");
    std::string raw;
    icu::UnicodeString text = icu::UnicodeString::fromUTF8(token);
    for (int32_t i = 0; i < text.length(); i = text.moveIndex32(i, 1))
      if (auto it = fromAlphabet.find(text.char32At(i)); it != fromAlphabet.end())
        raw += it->second;
    vocabulary.emplace(token, id);
    setBytes(id, raw);
  }
  for (int byte = 0; byte < 256; ++byte) {
    auto it = vocabulary.find(toUtf8(alphabet[byte]));
    byteIds[byte] = it == vocabulary.end() ? -1 : it->second;
  }

  int rank = 0;
  for (const json &merge : model.at("merges")) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2) {
      left = merge[0], right = merge[1];
    } else {
      std::string both = merge.get<std::string>();
      size_t space = both.find(' ');
      left = both.substr(0, space), right = both.substr(std::min(space, both.size() - 1) + 1);
    }
    auto l = vocabulary.find(left), r = vocabulary.find(right), m = vocabulary.find(left + right);
    if (l == vocabulary.end() || r == vocabulary.end() || m == vocabulary.end())
      return refuse(path, "merge '" + left + " " + right + "' is not in the vocabulary");
    merges.try_emplace({l->second, r->second}, rank++, m->second);
  }
  return llvm::Error::success();
}

llvm::Error Tokenizer::Data::addPattern(StringRef path, const std::string &regex) {
  UErrorCode status = U_ZERO_ERROR;
  UParseError where;
  Split split;
  split.pattern.reset(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(regex), 0, where, status));
  if (U_FAILURE(status))
    return refuse(path, "unsupported pre-tokenizer pattern: " + llvm::Twine(u_errorName(status)));
  splits.push_back(std::move(split));
  return llvm::Error::success();
}

llvm::Error Tokenizer::Data::readPreTokenizer(StringRef path, const json &step) {
  std::string type = step.value("type", "");
  if (type == "Sequence") {
    for (const json &inner : step.at("pretokenizers"))
      if (llvm::Error error = readPreTokenizer(path, inner))
        return error;
    return llvm::Error::success();
  }
  if (type == "ByteLevel") {
    prefixSpace |= step.value("add_prefix_space", false);
    if (step.value("use_regex", true))
      return addPattern(path, gpt2Pattern);
    return llvm::Error::success();
  }
  if (type == "Split" && step.value("behavior", "") == "Isolated" &&
      !step.value("invert", false) && step.at("pattern").contains("Regex"))
    return addPattern(path, step["pattern"]["Regex"]);
  return refuse(path, "unsupported pre-tokenizer '" + type + "'");
}

llvm::Expected<Tokenizer> Tokenizer::load(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return refuse(path, "cannot read: " + buffer.getError().message());
  json file = json::parse((*buffer)->getBuffer().str(), nullptr, /*allow_exceptions=*/false);
  if (file.is_discarded() || !file.is_object())
    return refuse(path, "is not a JSON object");
  auto data = std::make_unique<Data>();
  try {
    if (llvm::Error error = data->readModel(path, file.at("model")))
      return std::move(error);
    if (json normalizer = file.value("normalizer", json()); !normalizer.is_null()) {
      if (normalizer.value("type", "") != "NFC")
        return refuse(path, "unsupported normalizer '" + normalizer.value("type", "") + "'");
      data->nfc = true;
    }
    if (json step = file.value("pre_tokenizer", json()); !step.is_null())
      if (llvm::Error error = data->readPreTokenizer(path, step))
        return std::move(error);
    for (const json &token : file.value("added_tokens", json::array())) {
      int64_t id = token.at("id");
      std::string content = token.at("content");
      if (id < 0 || id >= (int64_t(1) << 24) || content.empty())
        return refuse(path, "invalid added token");
      data->setBytes(id, content);
      data->added.emplace_back(content, id);
      if (token.value("special", false))
        data->special.insert(id);
    }
  } catch (const json::exception &error) {
    return refuse(path, "is no tokenizer file: " + llvm::Twine(error.what()));
  }
  llvm::sort(data->added, [](const auto &a, const auto &b) {
    return std::make_pair(b.first.size(), a.second) < std::make_pair(a.first.size(), b.second);
  });
  return Tokenizer(std::move(data));
}

// Applies merges to one piece of raw bytes, lowest rank first, leftmost on equal rank.
void Tokenizer::Data::encodePiece(const std::string &piece, std::vector<int64_t> &ids) const {
  std::vector<int64_t> symbols;
  std::string spelled;
  auto alphabet = makeByteAlphabet();
  for (unsigned char byte : piece) {
    if (ignoreMerges)
      spelled += toUtf8(alphabet[byte]);
    if (byteIds[byte] >= 0)
      symbols.push_back(byteIds[byte]);
  }
  if (ignoreMerges)
    if (auto it = vocabulary.find(spelled); it != vocabulary.end()) {
      ids.push_back(it->second);
      return;
    }
  while (symbols.size() > 1) {
    size_t best = symbols.size();
    std::pair<int, int64_t> merge(INT_MAX, -1);
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      auto it = merges.find({symbols[i], symbols[i + 1]});
      if (it != merges.end() && it->second.first < merge.first)
        best = i, merge = it->second;
    }
    if (best == symbols.size())
      break;
    symbols[best] = merge.second;
    symbols.erase(symbols.begin() + best + 1);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void Tokenizer::Data::encodeText(StringRef text, std::vector<int64_t> &ids) const {
  if (text.empty())
    return;
  UErrorCode status = U_ZERO_ERROR;
  icu::UnicodeString whole = icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), text.size()));
  if (nfc)
    whole = icu::Normalizer2::getNFCInstance(status)->normalize(whole, status);
  if (prefixSpace && !whole.startsWith(" "))
    whole.insert(0, ' ');
  std::vector<icu::UnicodeString> pieces{whole};
  for (const Split &split : splits) {
    std::vector<icu::UnicodeString> next;
    for (const icu::UnicodeString &piece : pieces) {
      std::unique_ptr<icu::RegexMatcher> matcher(split.pattern->matcher(piece, status));
      int32_t done = 0;
      while (U_SUCCESS(status) && matcher->find(status)) {
        int32_t start = matcher->start(status), end = matcher->end(status);
        if (start > done)
          next.emplace_back(piece, done, start - done);
        if (end > start)
          next.emplace_back(piece, start, end - start);
        done = end;
      }
      if (done < piece.length())
        next.emplace_back(piece, done);
    }
    pieces = std::move(next);
  }
  for (const icu::UnicodeString &piece : pieces) {
    std::string raw;
    piece.toUTF8String(raw);
    encodePiece(raw, ids);
  }
}

std::vector<int64_t> Tokenizer::encode(StringRef text) const {
  std::vector<int64_t> ids;
  while (!text.empty()) {
    size_t first = StringRef::npos;
    const std::pair<std::string, int64_t> *found = nullptr;
    for (const auto &token : data->added)
      if (size_t at = text.find(token.first); at < first)
        first = at, found = &token;
    data->encodeText(text.take_front(first), ids);
    if (!found)
      break;
    ids.push_back(found->second);
    text = text.drop_front(first + found->first.size());
  }
  return ids;
}

StringRef Tokenizer::bytes(int64_t id) const {
  return id >= 0 && id < size() ? StringRef(data->bytes[id]) : StringRef();
}

std::string Tokenizer::decode(llvm::ArrayRef<int64_t> ids) const {
  std::string out;
  for (int64_t id : ids)
    out += bytes(id);
  return out;
}

bool Tokenizer::isSpecial(int64_t id) const { return data->special.count(id) != 0; }
int64_t Tokenizer::size() const { return int64_t(data->bytes.size()); }

Tokenizer::Tokenizer(std::unique_ptr<Data> data) : data(std::move(data)) {}
Tokenizer::Tokenizer(Tokenizer &&) noexcept = default;
Tokenizer &Tokenizer::operator=(Tokenizer &&) noexcept = default;
Tokenizer::~Tokenizer() = default;

} // namespace moec
