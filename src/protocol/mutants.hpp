// Known mistakes that tests plant to see that they would be found. Nothing of this is in a normal build: the condition
// is the constant false there.
#pragma once

namespace hawser::protocol {

// 1 to mutant_count; tests/sim/main.cpp says what each is.
inline constexpr unsigned mutant_count = 31;

#ifdef HAWSER_MUTANTS
inline int planted_mutant = 0;
#define HAWSER_MUTANT(n) (::hawser::protocol::planted_mutant == (n))
#else
#define HAWSER_MUTANT(n) false
#endif

}  // namespace hawser::protocol
