// The variant for processors with AVX-512 F, BW, DQ and VL: vectors of 64 bytes. Compiled with these switched on
// (flags.cmake), so nothing here may run before the dispatcher has asked the processor. Any thread.
#if defined(__x86_64__)

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "compile this file with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "kernels/elementwise.hpp"

namespace hawser::kernels {

const Table avx512_table = make_table<Avx512>();

}  // namespace hawser::kernels

#endif
