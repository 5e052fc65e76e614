// Loops of the outer step; see the header. They are functions of their own, never inlined, because the floating-point
// environment that is set up around them must not be mixed with them.
#include "outer/rules.hpp"

#include "kernels/vector.hpp"

namespace hawser::outer {
namespace {

[[gnu::noinline]] double subtract(float* delta, const float* anchor, const float* values, std::size_t count) {
  double squares = 0;
  for (std::size_t i = 0; i < count; ++i) {
    delta[i] = anchor[i] - values[i];
    squares += static_cast<double>(delta[i]) * static_cast<double>(delta[i]);
  }
  return squares;
}

[[gnu::noinline]] void nesterov_step(float* anchor, float* velocity, const float* delta, std::size_t count,
                                     const StepRule& rule) {
  const float lr = rule.lr;
  const float momentum = rule.momentum;
  for (std::size_t i = 0; i < count; ++i) {
    const float v = momentum * velocity[i] + delta[i];
    velocity[i] = v;
    anchor[i] = anchor[i] - lr * (delta[i] + momentum * v);
  }
}

[[gnu::noinline]] void plain_step(float* anchor, float* velocity, const float* delta, std::size_t count,
                                  const StepRule& rule) {
  const float lr = rule.lr;
  const float momentum = rule.momentum;
  for (std::size_t i = 0; i < count; ++i) {
    const float v = momentum * velocity[i] + delta[i];
    velocity[i] = v;
    anchor[i] = anchor[i] - lr * v;
  }
}

}  // namespace

double pseudo_gradient(float* delta, const float* anchor, const float* values, std::size_t count) {
  const kernels::FloatEnvironment environment;
  return subtract(delta, anchor, values, count);
}

void outer_step(float* anchor, float* velocity, const float* delta, std::size_t count, const StepRule& rule) {
  const kernels::FloatEnvironment environment;
  rule.nesterov ? nesterov_step(anchor, velocity, delta, count, rule)
                : plain_step(anchor, velocity, delta, count, rule);
}

}  // namespace hawser::outer
