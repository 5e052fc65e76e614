// Formats and sizes of blobs; encoding and decoding go to the variant that is asked for. Any thread.
#include "codec/codec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/assert.hpp"
#include "codec/dispatch.hpp"

namespace hawser::codec {
namespace {

using kernels::Variant;

constexpr std::uint32_t default_block(Codec codec) {
  switch (codec) {
    case Codec::none:
    case Codec::bf16:
    case Codec::f16:
      return 1;
    case Codec::int8:
    case Codec::minmax8:
      return 256;
    case Codec::int4:
      return 64;
  }
  return 0;
}

bool has_blocks(Codec codec) { return default_block(codec) > 1; }

// Bytes of `count` elements of one block, or of any number where there are no blocks.
std::size_t block_bytes(Codec codec, std::size_t count) {
  switch (codec) {
    case Codec::none:
      return 4 * count;
    case Codec::bf16:
    case Codec::f16:
      return 2 * count;
    case Codec::int8:
      return 4 + count;
    case Codec::int4:
      return 4 + (count + 1) / 2;
    case Codec::minmax8:
      return 8 + count;
  }
  return 0;
}

// Of a variant which this processor lacks, the best it has instead, as with the kernels.
const Table& table_of(Variant variant) {
#if defined(__x86_64__)
  switch (std::min(variant, kernels::best_variant())) {
    case Variant::scalar:
      return scalar_table;
    case Variant::avx2:
      return avx2_table;
    case Variant::avx512:
      return avx512_table;
  }
#endif
  static_cast<void>(variant);
  return scalar_table;
}

void check_format(const Format& format) { HAWSER_ASSERT(format.block != 0, "a format comes from make_format"); }

}  // namespace

const char* codec_name(Codec codec) {
  switch (codec) {
    case Codec::none:
      return "none";
    case Codec::bf16:
      return "bf16";
    case Codec::f16:
      return "f16";
    case Codec::int8:
      return "int8";
    case Codec::int4:
      return "int4";
    case Codec::minmax8:
      return "minmax8";
  }
  return "unknown";
}

std::uint64_t supported_codecs() { return (std::uint64_t{1} << codec_count) - 1; }

Result<Format> make_format(std::uint32_t codec, std::uint32_t block, std::uint32_t rounding) {
  if (codec >= codec_count) {
    return Status(Code::INVALID_ARGUMENT,
                  fmt::format("codec {} is unknown; known are 0 to {}", codec, codec_count - 1));
  }
  if (rounding > static_cast<std::uint32_t>(Rounding::stochastic)) {
    return Status(Code::INVALID_ARGUMENT,
                  fmt::format("rounding {} is unknown; known are 0, nearest, and 1, stochastic", rounding));
  }
  const Codec id = static_cast<Codec>(codec);
  if (!has_blocks(id)) {
    if (block > 1) {
      return Status(Code::INVALID_ARGUMENT,
                    fmt::format("codec {} has no blocks: block must be 0, not {}", codec_name(id), block));
    }
  } else if (block != 0 && (!std::has_single_bit(block) || block < block_min || block > block_max)) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("block {} of codec {} must be 0 or a power of two from {} to {}",
                                                      block, codec_name(id), block_min, block_max));
  }
  return Format{id, block != 0 ? block : default_block(id),
                id == Codec::none ? Rounding::nearest : static_cast<Rounding>(rounding)};
}

std::size_t encoded_bytes(const Format& format, std::size_t count) {
  check_format(format);
  if (!has_blocks(format.codec)) return block_bytes(format.codec, count);
  const std::size_t rest = count % format.block;
  return count / format.block * block_bytes(format.codec, format.block) +
         (rest != 0 ? block_bytes(format.codec, rest) : 0);
}

Status check_blob(const Format& format, std::size_t count, std::size_t bytes) {
  const std::size_t expected = encoded_bytes(format, count);
  if (bytes == expected) return {};
  return {Code::MISMATCH, fmt::format("{} elements are {} bytes with codec {} and block {}, not {} ({} {})", count,
                                      expected, codec_name(format.codec), format.block, bytes,
                                      bytes > expected ? bytes - expected : expected - bytes,
                                      bytes > expected ? "too many" : "too few")};
}

void encode(const Format& format, const float* in, std::size_t count, std::byte* out, const Noise& noise,
            Variant variant) {
  check_format(format);
  table_of(variant).encode(format, in, count, out, noise);
}

void decode(const Format& format, const std::byte* in, std::size_t count, float* out, Variant variant) {
  check_format(format);
  table_of(variant).decode(format, in, count, out);
}

void decode_add(const Format& format, const std::byte* in, std::size_t count, float* acc, float weight,
                Variant variant) {
  check_format(format);
  table_of(variant).decode_add(format, in, count, acc, weight);
}

void encode_fed_back(const Format& format, const float* in, const float* residual, float decay, std::size_t count,
                     std::byte* out, float* residual_out, const Noise& noise, Variant variant) {
  check_format(format);
  table_of(variant).encode_fed_back(format, in, residual, decay, count, out, residual_out, noise);
}

}  // namespace hawser::codec
