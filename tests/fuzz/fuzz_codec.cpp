// The codecs: blobs of strangers, and floats of any bits. What must hold: a blob of the right length has a result
// whatever is in it, the same from every variant, with no NaN but the canonical one; a wrong length is named; what is
// encoded decodes to numbers where the floats are finite.
//
// Input: byte 0 is the codec, byte 1 the binary logarithm of the block (0: the default; odd ones above 15 are no power
// of two), byte 2 the rounding, byte 3 chooses: 0 decode, 1 decode and add, 2 encode, 3 encode with feedback; its upper
// bits move the addresses. The rest is the blob, or floats.
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "codec/codec.hpp"

using namespace hawser;
using codec::Codec;
using codec::Format;
using codec::Noise;
using kernels::Variant;

namespace {

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "fuzz_codec: %s\n", sentence);
  std::abort();
}

// A copy that ends with its allocation and begins `shift` bytes behind it.
class Copy {
 public:
  Copy(std::span<const std::uint8_t> bytes, std::size_t shift)
      : shift_(shift), memory_(new unsigned char[bytes.size() + shift]) {
    if (!bytes.empty()) std::memcpy(memory_.get() + shift, bytes.data(), bytes.size());
  }
  [[nodiscard]] std::byte* bytes() { return reinterpret_cast<std::byte*>(memory_.get() + shift_); }

 private:
  std::size_t shift_;
  std::unique_ptr<unsigned char[]> memory_;
};

// The most elements whose blob is no longer than `bytes`.
std::size_t count_of(const Format& format, std::size_t bytes) {
  std::size_t count = bytes * 2;
  while (codec::encoded_bytes(format, count) > bytes) --count;
  return count;
}

void check_lengths(const Format& format, std::size_t count, std::size_t bytes) {
  const std::size_t right = codec::encoded_bytes(format, count);
  const Status status = codec::check_blob(format, count, bytes);
  require(status.ok() == (right == bytes), "check_blob is wrong about a length");
  require(status.ok() || !status.text().empty(), "an error without a reason");
  require(codec::encoded_bytes(format, count + 2) > right, "two more elements take no more bytes");
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.empty() || std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

// No NaN but the canonical one, where `raw` bits are not passed on.
void check_nans(const std::vector<float>& values) {
  for (const float x : values) {
    require(x == x || std::bit_cast<std::uint32_t>(x) == 0x7fc00000u, "a NaN that is not the canonical one");
  }
}

template <typename Run>
void for_variants(Run run) {
  const auto expected = run(Variant::scalar);
  for (const Variant variant : {Variant::avx2, Variant::avx512}) {
    require(same(run(variant), expected), "variants differ");
  }
}

void decode(const Format& format, std::span<const std::uint8_t> input, std::size_t shift, bool add) {
  const std::size_t count = count_of(format, input.size());
  check_lengths(format, count, input.size());
  const std::size_t bytes = codec::encoded_bytes(format, count);
  for_variants([&](Variant variant) {
    Copy blob(input.first(bytes), shift);
    std::vector<float> out(count, -1.5F);
    if (add) {
      codec::decode_add(format, blob.bytes(), count, out.data(), 0.7F, variant);
    } else {
      codec::decode(format, blob.bytes(), count, out.data(), variant);
    }
    if (add || format.codec != Codec::none) check_nans(out);
    return out;
  });
}

void encode(const Format& format, std::span<const std::uint8_t> input, std::size_t shift, bool feed_back) {
  const std::size_t count = input.size() / sizeof(float);
  std::vector<float> in(count);
  if (count > 0) std::memcpy(in.data(), input.data(), 4 * count);
  const std::size_t bytes = codec::encoded_bytes(format, count);
  const Noise noise{bytes, shift * format.block};
  std::vector<std::uint8_t> first;
  for_variants([&](Variant variant) {
    const std::vector<std::uint8_t> dirt(bytes, 0xa5);
    Copy blob(dirt, shift);
    std::vector<float> residual(count, 0.25F);
    if (feed_back) {
      codec::encode_fed_back(format, in.data(), residual.data(), 0.5F, count, blob.bytes(), residual.data(), noise,
                             variant);
    } else {
      codec::encode(format, in.data(), count, blob.bytes(), noise, variant);
    }
    std::vector<std::uint8_t> got(bytes);
    if (bytes > 0) std::memcpy(got.data(), blob.bytes(), bytes);
    if (variant == Variant::scalar) first = got;
    require(got == first, "variants encode to different bytes");

    std::vector<float> out(count);
    codec::decode(format, blob.bytes(), count, out.data(), variant);
    if (format.codec != Codec::none) check_nans(out);
    for (std::size_t i = 0; i < count; ++i) {
      require(!feed_back || residual[i] - residual[i] == 0, "a residual that is not finite");
      const bool wide = format.codec == Codec::bf16 || format.codec == Codec::f16;  // these have infinities
      if (feed_back || wide || in[i] - in[i] != 0) continue;
      bool finite = true;
      for (std::size_t j = i / format.block * format.block; j < count && j / format.block == i / format.block; ++j) {
        finite = finite && in[j] - in[j] == 0;
      }
      require(!finite || out[i] - out[i] == 0, "finite values that decode to others");
    }
    out.insert(out.end(), residual.begin(), residual.end());
    return out;
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4 || size > 20000) return 0;
  const std::uint32_t block = data[1] == 0 ? 0 : (1u << data[1] % 16) + (data[1] >= 16 ? data[1] % 2 : 0);
  const auto format = codec::make_format(data[0], block, data[2]);
  if (!format.ok()) {
    require(!format.status().text().empty(), "an error without a reason");
    return 0;
  }
  require(data[0] < codec::codec_count && data[2] < 2, "a format that does not exist was made");
  const std::span<const std::uint8_t> input(data + 4, size - 4);
  const std::size_t shift = data[3] / 4 % 8;
  switch (data[3] % 4) {
    case 0:
    case 1:
      decode(format.value(), input, shift, data[3] % 4 == 1);
      break;
    default:
      encode(format.value(), input, shift, data[3] % 4 == 3);
  }
  check_lengths(format.value(), size, input.size());
  return 0;
}
