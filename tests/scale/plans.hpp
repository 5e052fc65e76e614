// What a member sends and when, as the simulated network asks for it: the schedules of src/plan with the rules by which
// the engine makes their units ready. Any other way to reduce is tried by deriving from Plan. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "plan/schedule.hpp"

namespace hawser::scale {

// One unit on its way to another member.
struct Unit {
  std::uint32_t to = 0;
  std::uint32_t slice = 0;
  std::uint32_t step = 0;
  std::size_t bytes = 0;  // of payload
};

// One member's part of an all-reduce.
class Plan {
 public:
  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  virtual ~Plan() = default;
  // Members that are told at the beginning that the buffers are there.
  [[nodiscard]] virtual std::vector<std::uint32_t> greeted() const = 0;
  virtual void begin(std::vector<Unit>& ready) = 0;
  virtual void receive(std::uint32_t slice, std::uint32_t step, std::vector<Unit>& ready) = 0;
  [[nodiscard]] virtual bool finished() const = 0;
};

// As the engine has them (runtime/data): what a unit carries at most.
inline constexpr std::size_t unit_bytes = 256U << 10;

struct Reduction {
  std::uint32_t size = 1;
  std::uint32_t rank = 0;
  std::size_t bytes = 0;  // of the buffer
};
using Planner = std::function<std::unique_ptr<Plan>(const Reduction&)>;

// A schedule of src/plan, of fp32 elements: ring, direct or flat.
Planner scheduled(plan::Shape shape, std::size_t largest_unit = unit_bytes);
// That which the library takes for so many bytes and members.
Planner library();

}  // namespace hawser::scale
