# How everything of Hawser is compiled. `hawser_options` is linked by every target of the project, so that sanitizers, coverage
# and fuzzing instrument the library itself and not only its tests. Nothing of it reaches users of the installed library.

include(GNUInstallDirs)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 99)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
  endif()
  find_program(HAWSER_CCACHE ccache)
  mark_as_advanced(HAWSER_CCACHE)
  if(HAWSER_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER ${HAWSER_CCACHE})
    # Without these two, ccache keeps nothing that uses a precompiled header.
    set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${HAWSER_CCACHE})
  endif()
endif()

add_library(hawser_options INTERFACE)
target_compile_features(hawser_options INTERFACE cxx_std_20)

# The same bits from every compiler and instruction set: a product and a sum are never contracted into one rounding.
target_compile_options(hawser_options INTERFACE -ffp-contract=off)

# ----------------------------------------------------------------------------------------------------------------- warnings
target_compile_options(hawser_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Wformat=2 -Wimplicit-fallthrough
  -Wcast-align -Wundef -Wvla
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual -Wold-style-cast -Wextra-semi>
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Wrong about std::string operator+ (GCC bug 105651) and, from -O2 on, about moved std::variants and grown std::vectors;
  # clang's analysis and the sanitizers find what these would.
  target_compile_options(hawser_options INTERFACE
    -Wno-restrict -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread)
endif()
if(HAWSER_WERROR)
  target_compile_options(hawser_options INTERFACE -Werror)
endif()

# ---------------------------------------------------------------------------------------------------------------- hardening
target_compile_definitions(hawser_options INTERFACE _GLIBCXX_ASSERTIONS)
target_compile_options(hawser_options INTERFACE -fstack-protector-strong)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(hawser_options INTERFACE -fcf-protection=full -fstack-clash-protection)
endif()
target_link_options(hawser_options INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
if(NOT HAWSER_SANITIZE)
  # Some distributions define it already; sanitizers do this work better.
  target_compile_options(hawser_options INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()

if(HAWSER_KILL_POINTS)
  target_compile_definitions(hawser_options INTERFACE HAWSER_KILL_POINTS)
endif()

# --------------------------------------------------------------------------------------------------------------- sanitizers
set_property(CACHE HAWSER_SANITIZE PROPERTY STRINGS "" address thread)
if(HAWSER_SANITIZE STREQUAL "address")
  # Not vptr: its check opens a pipe, which fails in the tests that have used up the descriptors. Not enum: C callers may
  # hand any value to the public functions, which check it; neither compiler uses the range of an enum unless told to by
  # -fstrict-enums.
  set(sanitize -fsanitize=address,undefined -fno-sanitize=vptr,enum -fno-sanitize-recover=all)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    list(APPEND sanitize -fno-sanitize=function)  # C programs cannot link what it needs
  endif()
elseif(HAWSER_SANITIZE STREQUAL "thread")
  set(sanitize -fsanitize=thread)
elseif(HAWSER_SANITIZE)
  message(FATAL_ERROR "HAWSER_SANITIZE is '${HAWSER_SANITIZE}': it must be empty, address (with undefined) or thread")
endif()
if(HAWSER_SANITIZE)
  target_compile_options(hawser_options INTERFACE ${sanitize} -fno-omit-frame-pointer)
  target_link_options(hawser_options INTERFACE ${sanitize})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(hawser_options INTERFACE -Wno-tsan)  # atomic_thread_fence is not understood by it
  endif()
endif()

if(HAWSER_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "HAWSER_FUZZ needs clang (libFuzzer): use the preset fuzz, or set CMAKE_C_COMPILER and CMAKE_CXX_COMPILER")
  endif()
  target_compile_options(hawser_options INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(hawser_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(HAWSER_COVERAGE)
  target_compile_options(hawser_options INTERFACE --coverage)
  target_link_options(hawser_options INTERFACE --coverage)
endif()
