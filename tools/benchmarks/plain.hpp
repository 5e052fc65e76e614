// Plain loops, against which kernels are measured: the same streams of memory, the least arithmetic, written as anybody
// would and left to the compiler, which may use every instruction of the machine that builds it. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace plain {

// What goes in and out, in bytes an element: a loop each.
void add(float* dst, const float* a, const float* b, std::size_t count);                                 // 4 + 4 -> 4
void add_narrow(std::uint32_t* dst, const std::uint16_t* a, const std::uint16_t* b, std::size_t count);  // 2 + 2 -> 4
void add_mixed(std::uint32_t* dst, const std::uint32_t* a, const std::uint16_t* b, std::size_t count);   // 4 + 2 -> 4
void narrow(std::uint16_t* dst, const std::uint32_t* src, std::size_t count);                            // 4 -> 2
void widen(std::uint32_t* dst, const std::uint16_t* src, std::size_t count);                             // 2 -> 4
void add_one(float* data, std::size_t count);                                      // 4 -> the same 4
std::uint64_t sum(const std::uint64_t* data, std::size_t count);                   // 8 ->
void bytes_of(std::uint8_t* dst, const std::uint32_t* src, std::size_t count);     // 4 -> 1
void add_bytes(std::uint32_t* acc, const std::uint8_t* src, std::size_t count);    // 1 + 4 -> the same 4
void nibbles_of(std::uint8_t* dst, const std::uint32_t* src, std::size_t count);   // 4 -> 1/2
void add_nibbles(std::uint32_t* acc, const std::uint8_t* src, std::size_t count);  // 1/2 + 4 -> the same 4
void add_halves(std::uint32_t* acc, const std::uint16_t* src, std::size_t count);  // 2 + 4 -> the same 4

}  // namespace plain
