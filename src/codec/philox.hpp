// The random numbers of stochastic rounding: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011. Counter-based: a word depends on the seed and the element's index alone, not on what
// was drawn before, so every variant, piece and rerun gets the same. Any thread.
//
// Element i has word (i / 16) % 4 of the four that belong to counter (i / 64) * 16 + i % 16. So the 64 elements of a
// group are the words of 16 counters next to one another, which vectors of 4, 8 and 16 lanes give in this order without
// moving a lane. Internal linkage, as in kernels/vector.hpp.
#pragma once

#include "kernels/vector.hpp"

namespace hawser::codec {
namespace {  // NOLINT(google-build-namespaces): see kernels/vector.hpp

inline constexpr std::size_t noise_group = 64;
inline constexpr std::size_t noise_piece = 256;  // elements for which a NoiseSource has words next to one another

// out[0..64 * groups): the words of as many groups, beginning with group `first`. The four words of a counter are the
// low halves of 64-bit lanes, for that is what the multiplication reads; so the counters of even and of odd lanes go
// apart.
template <class Isa>
[[gnu::noinline]] void fill_noise(std::uint32_t* out, std::uint64_t seed, std::uint64_t first,
                                  std::size_t groups) noexcept {
  constexpr std::size_t lanes = Isa::vector_bytes / sizeof(std::uint32_t);
  using Pairs = kernels::Vector<std::uint64_t, lanes / 2>;
  constexpr std::uint64_t low = 0xffffffffu;
  std::uint64_t keys[2][10];
  for (std::size_t round = 0; round < 10; ++round) {
    keys[0][round] = ((seed & low) + round * 0x9e3779b9u) & low;
    keys[1][round] = ((seed >> 32) + round * 0xbb67ae85u) & low;
  }
  Pairs lane_counter;
  for (std::size_t i = 0; i < lanes / 2; ++i) lane_counter[i] = 2 * i;
  for (std::size_t group = 0; group < groups; ++group) {
    const std::uint64_t counter = (first + group) * 16;
    for (std::size_t part = 0; part < 16; part += lanes) {
      Pairs words[2][4];
      for (std::uint64_t odd = 0; odd < 2; ++odd) {
        Pairs c0 = lane_counter + ((counter & low) + part + odd);  // below 2^32: the counter is a multiple of 16
        Pairs c1 = Pairs{} + (counter >> 32);
        Pairs c2{};
        Pairs c3{};
        for (std::size_t round = 0; round < 10; ++round) {
          const Pairs p0 = Isa::multiply_low(c0, 0xd2511f53u);
          const Pairs p1 = Isa::multiply_low(c2, 0xcd9e8d57u);
          c0 = (p1 >> 32) ^ c1 ^ keys[0][round];
          c1 = p1;
          c2 = (p0 >> 32) ^ c3 ^ keys[1][round];
          c3 = p0;
        }
        words[odd][0] = c0;
        words[odd][1] = c1;
        words[odd][2] = c2;
        words[odd][3] = c3;
      }
      for (std::size_t word = 0; word < 4; ++word) {
        const Pairs both = (words[0][word] & low) | (words[1][word] << 32);
        __builtin_memcpy(out + group * noise_group + word * 16 + part, &both, sizeof both);
      }
    }
  }
}

// The words of a call, made some hundreds ahead.
template <class Isa>
class NoiseSource {
 public:
  NoiseSource(std::uint64_t seed, std::uint64_t first, std::size_t count) : seed_(seed), end_(first + count) {}

  // Those of `count` elements, at most noise_piece. Valid until the next call. Beyond the last element, others follow.
  const std::uint32_t* at(std::uint64_t index, std::size_t count) {
    if (index < begin_ || index + count > begin_ + size_ || size_ == 0) refill(index, count);
    return words_ + (index - begin_);
  }

 private:
  void refill(std::uint64_t index, std::size_t count) {
    const std::uint64_t group = index / noise_group;
    begin_ = group * noise_group;
    std::uint64_t wanted = end_ - begin_;
    if (wanted < index - begin_ + count) wanted = index - begin_ + count;
    if (wanted > sizeof words_ / sizeof words_[0]) wanted = sizeof words_ / sizeof words_[0];
    const std::size_t groups = (wanted + noise_group - 1) / noise_group;
    size_ = groups * noise_group;
    fill_noise<Isa>(words_, seed_, group, groups);
  }

  std::uint64_t seed_;
  std::uint64_t end_;
  std::uint64_t begin_ = 0;  // words_ has those of elements begin_ to begin_ + size_
  std::uint64_t size_ = 0;
  std::uint32_t words_[512];  // at least noise_piece, and what comes before in its group
};

}  // namespace
}  // namespace hawser::codec
