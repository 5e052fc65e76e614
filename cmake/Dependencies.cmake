# The libraries of others, all from the distribution. Those without a CMake package get an imported target here.

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)

# Header only: XXH_INLINE_ALL compiles the hash into its users, so nothing is linked.
if(NOT TARGET xxHash::xxhash)
  find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
  mark_as_advanced(XXHASH_INCLUDE_DIR)
  add_library(xxHash::xxhash INTERFACE IMPORTED GLOBAL)
  target_include_directories(xxHash::xxhash SYSTEM INTERFACE ${XXHASH_INCLUDE_DIR})
  target_compile_definitions(xxHash::xxhash INTERFACE XXH_INLINE_ALL)
endif()

find_package(PkgConfig REQUIRED)
include(HawserLibuv)
if(NOT TARGET libuv::uv)
  message(FATAL_ERROR "libuv 1.44 or newer is missing: install libuv1-dev, or the like")
endif()

# What the store in etcd needs: its HTTP gateway speaks JSON.
find_package(nlohmann_json 3 REQUIRED)
include(HawserHttplib)
if(NOT TARGET httplib::httplib)
  message(FATAL_ERROR "cpp-httplib is missing: install libcpp-httplib-dev, or the like")
endif()

if(HAWSER_TOOLS)
  find_package(CLI11 REQUIRED)
endif()
if(HAWSER_TESTS)
  find_package(Catch2 REQUIRED)  # 2 on Debian 12, 3 on Ubuntu 24.04: tests/support/catch.hpp hides the difference
endif()
