// What is taken for unusually long.
#include "runtime/data/patience.hpp"
#include "support/catch.hpp"

using namespace hawser::runtime;
using hawser::wire::OpKind;

TEST_CASE("what is unusual follows from what is usual for the kind and size", "[patience]") {
  Patience patience;
  CHECK(patience.limit_ms(OpKind::barrier, 0) == slow_ms_unknown);
  patience.took(OpKind::barrier, 0, 10);
  patience.took(OpKind::barrier, 0, 10);
  CHECK(patience.limit_ms(OpKind::barrier, 0) == slow_ms_unknown);
  patience.took(OpKind::barrier, 0, 10);
  CHECK(patience.limit_ms(OpKind::barrier, 0) == slow_ms_min);
  CHECK(patience.limit_ms(OpKind::all_reduce, 0) == slow_ms_unknown);

  // One of three was slow: the median is not.
  for (const int ms : {700, 90000, 800}) patience.took(OpKind::all_reduce, 1U << 20, ms * 1000LL);
  CHECK(patience.limit_ms(OpKind::all_reduce, 1U << 20) == 2400);
  CHECK(patience.limit_ms(OpKind::all_reduce, (2U << 20) - 1) == 2400);  // of the same power of two
  CHECK(patience.limit_ms(OpKind::all_reduce, 2U << 20) == slow_ms_unknown);

  // Old ones are forgotten.
  for (int i = 0; i < 15; ++i) patience.took(OpKind::all_reduce, 1U << 20, 2000 * 1000LL);
  CHECK(patience.limit_ms(OpKind::all_reduce, 1U << 20) == 6000);
}
