#include "core/check_pages.h"

#include "core/geometry.h"

namespace aapt {

bool check_pages(const Check& check, const Tensor& k, const std::string& k_name, const Tensor& v,
                 const std::string& v_name, const PageShape& shape) {
  const auto [heads, rows, head_dim, dtype, device] = shape;
  const bool tiled = k.dims == 6;
  if (tiled) {
    const int64_t blocks = key_blocks(rows), group = group_of(size_of(dtype));
    check.shape(k, k_name.c_str(), {-1, heads, blocks, head_dim / group, kKeyBlock, group},
                "tiled K [pages, h, ceil(rows/16), d/g, 16, g]");
    check.shape(v, v_name.c_str(), {k.size(0), heads, blocks * kKeyBlock / group, head_dim, group},
                "tiled V [pages, h, 16 ceil(rows/16)/g, d, g]");
    check.contiguous(k, k_name.c_str(), 4);
    check.contiguous(v, v_name.c_str(), 3);
  } else {
    check.shape(k, k_name.c_str(), {-1, heads, rows, head_dim}, "[pages, h, rows, d]");
    check.shape(v, v_name.c_str(), {k.size(0), heads, rows, head_dim}, "[pages, h, rows, d]");
    check.contiguous(k, k_name.c_str(), 1);
    check.contiguous(v, v_name.c_str(), 1);
  }
  for (const auto& [tensor, name] : {std::pair(&k, &k_name), std::pair(&v, &v_name)}) {
    check.dtype(*tensor, name->c_str(), dtype);
    check.device(*tensor, name->c_str(), device);
  }
  return tiled;
}

}  // namespace aapt
