// Validators for CLI11. Main thread.
#include "options.hpp"

#include <fmt/format.h>

#include <string>

#include "text.hpp"

namespace tool {

CLI::Validator size_value(std::uint64_t least) {
  return CLI::Validator(
      [least](std::string& text) -> std::string {
        const auto bytes = parse_size(text);
        if (!bytes) return fmt::format("'{}' is not a size: write bytes, or a number with K, M, G or T", text);
        if (*bytes < least) return fmt::format("'{}' is less than {} bytes", text, least);
        text = std::to_string(*bytes);
        return {};
      },
      "SIZE");
}

CLI::Validator dtype_list() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        if (parse_dtypes(text)) return {};
        return fmt::format("'{}' names an unknown element type: u8 i8 u16 i16 u32 i32 u64 i64 f16 bf16 f32 f64, or all",
                           text);
      },
      "NAMES");
}

CLI::Validator redop_list() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        if (parse_redops(text)) return {};
        return fmt::format("'{}' names an unknown reduction: sum avg prod min max, or all", text);
      },
      "NAMES");
}

}  // namespace tool
