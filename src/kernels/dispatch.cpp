// Chooses the variant of the kernels: from the processor, or from HAWSER_KERNELS, read once at first use. Any thread.
#include "kernels/dispatch.hpp"

#include <cstdlib>
#include <optional>

#include "base/assert.hpp"
#include "base/log.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace hawser::kernels {
namespace {

#if defined(__x86_64__)
// clang 14 does not know this name in __builtin_cpu_supports. That the system keeps the wide registers is checked by
// "avx2".
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

Variant ask_processor() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !has_f16c()) return Variant::scalar;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return Variant::avx2;
  }
  return Variant::avx512;
}
#else
Variant ask_processor() { return Variant::scalar; }
#endif

std::optional<Variant> parse_variant(std::string_view name) {
  for (const Variant variant : {Variant::scalar, Variant::avx2, Variant::avx512}) {
    if (name == variant_name(variant)) return variant;
  }
  return std::nullopt;
}

}  // namespace

const char* variant_name(Variant variant) {
  switch (variant) {
    case Variant::scalar:
      return "scalar";
    case Variant::avx2:
      return "avx2";
    case Variant::avx512:
      return "avx512";
  }
  return "unknown";
}

Variant best_variant() {
  static const Variant best = ask_processor();
  return best;
}

Variant choose_variant(const char* setting, Variant best) {
  if (setting == nullptr || *setting == '\0') return best;
  const std::optional<Variant> wanted = parse_variant(setting);
  if (!wanted) {
    log::message(log::Subsystem::data, log::Level::warn,
                 "HAWSER_KERNELS is '{}', which is none of scalar, avx2, avx512: ignored, using {}",
                 log::printable(setting), variant_name(best));
    return best;
  }
  if (*wanted > best) {
    log::message(log::Subsystem::data, log::Level::warn, "HAWSER_KERNELS is {}, which this processor lacks: using {}",
                 variant_name(*wanted), variant_name(best));
    return best;
  }
  return *wanted;
}

Variant active_variant() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): read once, and nothing of the library writes the environment
  static const Variant active = choose_variant(std::getenv("HAWSER_KERNELS"), best_variant());
  return active;
}

const Table& table_of(Variant variant) {
#if defined(__x86_64__)
  switch (variant < best_variant() ? variant : best_variant()) {
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

ReduceFn reduce(Dtype dtype, Redop redop, Variant variant) {
  return table_of(variant).reduce[index_of(dtype)][index_of(redop)];
}

WideFns reduce_wide(Dtype dtype, Redop redop, Variant variant) {
  HAWSER_ASSERT(is_half(dtype), "only f16 and bf16 have wide partial results");
  return table_of(variant).wide[half_index(dtype)][index_of(redop)];
}

void narrow(Dtype dtype, void* dst, const float* src_wide, std::size_t count, std::uint32_t divisor, Variant variant) {
  HAWSER_ASSERT(is_half(dtype) && divisor != 0, "only f16 and bf16 are narrowed, and by a divisor");
  table_of(variant).narrow[half_index(dtype)](dst, src_wide, count, divisor);
}

void widen(Dtype dtype, float* dst, const void* src, std::size_t count, Variant variant) {
  HAWSER_ASSERT(is_half(dtype), "only f16 and bf16 are widened");
  table_of(variant).widen[half_index(dtype)](dst, src, count);
}

void divide(Dtype dtype, void* data, std::size_t count, std::uint32_t divisor, Variant variant) {
  HAWSER_ASSERT(divisor != 0, "an average is of at least one");
  table_of(variant).divide[index_of(dtype)](data, count, divisor);
}

void mean(Dtype dtype, void* dst, const void* a, const void* b, std::size_t count, std::uint32_t divisor,
          Variant variant) {
  HAWSER_ASSERT(!is_half(dtype) && divisor != 0, "half-width floats are averaged by narrow, and of at least one");
  table_of(variant).mean[index_of(dtype)](dst, a, b, count, divisor);
}

bool all_finite(const float* data, std::size_t count, Variant variant) {
  return table_of(variant).all_finite(data, count);
}

Digest digest(const void* data, std::size_t bytes, std::uint64_t piece) {
  return table_of(active_variant()).digest(data, bytes, piece);
}

void RunningDigest::begin(std::uint64_t piece, std::size_t bytes) {
  table_of(active_variant()).digest_begin(state_, piece);
  left_ = bytes;
}
void RunningDigest::add(const void* data, std::size_t bytes) {
  HAWSER_ASSERT(bytes <= left_, "no more is added than was said");
  table_of(active_variant()).digest_add(state_, data, bytes, left_);
  left_ -= bytes;
}
Digest RunningDigest::value() const { return table_of(active_variant()).digest_value(state_); }

std::uint64_t checksum(const void* data, std::size_t bytes) { return table_of(active_variant()).checksum(data, bytes); }
void Checksum::begin() { table_of(active_variant()).checksum_begin(state_); }
void Checksum::add(const void* data, std::size_t bytes) {
  table_of(active_variant()).checksum_add(state_, data, bytes);
}
std::uint64_t Checksum::value() const { return table_of(active_variant()).checksum_value(state_); }

}  // namespace hawser::kernels
