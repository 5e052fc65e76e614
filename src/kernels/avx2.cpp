// The variant for processors with AVX2 and F16C: vectors of 32 bytes. Compiled with these switched on (flags.cmake), so
// nothing here may run before the dispatcher has asked the processor. Any thread.
#if defined(__x86_64__)

#if !defined(__AVX2__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mf16c"
#endif
#include "kernels/elementwise.hpp"

namespace hawser::kernels {

const Table avx2_table = make_table<Avx2>();

}  // namespace hawser::kernels

#endif
