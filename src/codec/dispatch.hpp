// What the variants hand to the functions of codec.hpp: one constant table each, in files compiled for their
// instruction set, as in the kernels. Formats here are those of make_format. Any thread.
#pragma once

#include "codec/codec.hpp"

namespace hawser::codec {

struct Table {
  void (*encode)(const Format& format, const float* in, std::size_t count, std::byte* out, const Noise& noise);
  void (*decode)(const Format& format, const std::byte* in, std::size_t count, float* out);
  void (*decode_add)(const Format& format, const std::byte* in, std::size_t count, float* acc, float weight);
  void (*encode_fed_back)(const Format& format, const float* in, const float* residual, float decay, std::size_t count,
                          std::byte* out, float* residual_out, const Noise& noise);
};

extern const Table scalar_table;
#if defined(__x86_64__)
extern const Table avx2_table;
extern const Table avx512_table;
#endif

}  // namespace hawser::codec
