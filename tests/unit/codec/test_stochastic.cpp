// Stochastic rounding: its random numbers are those of the publication, its expectation is the value, errors of
// elements and of seeds are independent, and no call scales the whole.
#include "unit/codec/samples.hpp"

using namespace hawser;
using namespace samples;

namespace {

std::vector<Format> stochastic_formats() {
  std::vector<Format> out;
  for (const Format& format : all_formats()) {
    if (format.rounding == Rounding::stochastic && format.codec != Codec::none) out.push_back(format);
  }
  return out;
}

std::vector<float> there_and_back(const Format& format, const std::vector<float>& in, const Noise& noise) {
  std::vector<std::byte> blob(codec::encoded_bytes(format, in.size()));
  codec::encode(format, in.data(), in.size(), blob.data(), noise, kernels::best_variant());
  std::vector<float> out(in.size());
  codec::decode(format, blob.data(), in.size(), out.data(), kernels::best_variant());
  return out;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b, std::size_t lag) {
  double both = 0;
  double first = 0;
  double second = 0;
  for (std::size_t i = 0; i + lag < a.size(); ++i) {
    both += a[i] * b[i + lag];
    first += a[i] * a[i];
    second += b[i + lag] * b[i + lag];
  }
  return both / std::sqrt(first * second);
}

}  // namespace

// The three of kat_vectors in the authors' Random123.
TEST_CASE("the twin's Philox4x32-10 gives the published numbers", "[codec][stochastic]") {
  CHECK(twin::philox({{0, 0, 0, 0}}, 0) == twin::Words{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  const std::uint32_t ones = 0xffffffff;
  CHECK(twin::philox({{ones, ones, ones, ones}}, ~std::uint64_t{0}) ==
        twin::Words{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  CHECK(twin::philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822) ==
        twin::Words{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("every element of a vector has a number of its own", "[codec][stochastic]") {
  std::vector<std::uint32_t> words;
  for (std::uint64_t i = 0; i < 4096; ++i) words.push_back(twin::random_word(1, i));
  for (std::uint64_t i = 0; i < 4096; ++i) words.push_back(twin::random_word(2, i));
  std::sort(words.begin(), words.end());
  // Of 8192 numbers from 2^32, two are equal with a probability of 0.8 %; with these seeds none are.
  CHECK(std::adjacent_find(words.begin(), words.end()) == words.end());
}

TEST_CASE("the expectation of stochastic rounding is the value", "[codec][stochastic]") {
  constexpr std::size_t count = 256;
  constexpr std::size_t rounds = 4096;
  std::vector<float> in = gaussian(count, 6);
  in[3] = 1e-7F;  // far below a step of f16, and of all codes
  in[4] = -0x1p-26F;
  for (const Format& format : stochastic_formats()) {
    std::vector<double> sum(count), squares(count);
    for (std::size_t round = 0; round < rounds; ++round) {
      const auto out = there_and_back(format, in, Noise{round, 0});
      for (std::size_t i = 0; i < count; ++i) {
        const double error = static_cast<double>(out[i]) - static_cast<double>(in[i]);
        sum[i] += error;
        squares[i] += error * error;
      }
    }
    double total = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (squares[i] == 0) continue;
      // In standard deviations of the sum. A fraction below 1 / rounds may never have gone up: then it is tiny.
      const double deviations = sum[i] / std::sqrt(squares[i]);
      const double mean = std::fabs(sum[i]) / rounds;
      if (std::fabs(deviations) > 5 && mean > std::fabs(static_cast<double>(in[i])) * 1e-5 + 1e-6) {
        FAIL(name_of(format) << " element " << i << ", " << in[i] << ": mean error " << sum[i] / rounds << ", "
                             << deviations << " standard deviations");
      }
      total += sum[i] / rounds;
    }
    INFO(name_of(format) << " total of the mean errors " << total);
    double variance = 0;
    for (std::size_t i = 0; i < count; ++i) variance += squares[i] / rounds / rounds;
    CHECK(std::fabs(total) < 4.5 * std::sqrt(variance) + 1e-9);
  }
}

TEST_CASE("what is a value of the format is not rounded", "[codec][stochastic]") {
  std::vector<float> in(255);
  for (std::size_t i = 0; i < 255; ++i) in[i] = static_cast<float>(static_cast<int>(i) - 127);
  std::vector<float> narrow(15);
  for (std::size_t i = 0; i < 15; ++i) narrow[i] = static_cast<float>(static_cast<int>(i) - 7);
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    for (const Codec codec : {Codec::bf16, Codec::f16, Codec::int8}) {
      REQUIRE(there_and_back(format_of(codec, 0, Rounding::stochastic), in, Noise{seed, 0}) == in);
    }
    REQUIRE(there_and_back(format_of(Codec::int4, 0, Rounding::stochastic), narrow, Noise{seed, 0}) == narrow);
  }
}

// A threshold that is drawn once a call is unbiased over many calls, but each scales its whole message by up to 14 %.
TEST_CASE("no call of stochastic rounding scales the whole", "[codec][stochastic]") {
  for (const Format& format : stochastic_formats()) {
    // The standard deviation of the gain is the relative error / sqrt(count): 4 bits need more elements.
    const bool coarse = format.codec == Codec::int4;
    const std::vector<float> in = gaussian(coarse ? std::size_t{1} << 20 : std::size_t{1} << 16, 21);
    if (coarse && format.block > 256) continue;
    double size = 0;
    for (const float x : in) size += static_cast<double>(x) * static_cast<double>(x);
    for (std::uint64_t seed = 0; seed < (coarse ? 3 : 20); ++seed) {
      const auto out = there_and_back(format, in, Noise{seed, 0});
      double along = 0;
      for (std::size_t i = 0; i < in.size(); ++i) along += static_cast<double>(out[i]) * static_cast<double>(in[i]);
      INFO(name_of(format) << " seed " << seed);
      CHECK(along / size > 0.9995);
      CHECK(along / size < 1.0005);
    }
  }
}

TEST_CASE("errors of neighbours, of seeds and of places are independent", "[codec][stochastic]") {
  constexpr std::size_t count = 65536;
  const std::vector<float> in(count, 0.7431F);
  std::vector<float> with_scale = in;
  for (std::size_t i = 0; i < count; i += 32) with_scale[i] = 1;  // of int8: steps of 1/127, of which 0.7431 is none
  const Format format = format_of(Codec::int8, 32, Rounding::stochastic);
  const auto errors = [&](const Noise& noise) {
    const auto out = there_and_back(format, with_scale, noise);
    std::vector<double> error;
    double mean = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (i % 32 == 0) continue;
      error.push_back(static_cast<double>(out[i]));
      mean += error.back();
    }
    for (double& x : error) x -= mean / static_cast<double>(error.size());
    return error;
  };
  const double bound = 4.5 / std::sqrt(static_cast<double>(count));
  const auto one = errors({1, 0});
  for (const std::size_t lag : {1U, 2U, 15U, 16U, 31U, 62U, 64U, 992U})
    CHECK(std::fabs(correlation(one, one, lag)) < bound);
  CHECK(std::fabs(correlation(one, errors({2, 0}), 0)) < bound);
  CHECK(std::fabs(correlation(one, errors({std::uint64_t{1} << 32, 0}), 0)) < bound);
  CHECK(std::fabs(correlation(one, errors({1, count}), 0)) < bound);
  CHECK(std::fabs(correlation(one, errors({1, std::uint64_t{1} << 40}), 0)) < bound);
  CHECK(correlation(one, errors({1, 0}), 0) > 0.999);  // and the same again for the same
}
