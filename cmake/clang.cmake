# Toolchain file: the newest clang of this machine, under the names that Debian and Ubuntu give it.
set(names)
foreach(version RANGE 22 14 -1)
  list(APPEND names ${version})
endforeach()
list(TRANSFORM names PREPEND "clang-" OUTPUT_VARIABLE c_names)
list(TRANSFORM names PREPEND "clang++-" OUTPUT_VARIABLE cxx_names)
find_program(CMAKE_C_COMPILER NAMES clang ${c_names} REQUIRED)
find_program(CMAKE_CXX_COMPILER NAMES clang++ ${cxx_names} REQUIRED)
