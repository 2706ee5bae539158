// The check that attention and cache_write share: pages of K and V, one layer of a pool, plain or tiled
// (core/geometry.h).
#pragma once

#include "core/check.h"

namespace aapt {

// What pages must be like, from the operator's other arguments.
struct PageShape {
  int heads, rows, head_dim;
  DType dtype;
  Device device;
};

// Throws ArgumentError; k_name and v_name are what the operator calls the two. Returns whether they are tiled.
bool check_pages(const Check& check, const Tensor& k, const std::string& k_name, const Tensor& v,
                 const std::string& v_name, const PageShape& shape);

}  // namespace aapt
