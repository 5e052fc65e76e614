// Validators of options that CLI11 has not: byte sizes and lists of names. Their texts end up in error messages and
// --help.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

namespace tool {

// Turns "64K" into "65536" in place, and refuses anything else and less than `least`.
CLI::Validator size_value(std::uint64_t least);
CLI::Validator dtype_list();
CLI::Validator redop_list();

}  // namespace tool
