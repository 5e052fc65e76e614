// The arithmetic of outer steps on flat f32 vectors: element by element, in a fixed order of operations, each rounded,
// so that equal inputs give equal bits on every processor. Pure; any thread.
#pragma once

#include <cstddef>

namespace hawser::outer {

// delta = anchor - values, the pseudo-gradient (descent-positive: anchor - delta moves towards the local model).
// Gives the sum of squares, in f64 and element order; not finite exactly when an element of delta is not (or so large
// that nothing sensible could come of it).
double pseudo_gradient(float* delta, const float* anchor, const float* values, std::size_t count);

struct StepRule {
  float lr = 0.7F;
  float momentum = 0.9F;
  bool nesterov = true;
};
// velocity <- momentum velocity + delta; anchor <- anchor - lr (delta + momentum velocity), without Nesterov
// anchor - lr velocity: the form of torch.optim.SGD (the first velocity is delta, since it begins as 0).
void outer_step(float* anchor, float* velocity, const float* delta, std::size_t count, const StepRule& rule);

}  // namespace hawser::outer
