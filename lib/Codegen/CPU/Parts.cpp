// Which functions the table of each operation holds, in the order of moert/kernels.h.
#include "Emit.h"
#include "Pipelines.h"
#include "moert/kernels.h"

namespace moec::cpu {
namespace {

struct Builder {
  const KernelSpec &spec;
  const Isa &isa;
  KernelParts parts;

  void add(TableField field) { parts.table.push_back(std::move(field)); }

  void addFunction(Halide::Module module) {
    add(module.functions().back().name);
    parts.functions.push_back(std::move(module));
  }

  void addHead(moert_kernel_op op) {
    add(uint32_t(MOERT_KERNEL_VERSION));
    add(uint32_t(op));
  }

  void addTiles() {
    constexpr uint32_t bytes[] = {4, 2, 2};
    bool gated = spec.op == KernelOp::ExpertsUp && spec.gated;
    add(bytes[static_cast<unsigned>(spec.weight)]);
    add(uint32_t(gated ? 2 * MOERT_COLUMNS : MOERT_COLUMNS));
    constexpr int widths[MOERT_TILE_WIDTHS] = {4, 2, 1};
    for (int rows = 1; rows <= MOERT_TILE_ROWS; ++rows)
      for (int width : widths)
        add(uint32_t(tileShape(isa, gated, rows, width).panels));
    for (int rows = 1; rows <= MOERT_TILE_ROWS; ++rows) {
      int made = 0; // panels of the last function made
      for (int width : widths) {
        TileShape shape = tileShape(isa, gated, rows, width);
        std::string name = "tile" + std::to_string(rows) + "x" + std::to_string(shape.panels);
        if (shape.panels == made)
          add(name);
        else
          addFunction(tileKernel(spec, isa, shape, name));
        made = shape.panels;
      }
    }
  }
};

} // namespace

KernelParts makeParts(const KernelSpec &spec, const Isa &isa) {
  Builder builder{spec, isa, {}};
  switch (spec.op) {
  case KernelOp::Gemm: // moert_gemm_kernel
    builder.addHead(MOERT_KERNEL_GEMM);
    builder.addTiles();
    builder.addFunction(combineKernel(isa, "combine"));
    break;
  case KernelOp::ExpertsUp: // moert_up_kernel
    builder.addHead(MOERT_KERNEL_EXPERTS_UP);
    builder.addTiles();
    break;
  case KernelOp::Bgemm: // moert_bgemm_kernel
  case KernelOp::Attention:
    builder.addHead(spec.op == KernelOp::Bgemm ? MOERT_KERNEL_BGEMM : MOERT_KERNEL_ATTENTION);
    builder.addTiles();
    builder.addFunction(dotKernel(isa, "dot"));
    if (spec.op == KernelOp::Attention)
      builder.addFunction(scoresKernel(RouterScore::Softmax, isa, "softmax"));
    else
      builder.add(std::string());
    break;
  case KernelOp::Route: // moert_route_kernel
    builder.addHead(MOERT_KERNEL_ROUTE);
    builder.add(static_cast<uint32_t>(spec.score));
    builder.add(static_cast<uint32_t>(spec.renorm));
    builder.add(spec.epsilon);
    builder.add(spec.minimum);
    builder.add(spec.scale);
    builder.add(uint32_t(0));
    if (spec.score == RouterScore::Identity)
      builder.add(std::string());
    else
      builder.addFunction(scoresKernel(spec.score, isa, "scores"));
    break;
  }
  return std::move(builder.parts);
}

} // namespace moec::cpu
