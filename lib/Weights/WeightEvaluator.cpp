// The streaming evaluator: each step is asked for a flat range of its elements and asks its
// operands for the ranges that these need. Ranges of files are handed on as they are mapped.
#include "Evaluate.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/Support/MathExtras.h"

#include <sys/mman.h>
#include <unistd.h>

using namespace moec;
using namespace moec::weights;
using llvm::ArrayRef;
using llvm::StringRef;

// Steps deeper than this are refused: evaluation is recursive.
static constexpr unsigned kMaxDepth = 1000;

WeightEvaluator::WeightEvaluator(mlir::ModuleOp module, StringRef folder)
    : data(std::make_unique<Data>(folder)) {
  for (mlir::Operation &op : *module.getBody()) {
    if (op.getName().getStringRef() != "moe.weights" || op.getNumRegions() != 1)
      continue;
    op.getRegion(0).walk([&](mlir::Operation *step) {
      auto name = step->getAttrOfType<mlir::StringAttr>("sym_name");
      if (name && step->getName().getStringRef() == "moe.weight.bind" &&
          step->getNumOperands() == 1)
        data->binds[name.getValue()] = step->getOperand(0);
    });
  }
}

WeightEvaluator::~WeightEvaluator() = default;

llvm::Error weights::fault(mlir::Value step, const llvm::Twine &text) {
  std::string name = step.getDefiningOp()
                         ? step.getDefiningOp()->getName().getStringRef().str()
                         : std::string("block argument");
  return llvm::createStringError(llvm::inconvertibleErrorCode(), llvm::Twine(name) + " " + text);
}

// Numbers, a static shape, and a size that arithmetic on offsets cannot overflow.
static bool isPlain(mlir::RankedTensorType type) {
  if (!type || !type.hasStaticShape() || elementBytes(type.getElementType()) == 0)
    return false;
  int64_t elements = 1;
  for (int64_t dim : type.getShape())
    if (llvm::MulOverflow(elements, dim, elements) || elements > (int64_t(1) << 48))
      return false;
  return true;
}

static llvm::Error named(StringRef bind, llvm::Error error) {
  if (!error)
    return error;
  return llvm::createStringError(llvm::inconvertibleErrorCode(),
                                 "weight \"" + bind + "\": " + llvm::toString(std::move(error)));
}

llvm::Expected<mlir::Value> WeightEvaluator::Data::value(StringRef bind) {
  auto it = binds.find(bind);
  if (it == binds.end())
    return llvm::createStringError(llvm::inconvertibleErrorCode(),
                                   "there is no weight \"" + bind + "\"");
  return it->second;
}

llvm::Expected<mlir::RankedTensorType> WeightEvaluator::type(StringRef bind) {
  auto value = data->value(bind);
  if (!value)
    return value.takeError();
  auto type = llvm::dyn_cast<mlir::RankedTensorType>(value->getType());
  if (!isPlain(type))
    return named(bind, fault(*value, "is unsupported: it is no tensor of numbers of static shape"));
  return type;
}

llvm::Error WeightEvaluator::rows(StringRef bind, int64_t first, int64_t count,
                                  llvm::SmallVectorImpl<char> &out) {
  auto type = this->type(bind);
  if (!type)
    return type.takeError();
  int64_t have = type->getRank() == 0 ? 1 : type->getDimSize(0);
  if (first < 0 || count < 0 || first > have || count > have - first)
    return named(bind,
                 llvm::createStringError(llvm::inconvertibleErrorCode(),
                                         llvm::Twine(count) + " rows from " + llvm::Twine(first) +
                                             " are asked for, it has " + llvm::Twine(have)));
  int64_t row = have == 0 ? 0 : type->getNumElements() / have;
  return elements(bind, first * row, count * row, out);
}

llvm::Error WeightEvaluator::elements(StringRef bind, int64_t first, int64_t count,
                                      llvm::SmallVectorImpl<char> &out) {
  auto type = this->type(bind);
  if (!type)
    return type.takeError();
  int64_t have = type->getNumElements();
  if (first < 0 || count < 0 || first > have || count > have - first)
    return named(bind,
                 llvm::createStringError(llvm::inconvertibleErrorCode(),
                                         llvm::Twine(count) + " elements from " +
                                             llvm::Twine(first) + " are asked for, it has " +
                                             llvm::Twine(have)));
  out.resize_for_overwrite(static_cast<size_t>(count * elementBytes(type->getElementType())));
  return named(bind, data->into(*data->value(bind), first, count, out.data()));
}

// The source of a transpose of two axes, seen through casts; null when it is none.
static mlir::Value transposeSource(mlir::Value value) {
  mlir::Operation *op = value.getDefiningOp();
  while (op && op->getName().getStringRef() == "moe.weight.cast" && op->getNumOperands() == 1)
    op = op->getOperand(0).getDefiningOp();
  if (!op || op->getName().getStringRef() != "moe.weight.transpose" || op->getNumOperands() != 1)
    return {};
  auto perm = op->getAttrOfType<mlir::DenseI64ArrayAttr>("perm");
  return perm && perm.asArrayRef() == ArrayRef<int64_t>({1, 0}) ? op->getOperand(0) : mlir::Value();
}

bool WeightEvaluator::isTransposed(StringRef bind) {
  auto it = data->binds.find(bind);
  return it != data->binds.end() && transposeSource(it->second);
}

llvm::Error WeightEvaluator::columns(StringRef bind, int64_t first, int64_t count,
                                     llvm::SmallVectorImpl<char> &out) {
  auto type = this->type(bind);
  if (!type)
    return type.takeError();
  mlir::Value value = *data->value(bind), source = transposeSource(value);
  if (!source || first < 0 || count < 0 || count > type->getDimSize(1) - first)
    return named(bind, fault(value, "has no such columns to be read"));
  int64_t column = type->getDimSize(0);
  // The casts between, from the source on.
  llvm::SmallVector<mlir::Value> stages;
  for (mlir::Value v = value; v != source; v = v.getDefiningOp()->getOperand(0))
    if (v.getDefiningOp()->getName().getStringRef() == "moe.weight.cast")
      stages.push_back(v);
  auto elementOf = [](mlir::Value v) {
    return llvm::cast<mlir::RankedTensorType>(v.getType()).getElementType();
  };
  mlir::Type element = elementOf(source);
  out.resize_for_overwrite(static_cast<size_t>(count * column * elementBytes(element)));
  if (llvm::Error error = data->into(source, first * column, count * column, out.data()))
    return named(bind, std::move(error));
  for (mlir::Value stage : llvm::reverse(stages)) {
    llvm::SmallVector<char, 0> next;
    next.resize_for_overwrite(static_cast<size_t>(count * column * elementBytes(elementOf(stage))));
    convertElements(element, out.data(), elementOf(stage), next.data(), count * column);
    out.assign(next.begin(), next.end());
    element = elementOf(stage);
  }
  return llvm::Error::success();
}

llvm::Error WeightEvaluator::all(StringRef bind, llvm::SmallVectorImpl<char> &out) {
  auto type = this->type(bind);
  if (!type)
    return type.takeError();
  return rows(bind, 0, type->getRank() == 0 ? 1 : type->getDimSize(0), out);
}

llvm::Error WeightEvaluator::Data::into(mlir::Value value, int64_t first, int64_t count,
                                        char *out) {
  if (count == 0)
    return llvm::Error::success();
  auto piece = get(value, first, count, out);
  if (!piece)
    return piece.takeError();
  if (piece->bytes.data() != out)
    std::memcpy(out, piece->bytes.data(), piece->bytes.size());
  touched(piece->mapped);
  return llvm::Error::success();
}

void WeightEvaluator::Data::touched(ArrayRef<char> mapped) {
  if (mapped.empty())
    return;
  // The system maps up to a whole large page around each one that is touched.
  constexpr uintptr_t kLargePage = 2 << 20;
  uintptr_t first = reinterpret_cast<uintptr_t>(mapped.begin()) / kLargePage;
  uintptr_t last = (reinterpret_cast<uintptr_t>(mapped.end()) - 1) / kLargePage;
  resident += static_cast<int64_t>((last - first + (first != lastPage)) * kLargePage);
  lastPage = last;
  if (resident < 4 * kChunkBytes)
    return;
  reader.releaseAll();
  resident = 0;
  lastPage = 0;
}

llvm::Expected<Piece> WeightEvaluator::Data::get(mlir::Value value, int64_t first, int64_t count,
                                                 char *out) {
  auto type = llvm::dyn_cast<mlir::RankedTensorType>(value.getType());
  mlir::Operation *op = value.getDefiningOp();
  if (!op || !isPlain(type))
    return fault(value, "is unsupported: it is no tensor of numbers of static shape");
  for (mlir::Value operand : op->getOperands())
    if (!isPlain(llvm::dyn_cast<mlir::RankedTensorType>(operand.getType())))
      return fault(value, "is unsupported: an operand is no tensor of numbers of static shape");
  Step step{op, value, type, elementBytes(type.getElementType()), first, count};
  // A map or a literal may lend its own bytes; everything else writes.
  StringRef name = op->getName().getStringRef();
  if (name == "moe.weight.load")
    return load(step, out);
  if (depth == kMaxDepth)
    return fault(value, "is unsupported: more than " + llvm::Twine(kMaxDepth) + " steps deep");
  ++depth;
  auto result = name == "moe.weight.reshape" ? reshape(step, out) : written(step, name, out);
  --depth;
  return result;
}

llvm::Expected<Piece> WeightEvaluator::Data::written(const Step &step, StringRef name,
                                                     char *out) {
  using Method = llvm::Error (Data::*)(const Step &, char *);
  static const llvm::StringMap<Method> methods = {
      {"moe.weight.literal", &Data::literal}, {"moe.weight.cast", &Data::cast},
      {"moe.weight.transpose", &Data::transpose}, {"moe.weight.slice", &Data::slice},
      {"moe.weight.gather", &Data::gather},   {"moe.weight.concat", &Data::concat},
      {"moe.weight.combine", &Data::combine}, {"moe.weight.low_rank", &Data::lowRank},
      {"moe.weight.unpack", &Data::unpack},   {"moe.weight.dequantize", &Data::dequantize}};
  auto method = methods.find(name);
  if (method == methods.end())
    return fault(step.value, "is unsupported as a step of a weight");
  Piece piece;
  size_t length = static_cast<size_t>(step.count * step.bytes);
  if (!out) {
    piece.owned.reset(new char[length]);
    out = piece.owned.get();
  }
  piece.bytes = {out, length};
  if (llvm::Error error = (this->*method->second)(step, out))
    return std::move(error);
  return piece;
}

llvm::Expected<Piece> WeightEvaluator::Data::load(const Step &step, char *out) {
  auto file = step.op->getAttrOfType<mlir::StringAttr>("file");
  auto offset = step.op->getAttrOfType<mlir::IntegerAttr>("offset");
  if (!file || !offset || offset.getInt() < 0)
    return fault(step.value, "needs a file and an offset");
  mlir::Type element = step.type.getElementType();
  int64_t bits = storageBits(element), units = llvm::isa<mlir::ComplexType>(element) ? 2 : 1;
  int64_t firstByte = step.first * bits / 8;
  int64_t endByte = ((step.first + step.count) * bits + 7) / 8;
  auto bytes = reader.map(file.getValue(),
                          static_cast<uint64_t>(offset.getInt()) + static_cast<uint64_t>(firstByte),
                          static_cast<uint64_t>(endByte - firstByte));
  if (!bytes)
    return bytes.takeError();
  Piece piece;
  piece.mapped = *bytes;
  if (units == 2 || (bits >= 8 && !element.isInteger(1))) {
    piece.bytes = *bytes;
    return piece;
  }
  size_t length = static_cast<size_t>(step.count * step.bytes);
  if (!out) {
    piece.owned.reset(new char[length]);
    out = piece.owned.get();
  }
  piece.bytes = {out, length};
  unpackElements(element, bytes->data() - firstByte, step.first, step.count, out);
  return piece;
}

llvm::Expected<Piece> WeightEvaluator::Data::reshape(const Step &step, char *out) {
  if (step.op->getNumOperands() != 1 ||
      elementsOf(step.op->getOperand(0)) != step.type.getNumElements())
    return fault(step.value, "changes the number of elements");
  return get(step.op->getOperand(0), step.first, step.count, out);
}

// Bytes that the IR refers to: in memory, or a map of a file, whose pages are told off again (which
// changes no byte, whatever kind of memory it is).
llvm::Error WeightEvaluator::Data::resource(const Step &step, char *out) {
  auto value = step.op->getAttrOfType<mlir::DenseResourceElementsAttr>("value");
  mlir::AsmResourceBlob *blob = value.getRawHandle().getBlob();
  mlir::Type element = step.type.getElementType();
  if (storageBits(element) != 8 * step.bytes || element.isInteger(1))
    return fault(step.value, "is unsupported: a resource whose elements are no whole bytes");
  size_t all = static_cast<size_t>(step.type.getNumElements() * step.bytes);
  if (value.getType() != step.type || !blob || blob->getData().size() != all)
    return fault(step.value, "has a resource that is missing or not of its type's size");
  ArrayRef<char> bytes = blob->getData().slice(static_cast<size_t>(step.first * step.bytes),
                                               static_cast<size_t>(step.count * step.bytes));
  std::memcpy(out, bytes.data(), bytes.size());
  copied(bytes);
  return llvm::Error::success();
}

void WeightEvaluator::Data::copied(ArrayRef<char> literal) {
  if (!literals.empty() && literals.back().end() == literal.begin())
    literals.back() = {literals.back().begin(), literal.end()};
  else
    literals.push_back(literal);
  literalBytes += static_cast<int64_t>(literal.size());
  if (literalBytes < 4 * kChunkBytes)
    return;
  auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (ArrayRef<char> range : literals) {
    auto begin = llvm::alignDown(reinterpret_cast<uintptr_t>(range.begin()), page);
    auto end = llvm::alignTo(reinterpret_cast<uintptr_t>(range.end()), page);
    madvise(reinterpret_cast<void *>(begin), end - begin, MADV_PAGEOUT);
  }
  literals.clear();
  literalBytes = 0;
}

llvm::Error WeightEvaluator::Data::literal(const Step &step, char *out) {
  if (step.op->getAttrOfType<mlir::DenseResourceElementsAttr>("value"))
    return resource(step, out);
  auto value = step.op->getAttrOfType<mlir::DenseElementsAttr>("value");
  if (!value || value.getType() != step.type)
    return fault(step.value, "has no value of its type");
  mlir::Type element = step.type.getElementType();
  ArrayRef<char> raw = value.getRawData();
  if (!element.isInteger(1)) {
    bool splat = value.isSplat();
    if (raw.size() < static_cast<size_t>((splat ? 1 : step.type.getNumElements()) * step.bytes))
      return fault(step.value, "is unsupported: its value is stored in another form");
    if (!splat)
      std::memcpy(out, raw.data() + step.first * step.bytes,
                  static_cast<size_t>(step.count * step.bytes));
    for (int64_t i = 0; splat && i < step.count; ++i)
      std::memcpy(out + i * step.bytes, raw.data(), static_cast<size_t>(step.bytes));
    // Attributes keep small numbers zero-extended.
    auto integer = llvm::dyn_cast<mlir::IntegerType>(element);
    if (unsigned width = integer && !integer.isUnsigned() ? integer.getWidth() : 8; width < 8)
      for (int64_t i = 0; i < step.count; ++i)
        out[i] = static_cast<char>(llvm::SignExtend64(static_cast<uint8_t>(out[i]), width));
    return llvm::Error::success();
  }
  auto it = value.value_begin<bool>() + step.first;
  for (int64_t i = 0; i < step.count; ++i)
    out[i] = *it++;
  return llvm::Error::success();
}
