// The layouts of Program.h.
#include "Parts.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace moec;
using namespace moec::link;

namespace {

constexpr int64_t kColumns = 16;     // of a panel
constexpr int64_t kBlock = 16 << 20; // bytes of rows that are read at a time

enum class Layout { plain, columns, rows, experts, gateUp };

std::optional<Layout> layoutOf(llvm::StringRef name) {
  return llvm::StringSwitch<std::optional<Layout>>(name)
      .Case("plain", Layout::plain)
      .Case("panel16", Layout::columns)
      .Case("panel16_nk", Layout::rows)
      .Case("experts_panel16_nk", Layout::experts)
      .Case("experts_gate_up16", Layout::gateUp)
      .Default(std::nullopt);
}

// rows [N][K] -> the columns [offset, offset + 16) of panels [ceil(N/16)][K][width].
template <typename T>
void panels(const T *rows, int64_t n, int64_t k, T *out, int64_t width, int64_t offset) {
  for (int64_t panel = 0; panel * kColumns < n; ++panel) {
    int64_t columns = std::min(kColumns, n - panel * kColumns);
    T *to = out + panel * k * width + offset;
    const T *from = rows + panel * kColumns * k;
    // In tiles of 16 x 16: both sides stay in the cache.
    for (int64_t first = 0; first < k; first += kColumns)
      for (int64_t c = 0; c < columns; ++c)
        for (int64_t i = first, end = std::min(first + kColumns, k); i < end; ++i)
          to[i * width + c] = from[c * k + i];
  }
}

void panels(int64_t elementBytes, const Bytes &rows, int64_t n, int64_t k, Bytes &out,
            int64_t width, int64_t offset) {
  auto run = [&]<typename T>(T) {
    panels(reinterpret_cast<const T *>(rows.data()), n, k, reinterpret_cast<T *>(out.data()), width,
           offset);
  };
  switch (elementBytes) {
  case 1:
    return run(uint8_t());
  case 2:
    return run(uint16_t());
  case 4:
    return run(uint32_t());
  default:
    return run(uint64_t());
  }
}

int64_t panelCount(int64_t n) { return llvm::divideCeil(n, kColumns); }

} // namespace

struct Packer::Form {
  Layout layout;
  mlir::Type from, to;  // element types of the bind and of the file
  int64_t element = 0;  // bytes in the file
  int64_t outer = 1;    // rows of axis 0
  int64_t n = 1, k = 1; // of one matrix (of an expert); N columns in panels, K deep
  uint64_t total = 0;   // bytes of the slab
  bool turned = false;  // columns are read instead of rows
};

uint32_t moec::link::onnxCode(llvm::StringRef dtype) {
  return llvm::StringSwitch<uint32_t>(dtype)
      .Case("f32", 1)
      .Case("ui8", 2)
      .Case("i8", 3)
      .Case("ui16", 4)
      .Case("i16", 5)
      .Case("i32", 6)
      .Case("i64", 7)
      .Case("i1", 9)
      .Case("f16", 10)
      .Case("f64", 11)
      .Case("ui32", 12)
      .Case("ui64", 13)
      .Case("bf16", 16)
      .Case("f8E4M3FN", 17)
      .Case("f8E4M3FNUZ", 18)
      .Case("f8E5M2", 19)
      .Case("f8E5M2FNUZ", 20)
      .Case("ui4", 21)
      .Case("i4", 22)
      .Case("f4E2M1FN", 23)
      .Case("f8E8M0FNU", 24)
      .Case("ui2", 25)
      .Case("i2", 26)
      .Default(0);
}

mlir::Type moec::link::elementType(mlir::MLIRContext *context, llvm::StringRef dtype) {
  mlir::Builder b(context);
  if (dtype == "f32")
    return b.getF32Type();
  if (dtype == "f16")
    return b.getF16Type();
  if (dtype == "bf16")
    return b.getBF16Type();
  if (dtype == "f64")
    return b.getF64Type();
  if (dtype == "f8E4M3FN")
    return mlir::Float8E4M3FNType::get(context);
  if (dtype == "f8E4M3FNUZ")
    return mlir::Float8E4M3FNUZType::get(context);
  if (dtype == "f8E5M2")
    return mlir::Float8E5M2Type::get(context);
  if (dtype == "f8E5M2FNUZ")
    return mlir::Float8E5M2FNUZType::get(context);
  if (dtype == "f4E2M1FN")
    return mlir::Float4E2M1FNType::get(context);
  if (dtype == "f8E8M0FNU")
    return mlir::Float8E8M0FNUType::get(context);
  if (!onnxCode(dtype))
    return {};
  unsigned width;
  bool isUnsigned = dtype.consume_front("u");
  if (!dtype.consume_front("i") || dtype.getAsInteger(10, width))
    return {};
  return b.getIntegerType(width).getWidth() && isUnsigned
             ? mlir::Type(b.getIntegerType(width, /*isSigned=*/false))
             : mlir::Type(b.getIntegerType(width));
}

llvm::Expected<Packer::Form> Packer::formOf(const WeightEntry &entry) {
  auto wrong = [&](const llvm::Twine &why) {
    return internalError("weight @" + entry.name + " (" + entry.layout + "): " + why);
  };
  auto layout = layoutOf(entry.layout);
  if (!layout)
    return wrong("unknown layout");
  if ((*layout == Layout::gateUp) == entry.name2.empty())
    return wrong("one weight where two are joined, or two where one is wanted");
  Form form{*layout, {}, elementType(context, entry.dtype)};
  if (!form.to)
    return wrong("unknown element type " + entry.dtype);
  for (llvm::StringRef name : {llvm::StringRef(entry.name), llvm::StringRef(entry.name2)}) {
    if (name.empty())
      continue;
    auto type = weights.type(name);
    if (!type)
      return type.takeError();
    if (type->getShape() != llvm::ArrayRef<int64_t>(entry.shape))
      return wrong("the shape of @" + name + " is another one than the program's");
    if (form.from && form.from != type->getElementType())
      return wrong("the joined weights have different element types");
    form.from = type->getElementType();
  }
  bool floats = llvm::isa<mlir::FloatType>(form.from) && llvm::isa<mlir::FloatType>(form.to);
  if (form.from != form.to && !floats)
    return wrong("cannot be stored as " + entry.dtype);
  form.element = elementBytes(form.to);
  size_t rank = entry.shape.size();
  bool experts = *layout == Layout::experts || *layout == Layout::gateUp;
  if ((experts && rank < 2) ||
      ((*layout == Layout::columns || *layout == Layout::rows) && rank != 2))
    return wrong("does not fit rank " + llvm::Twine(rank));
  form.outer = rank ? entry.shape[0] : 1;
  for (size_t i = 1; i < rank; ++i)
    if (experts && i == 1)
      form.n = entry.shape[i];
    else
      form.k *= entry.shape[i]; // a bias per expert is [E, N]: K is 1
  if (*layout == Layout::rows)
    form.n = form.outer;
  if (*layout == Layout::columns)
    std::swap(form.n, form.k), form.k = form.outer;
  int64_t padded = *layout == Layout::plain ? form.outer : panelCount(form.n) * kColumns;
  form.total = uint64_t(padded) * form.k * form.element;
  if (experts)
    form.total *= form.outer * (*layout == Layout::gateUp ? 2 : 1);
  return form;
}

llvm::Expected<uint64_t> Packer::bytes(const WeightEntry &entry) {
  auto form = formOf(entry);
  if (!form)
    return form.takeError();
  return form->total;
}

llvm::Error Packer::pack(const WeightEntry &entry, const SlabSink &sink) {
  auto form = formOf(entry);
  if (!form)
    return form.takeError();
  if (!form->total)
    return llvm::Error::success();
  switch (form->layout) {
  case Layout::plain:
    return packPlain(entry, *form, sink);
  case Layout::columns:
    form->turned = weights.isTransposed(entry.name);
    return form->turned ? packRows(entry, *form, sink) : packColumns(entry, *form, sink);
  case Layout::rows:
    return packRows(entry, *form, sink);
  case Layout::experts:
  case Layout::gateUp:
    return packExperts(entry, *form, sink);
  }
  llvm_unreachable("all layouts");
}

// Rows of axis 0 in the file's element type.
llvm::Error Packer::read(llvm::StringRef name, const Form &form, int64_t first, int64_t count,
                         Bytes &out) {
  auto lines = [&](Bytes &to) {
    return form.turned ? weights.columns(name, first, count, to)
                       : weights.rows(name, first, count, to);
  };
  if (form.from == form.to)
    return lines(out);
  Bytes raw;
  if (llvm::Error error = lines(raw))
    return error;
  int64_t elements = raw.size() / elementBytes(form.from);
  out.resize_for_overwrite(elements * form.element);
  convertFloats(form.from, raw.data(), form.to, out.data(), elements);
  return llvm::Error::success();
}

static int64_t rowsAtATime(int64_t rowBytes, int64_t multiple) {
  int64_t rows = std::max<int64_t>(kBlock / std::max<int64_t>(rowBytes, 1), 1);
  return llvm::alignTo(rows, multiple);
}

llvm::Error Packer::packPlain(const WeightEntry &entry, const Form &form, const SlabSink &sink) {
  Bytes rows;
  int64_t step = rowsAtATime(form.k * form.element, 1);
  for (int64_t first = 0; first < form.outer; first += step) {
    int64_t count = std::min(step, form.outer - first);
    if (llvm::Error error = read(entry.name, form, first, count, rows))
      return error;
    if (llvm::Error error = sink(first * form.k * form.element, rows))
      return error;
  }
  return llvm::Error::success();
}

// [K, N]: a block of rows gives a piece of every panel.
llvm::Error Packer::packColumns(const WeightEntry &entry, const Form &form, const SlabSink &sink) {
  Bytes rows, piece;
  int64_t step = rowsAtATime(form.n * form.element, 1);
  int64_t panelRow = kColumns * form.element;
  for (int64_t first = 0; first < form.k; first += step) {
    int64_t count = std::min(step, form.k - first);
    if (llvm::Error error = read(entry.name, form, first, count, rows))
      return error;
    for (int64_t panel = 0; panel < panelCount(form.n); ++panel) {
      int64_t columns = std::min(kColumns, form.n - panel * kColumns);
      piece.assign(count * panelRow, 0);
      for (int64_t r = 0; r < count; ++r)
        std::memcpy(piece.data() + r * panelRow,
                    rows.data() + (r * form.n + panel * kColumns) * form.element,
                    columns * form.element);
      if (llvm::Error error = sink((panel * form.k + first) * panelRow, piece))
        return error;
    }
  }
  return llvm::Error::success();
}

// [N, K]: 16 rows are a panel.
llvm::Error Packer::packRows(const WeightEntry &entry, const Form &form, const SlabSink &sink) {
  Bytes rows, packed;
  int64_t step = rowsAtATime(form.k * form.element, kColumns);
  for (int64_t first = 0; first < form.n; first += step) {
    int64_t count = std::min(step, form.n - first);
    if (llvm::Error error = read(entry.name, form, first, count, rows))
      return error;
    packed.assign(panelCount(count) * kColumns * form.k * form.element, 0);
    panels(form.element, rows, count, form.k, packed, kColumns, 0);
    if (llvm::Error error = sink(first * form.k * form.element, packed))
      return error;
  }
  return llvm::Error::success();
}

// [E, N, K], or two of them side by side: an expert at a time.
llvm::Error Packer::packExperts(const WeightEntry &entry, const Form &form, const SlabSink &sink) {
  Bytes rows, packed;
  bool joined = form.layout == Layout::gateUp;
  int64_t width = joined ? 2 * kColumns : kColumns;
  uint64_t expertBytes = uint64_t(panelCount(form.n)) * form.k * width * form.element;
  for (int64_t expert = 0; expert < form.outer; ++expert) {
    packed.assign(expertBytes, 0);
    for (int part = 0; part < (joined ? 2 : 1); ++part) {
      if (llvm::Error error = read(part ? entry.name2 : entry.name, form, expert, 1, rows))
        return error;
      panels(form.element, rows, form.n, form.k, packed, width, part * kColumns);
    }
    if (llvm::Error error = sink(expert * expertBytes, packed))
      return error;
  }
  return llvm::Error::success();
}
