// One include for both major versions of Catch2: Debian 12 has version 2, Ubuntu 24.04 has version 3. Tests use the
// macros and generators the two share, and write Catch::Approx.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
