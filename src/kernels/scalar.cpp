// The variant for any processor. Any thread.
#include "kernels/elementwise.hpp"

namespace hawser::kernels {

const Table scalar_table = make_table<Baseline>();

}  // namespace hawser::kernels
