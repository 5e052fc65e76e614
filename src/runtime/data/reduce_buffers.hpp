// What the user gave to an all-reduce.
#pragma once

#include <cstddef>

#include "base/types.hpp"

namespace hawser::runtime {

struct ReduceBuffers {
  const std::byte* send = nullptr;
  std::byte* recv = nullptr;
  std::size_t count = 0;
  Dtype dtype = Dtype::f32;
  Redop redop = Redop::sum;
};

}  // namespace hawser::runtime
