// Texts of options and tables. Pure; any thread.
#include "text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace tool {
namespace {

constexpr std::array<std::string_view, 12> dtype_names = {"u8",  "i8",  "u16", "i16",  "u32", "i32",
                                                          "u64", "i64", "f16", "bf16", "f32", "f64"};
constexpr std::array<std::string_view, 5> redop_names = {"sum", "avg", "prod", "min", "max"};

// The values of a comma-separated list of names, whose order in `names` is that of the enum; "all" is every one.
template <typename Enum, std::size_t n>
std::optional<std::vector<Enum>> parse_names(std::string_view text, const std::array<std::string_view, n>& names) {
  std::vector<Enum> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    const std::string_view name = text.substr(begin, comma - begin);
    begin = comma + 1;
    if (name == "all") {
      for (std::size_t i = 0; i < n; ++i) values.push_back(static_cast<Enum>(i));
      continue;
    }
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) return std::nullopt;
    values.push_back(static_cast<Enum>(found - names.begin()));
  }
  return values;
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{} || number < 0 || std::signbit(number) || !std::isfinite(number)) return std::nullopt;
  std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  int shift = 0;
  if (!unit.empty()) {
    switch (unit.front()) {
      case 'k':
      case 'K':
        shift = 10;
        break;
      case 'm':
      case 'M':
        shift = 20;
        break;
      case 'g':
      case 'G':
        shift = 30;
        break;
      case 't':
      case 'T':
        shift = 40;
        break;
      case 'B':
        break;
      default:
        return std::nullopt;
    }
    if (shift > 0) unit.remove_prefix(1);
    if (!unit.empty() && unit != "B" && !(shift > 0 && unit == "iB")) return std::nullopt;
  }
  // Whole numbers are scaled exactly: a double has only 53 bits.
  constexpr std::uint64_t limit = INT64_MAX;
  std::uint64_t whole = 0;
  const auto [whole_end, whole_error] = std::from_chars(text.data(), text.data() + text.size(), whole);
  if (whole_error == std::errc{} && whole_end == end) {
    if (whole > limit >> shift) return std::nullopt;
    return whole << shift;
  }
  const double bytes = std::floor(std::ldexp(number, shift));
  if (bytes >= 0x1p63) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

std::string_view dtype_name(hawser_dtype_t dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  return index < dtype_names.size() ? dtype_names[index] : "?";
}

std::string_view redop_name(hawser_redop_t redop) {
  const auto index = static_cast<std::size_t>(redop);
  return index < redop_names.size() ? redop_names[index] : "?";
}

std::optional<std::vector<hawser_dtype_t>> parse_dtypes(std::string_view text) {
  return parse_names<hawser_dtype_t>(text, dtype_names);
}

std::optional<std::vector<hawser_redop_t>> parse_redops(std::string_view text) {
  return parse_names<hawser_redop_t>(text, redop_names);
}

std::vector<std::uint64_t> sizes_between(std::uint64_t first, std::uint64_t last, std::uint64_t factor) {
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t size = first; size <= last; size *= factor) {
    sizes.push_back(size);
    if (size > last / factor) break;
  }
  return sizes;
}

std::optional<double> percentile(std::vector<double> values, double percent) {
  if (values.empty()) return std::nullopt;
  const auto count = static_cast<double>(values.size());
  const auto rank = static_cast<std::size_t>(std::ceil(percent / 100.0 * count));
  const std::size_t index = std::clamp<std::size_t>(rank, 1, values.size()) - 1;
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(index);
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

}  // namespace tool
