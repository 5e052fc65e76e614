// See the header. Compiled for the machine that builds it.
#include "plain.hpp"

namespace plain {

void add(float* __restrict dst, const float* __restrict a, const float* __restrict b, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = a[i] + b[i];
}

void add_narrow(std::uint32_t* __restrict dst, const std::uint16_t* __restrict a, const std::uint16_t* __restrict b,
                std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = std::uint32_t{a[i]} + std::uint32_t{b[i]};
}

void add_mixed(std::uint32_t* __restrict dst, const std::uint32_t* __restrict a, const std::uint16_t* __restrict b,
               std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = a[i] + b[i];
}

void narrow(std::uint16_t* __restrict dst, const std::uint32_t* __restrict src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = static_cast<std::uint16_t>(src[i] >> 16);
}

void widen(std::uint32_t* __restrict dst, const std::uint16_t* __restrict src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = std::uint32_t{src[i]} << 16;
}

void add_one(float* data, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) data[i] += 1.0F;
}

std::uint64_t sum(const std::uint64_t* data, std::size_t count) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < count; ++i) total += data[i];
  return total;
}

void bytes_of(std::uint8_t* __restrict dst, const std::uint32_t* __restrict src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = static_cast<std::uint8_t>(src[i]);
}

void add_bytes(std::uint32_t* __restrict acc, const std::uint8_t* __restrict src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) acc[i] += src[i];
}

void nibbles_of(std::uint8_t* __restrict dst, const std::uint32_t* __restrict src, std::size_t count) {
  for (std::size_t i = 0; i < count / 2; ++i) {
    dst[i] = static_cast<std::uint8_t>((src[2 * i] & 15U) | (src[2 * i + 1] & 15U) << 4);
  }
}

void add_nibbles(std::uint32_t* __restrict acc, const std::uint8_t* __restrict src, std::size_t count) {
  for (std::size_t i = 0; i < count / 2; ++i) {
    acc[2 * i] += src[i] & 15U;
    acc[2 * i + 1] += src[i] >> 4;
  }
}

void add_halves(std::uint32_t* __restrict acc, const std::uint16_t* __restrict src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) acc[i] += src[i];
}

}  // namespace plain
