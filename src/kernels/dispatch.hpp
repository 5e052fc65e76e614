// What the variants hand to the dispatcher: one constant table of functions each, in files compiled for their
// instruction set. The tables are read-only; any thread.
#pragma once

#include "kernels/kernels.hpp"

namespace hawser::kernels {

constexpr std::size_t index_of(Dtype dtype) { return static_cast<std::size_t>(dtype); }
constexpr std::size_t index_of(Redop redop) { return static_cast<std::size_t>(redop); }
constexpr std::size_t half_index(Dtype dtype) { return dtype == Dtype::f16 ? 0 : 1; }

// How far ahead of their use loops ask for bytes in memory: one processor has more such requests under way than it has
// loads and stores that wait. Of addresses that are none nothing comes.
constexpr std::size_t asked_ahead = 1024;

struct Table {
  ReduceFn reduce[dtype_count][redop_count];
  WideFns wide[2][redop_count];  // by half_index
  void (*narrow[2])(void* dst, const float* src_wide, std::size_t count, std::uint32_t divisor);
  void (*widen[2])(float* dst, const void* src, std::size_t count);
  void (*divide[dtype_count])(void* data, std::size_t count, std::uint32_t divisor);
  // No half-width floats.
  void (*mean[dtype_count])(void* dst, const void* a, const void* b, std::size_t count, std::uint32_t divisor);
  bool (*all_finite)(const float* data, std::size_t count);
  Digest (*digest)(const void* data, std::size_t bytes, std::uint64_t piece);
  void (*digest_begin)(HashState& state, std::uint64_t piece);
  // left: bytes still to come, these included.
  void (*digest_add)(HashState& state, const void* data, std::size_t bytes, std::size_t left);
  Digest (*digest_value)(const HashState& state);
  std::uint64_t (*checksum)(const void* data, std::size_t bytes);
  void (*checksum_begin)(HashState& state);
  void (*checksum_add)(HashState& state, const void* data, std::size_t bytes);
  std::uint64_t (*checksum_value)(const HashState& state);
};

extern const Table scalar_table;
#if defined(__x86_64__)
extern const Table avx2_table;
extern const Table avx512_table;
#endif

// Of a variant which this processor lacks, the best it has instead: the bits are the same.
const Table& table_of(Variant variant);

// What HAWSER_KERNELS, nullptr when unset, makes of `best`. Warns in the log when it asks for what cannot be had.
Variant choose_variant(const char* setting, Variant best);

}  // namespace hawser::kernels
