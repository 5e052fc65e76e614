// Kernels and codecs, each variant, beside a plain loop of the same traffic (plain.hpp), by Google Benchmark.
//
//   benchmark_kernels [--all-variants] [--least=0.9] [--json] [--benchmark_filter=...] [...]
//
// Sizes are those of the widest stream: 8 KiB stays in the first cache, 128 KiB (what an io thread reads at once) in
// the second, 64 MiB in none. Repetitions of all cases are run in random order, so that a slow moment of the machine
// meets kernels and plain loops alike. Measured is the variant that this processor would use, or all it has. The table
// at the end has the best GB/s of the repetitions, since whatever else the machine does only slows one down, and kernel
// / plain loop; --json prints it as objects, one a line. With --least the exit status is 1 when a reduction of the best
// variant stays below that share of its plain loop out of cache. Everything runs on the main thread.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codec/codec.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/kernels.hpp"
#include "plain.hpp"

namespace {

using hawser::Dtype;
using hawser::dtype_name;
using hawser::dtype_size;
using hawser::is_half;
using hawser::Redop;
using hawser::redop_name;
namespace kernels = hawser::kernels;
namespace codec = hawser::codec;

constexpr std::size_t sizes[] = {std::size_t{8} << 10, std::size_t{128} << 10, std::size_t{64} << 20};
constexpr std::size_t largest = sizes[2];
const char* size_name(std::size_t bytes) { return bytes == sizes[0] ? "8KiB" : bytes == sizes[1] ? "128KiB" : "64MiB"; }

// ------------------------------------------------------------------------------------------------------------ memory

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte[], Free>;

Memory allocate() {
  void* const memory = std::aligned_alloc(4096, largest);
  if (memory == nullptr) {
    fmt::print(stderr, "benchmark_kernels: no memory\n");
    std::exit(1);
  }
  std::memset(memory, 1, largest);
  return Memory(static_cast<std::byte*>(memory));
}

// Three streams. Pages have the usual size, as those of users mostly have.
struct Streams {
  Memory a = allocate();
  Memory b = allocate();
  Memory dst = allocate();
};
Streams& streams() {
  static Streams all;
  return all;
}

// Numbers from 1 up to 2 as `dtype` has them, small integers: no overflow, NaN or denormal, which some processors add
// slowly. `bytes` of them.
void fill(std::byte* memory, Dtype dtype, std::size_t bytes) {
  const auto each = [&](auto zero, auto one, auto mask) {
    using T = decltype(zero);
    for (std::size_t i = 0; i < bytes / sizeof(T); ++i) {
      const T value = static_cast<T>(one | (static_cast<T>(i * 2654435761U) & mask));
      std::memcpy(memory + i * sizeof(T), &value, sizeof(T));
    }
  };
  switch (dtype) {
    case Dtype::f16:
      return each(std::uint16_t{}, std::uint16_t{0x3c00}, std::uint16_t{0x3ff});
    case Dtype::bf16:
      return each(std::uint16_t{}, std::uint16_t{0x3f80}, std::uint16_t{0x7f});
    case Dtype::f32:
      return each(std::uint32_t{}, std::uint32_t{0x3f800000}, std::uint32_t{0x7fffff});
    case Dtype::f64:
      return each(std::uint64_t{}, std::uint64_t{0x3ff0000000000000}, std::uint64_t{0xffffffff});
    default:
      return each(std::uint8_t{}, std::uint8_t{1}, std::uint8_t{0x0f});
  }
}

// Puts numbers of these types into the first `bytes` of the streams.
void prepare(std::size_t bytes, Dtype a, Dtype b, Dtype dst) {
  fill(streams().a.get(), a, bytes);
  fill(streams().b.get(), b, bytes);
  fill(streams().dst.get(), dst, bytes);
}

// ------------------------------------------------------------------------------------------------------------- cases

// One case: which plain loop it stands beside, and the bytes that an element reads and writes.
struct Case {
  std::string name;   // without the size
  std::string plain;  // the name of its plain loop; empty for one
  double bytes_per_element = 0;
  std::size_t widest = 0;                         // bytes of an element in its widest stream
  std::function<void(std::size_t bytes)> before;  // `bytes` of the widest stream
  std::function<void(std::size_t count)> run;
};

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

template <class T>
T* stream(const Memory& memory) {
  return reinterpret_cast<T*>(memory.get());
}

void add_case(std::string name, std::string plain, double bytes, std::size_t widest,
              std::function<void(std::size_t)> before, std::function<void(std::size_t)> run) {
  cases().push_back({std::move(name), std::move(plain), bytes, widest, std::move(before), std::move(run)});
}

void add_plain_loops() {
  const auto numbers = [](std::size_t bytes) { prepare(bytes, Dtype::f32, Dtype::f32, Dtype::f32); };
  using U8 = std::uint8_t;
  using U16 = std::uint16_t;
  using U32 = std::uint32_t;
  Streams& s = streams();
  add_case("plain/add", "", 12, 4, numbers,
           [&](std::size_t n) { plain::add(stream<float>(s.dst), stream<float>(s.a), stream<float>(s.b), n); });
  add_case("plain/add_narrow", "", 8, 4, numbers,
           [&](std::size_t n) { plain::add_narrow(stream<U32>(s.dst), stream<U16>(s.a), stream<U16>(s.b), n); });
  add_case("plain/add_mixed", "", 10, 4, numbers,
           [&](std::size_t n) { plain::add_mixed(stream<U32>(s.dst), stream<U32>(s.a), stream<U16>(s.b), n); });
  add_case("plain/narrow", "", 6, 4, numbers,
           [&](std::size_t n) { plain::narrow(stream<U16>(s.dst), stream<U32>(s.a), n); });
  add_case("plain/widen", "", 6, 4, numbers,
           [&](std::size_t n) { plain::widen(stream<U32>(s.dst), stream<U16>(s.a), n); });
  add_case("plain/add_one", "", 8, 4, numbers, [&](std::size_t n) { plain::add_one(stream<float>(s.dst), n); });
  add_case("plain/sum", "", 8, 8, numbers, [&](std::size_t n) {
    std::uint64_t total = plain::sum(stream<std::uint64_t>(s.a), n);
    benchmark::DoNotOptimize(total);
  });
  add_case("plain/bytes_of", "", 5, 4, numbers,
           [&](std::size_t n) { plain::bytes_of(stream<U8>(s.dst), stream<U32>(s.a), n); });
  add_case("plain/add_bytes", "", 9, 4, numbers,
           [&](std::size_t n) { plain::add_bytes(stream<U32>(s.dst), stream<U8>(s.a), n); });
  add_case("plain/nibbles_of", "", 4.5, 4, numbers,
           [&](std::size_t n) { plain::nibbles_of(stream<U8>(s.dst), stream<U32>(s.a), n); });
  add_case("plain/add_nibbles", "", 8.5, 4, numbers,
           [&](std::size_t n) { plain::add_nibbles(stream<U32>(s.dst), stream<U8>(s.a), n); });
  add_case("plain/add_halves", "", 10, 4, numbers,
           [&](std::size_t n) { plain::add_halves(stream<U32>(s.dst), stream<U16>(s.a), n); });
}

void add_reductions(kernels::Variant variant) {
  Streams& s = streams();
  const std::string of = kernels::variant_name(variant);
  for (std::size_t i = 0; i < hawser::dtype_count; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const std::size_t size = dtype_size(dtype);
    for (const Redop redop : {Redop::sum, Redop::prod, Redop::max}) {
      const kernels::ReduceFn reduce = kernels::reduce(dtype, redop, variant);
      add_case(
          fmt::format("reduce/{}/{}/{}", redop_name(redop), dtype_name(dtype), of), "plain/add",
          3 * static_cast<double>(size), size, [=](std::size_t bytes) { prepare(bytes, dtype, dtype, dtype); },
          [=, &s](std::size_t n) { reduce(s.dst.get(), s.a.get(), s.b.get(), n); });
    }
    add_case(
        fmt::format("divide/{}/{}", dtype_name(dtype), of), "plain/add_one", 2 * static_cast<double>(size), size,
        [=](std::size_t bytes) { prepare(bytes, dtype, dtype, dtype); },
        // By 1 it would end at nothing; what becomes of the values costs nothing.
        [=, &s](std::size_t n) { kernels::divide(dtype, s.dst.get(), n, 3, variant); });
    if (!is_half(dtype)) {
      add_case(
          fmt::format("mean/{}/{}", dtype_name(dtype), of), "plain/add", 3 * static_cast<double>(size), size,
          [=](std::size_t bytes) { prepare(bytes, dtype, dtype, dtype); },
          [=, &s](std::size_t n) { kernels::mean(dtype, s.dst.get(), s.a.get(), s.b.get(), n, 3, variant); });
      continue;
    }
    for (const Redop redop : {Redop::sum, Redop::max}) {
      const kernels::WideFns fns = kernels::reduce_wide(dtype, redop, variant);
      const std::string name = fmt::format("{}/{}/{}", redop_name(redop), dtype_name(dtype), of);
      add_case(
          "reduce_first/" + name, "plain/add_narrow", 8, 4,
          [=](std::size_t bytes) { prepare(bytes, dtype, dtype, Dtype::f32); },
          [=, &s](std::size_t n) { fns.first(stream<float>(s.dst), s.a.get(), s.b.get(), n); });
      add_case(
          "reduce_next/" + name, "plain/add_mixed", 10, 4,
          [=](std::size_t bytes) { prepare(bytes, Dtype::f32, dtype, Dtype::f32); },
          [=, &s](std::size_t n) { fns.next(stream<float>(s.dst), stream<float>(s.a), s.b.get(), n); });
    }
    for (const std::uint32_t divisor : {1U, 3U}) {
      add_case(
          fmt::format("narrow_by_{}/{}/{}", divisor, dtype_name(dtype), of), "plain/narrow", 6, 4,
          [=](std::size_t bytes) { prepare(bytes, Dtype::f32, dtype, dtype); },
          [=, &s](std::size_t n) { kernels::narrow(dtype, s.dst.get(), stream<float>(s.a), n, divisor, variant); });
    }
    add_case(
        fmt::format("widen/{}/{}", dtype_name(dtype), of), "plain/widen", 6, 4,
        [=](std::size_t bytes) { prepare(bytes, dtype, dtype, Dtype::f32); },
        [=, &s](std::size_t n) { kernels::widen(dtype, stream<float>(s.dst), s.a.get(), n, variant); });
  }
  const auto numbers = [](std::size_t bytes) { prepare(bytes, Dtype::f32, Dtype::f32, Dtype::f32); };
  add_case("all_finite/f32/" + of, "plain/sum", 4, 4, numbers, [=, &s](std::size_t n) {
    bool finite = kernels::all_finite(stream<float>(s.a), n, variant);
    benchmark::DoNotOptimize(finite);
  });
  // The public function has the active variant's alone.
  const auto digest = kernels::table_of(variant).digest;
  add_case("digest/" + of, "plain/sum", 4, 4, numbers, [=, &s](std::size_t n) {
    kernels::Digest found = digest(s.a.get(), n * 4, 1);
    benchmark::DoNotOptimize(found);
  });
}

void add_codecs(kernels::Variant variant) {
  using codec::Codec;
  using codec::Rounding;
  Streams& s = streams();
  const std::string of = kernels::variant_name(variant);
  const auto numbers = [](std::size_t bytes) { prepare(bytes, Dtype::f32, Dtype::f32, Dtype::f32); };
  for (const Codec id : {Codec::bf16, Codec::f16, Codec::int8, Codec::int4, Codec::minmax8}) {
    const bool half = id == Codec::bf16 || id == Codec::f16;
    const bool nibble = id == Codec::int4;
    const char* const encode = half ? "plain/narrow" : nibble ? "plain/nibbles_of" : "plain/bytes_of";
    const char* const decode_add = half ? "plain/add_halves" : nibble ? "plain/add_nibbles" : "plain/add_bytes";
    const double code = half ? 2 : nibble ? 0.5 : 1;
    for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
      const auto made = codec::make_format(static_cast<std::uint32_t>(id), 0, static_cast<std::uint32_t>(rounding));
      const codec::Format format = made.value();
      const char* const how = rounding == Rounding::nearest ? "nearest" : "stochastic";
      add_case(fmt::format("encode_{}/{}/{}", how, codec::codec_name(id), of), encode, 4 + code, 4, numbers,
               [=, &s](std::size_t n) {
                 codec::encode(format, stream<float>(s.a), n, s.dst.get(), {1, 0}, variant);
               });
      if (rounding == Rounding::stochastic) continue;
      const auto encoded = [=, &s](std::size_t bytes) {
        prepare(bytes, Dtype::f32, Dtype::f32, Dtype::f32);
        codec::encode(format, stream<float>(s.a), bytes / sizeof(float), s.b.get(), {1, 0}, variant);
      };
      add_case(
          fmt::format("decode_add/{}/{}", codec::codec_name(id), of), decode_add, 8 + code, 4, encoded,
          [=, &s](std::size_t n) { codec::decode_add(format, s.b.get(), n, stream<float>(s.dst), 0.5F, variant); });
    }
  }
}

void measure(benchmark::State& state, const Case& of, std::size_t bytes) {
  const std::size_t count = bytes / of.widest;
  of.before(bytes);
  of.run(count);
  for (auto _ : state) {
    of.run(count);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(static_cast<double>(state.iterations()) * of.bytes_per_element *
                                                    static_cast<double>(count)));
}

// ------------------------------------------------------------------------------------------------------------ report

// Keeps the most bytes a second among the repetitions of each, and prints nothing.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
      const auto found = run.counters.find("bytes_per_second");
      if (found == run.counters.end()) continue;
      double& best = rates_[run.run_name.function_name];
      best = std::max(best, found->second.value / 1e9);
    }
  }

  // 0 where it was not measured.
  [[nodiscard]] double best(const std::string& name) const {
    const auto found = rates_.find(name);
    return found == rates_.end() ? 0 : found->second;
  }

 private:
  std::map<std::string, double> rates_;
};

bool is_reduction(std::string_view name) { return name.starts_with("reduce"); }

// The same, an object a line.
void print_json(const Collector& rates) {
  for (const Case& of : cases()) {
    for (const std::size_t size : sizes) {
      const double rate = rates.best(fmt::format("{}/{}", of.name, size_name(size)));
      const double plain = of.plain.empty() ? 0 : rates.best(fmt::format("{}/{}", of.plain, size_name(size)));
      if (rate == 0) continue;
      fmt::print(R"({{"case":"{}","bytes":{},"gbs":{:.4g},"of_plain":{}}})"
                 "\n",
                 of.name, size, rate, plain > 0 ? fmt::format("{:.4g}", rate / plain) : "null");
    }
  }
}

// Prints the table; how many reductions of the best variant are below `least` out of cache.
int print_table(const Collector& rates, double least, bool quiet, int& lines) {
  int below = 0;
  const std::string best = kernels::variant_name(kernels::best_variant());
  if (!quiet) {
    fmt::print("{:<34}", "GB/s, and share of the plain loop");
    for (const std::size_t size : sizes) fmt::print(" {:>18}", size_name(size));
    fmt::print("\n");
  }
  for (const Case& of : cases()) {
    std::string line;
    bool any = false;
    bool low = false;
    for (const std::size_t size : sizes) {
      const double rate = rates.best(fmt::format("{}/{}", of.name, size_name(size)));
      const double plain = of.plain.empty() ? 0 : rates.best(fmt::format("{}/{}", of.plain, size_name(size)));
      any = any || rate > 0;
      if (rate > 0 && plain > 0) {
        line += fmt::format(" {:>9.1f} {:>7.0f}%", rate, 100 * rate / plain);
        low = low || (size == largest && is_reduction(of.name) && of.name.ends_with(best) && rate < least * plain);
      } else if (rate > 0) {
        line += fmt::format(" {:>9.1f} {:>8}", rate, "");
      } else {
        line += fmt::format(" {:>9} {:>8}", "-", "");
      }
    }
    if (!any) continue;
    ++lines;
    below += low ? 1 : 0;
    if (!quiet) fmt::print("{:<34}{}{}\n", of.name, line, low ? "  below" : "");
  }
  return below;
}

}  // namespace

int main(int argc, char** argv) {
  double least = 0;
  bool all_variants = false;
  bool json = false;
  // Beyond what was asked for: what makes the figures comparable. Later options win.
  std::vector<std::string> words = {argv[0], "--benchmark_repetitions=5", "--benchmark_min_time=0.02",
                                    "--benchmark_enable_random_interleaving=true"};
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--least=")) {
      least = std::atof(argv[i] + std::strlen("--least="));
    } else if (word == "--json") {
      json = true;
    } else if (word == "--all-variants") {
      all_variants = true;
    } else {
      words.emplace_back(word);
    }
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int count = static_cast<int>(words.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  add_plain_loops();
  for (const kernels::Variant variant : {kernels::Variant::scalar, kernels::Variant::avx2, kernels::Variant::avx512}) {
    if (variant > kernels::best_variant() || (variant != kernels::best_variant() && !all_variants)) continue;
    add_reductions(variant);
    add_codecs(variant);
  }
  for (const Case& of : cases()) {
    for (const std::size_t size : sizes) {
      benchmark::RegisterBenchmark(fmt::format("{}/{}", of.name, size_name(size)).c_str(),
                                   [&of, size](benchmark::State& state) { measure(state, of, size); });
    }
  }
  Collector rates;
  benchmark::RunSpecifiedBenchmarks(&rates);
  int lines = 0;
  if (json) print_json(rates);
  const int below = print_table(rates, least, json, lines);
  if (below > 0)
    fmt::print(stderr, "{} reductions below {:.0f} % of their plain loop out of cache\n", below, 100 * least);
  return below > 0 || lines == 0 ? 1 : 0;
}
