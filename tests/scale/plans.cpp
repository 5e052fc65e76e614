// See the header.
#include "scale/plans.hpp"

#include <utility>

namespace hawser::scale {
namespace {

using plan::Schedule;
using plan::ScheduleInput;
using plan::Shape;

constexpr std::size_t element = 4;

class Scheduled : public Plan {
 public:
  Scheduled(Shape shape, const Reduction& of, std::size_t largest_unit)
      : of_(of),
        schedule_(ScheduleInput{shape, of.size, of.rank, of.bytes / element, largest_unit / element}),
        missing_(schedule_.receive_count()),
        scattered_(schedule_.exchanges() ? schedule_.slices() : 0, 0) {}

  [[nodiscard]] std::vector<std::uint32_t> greeted() const override {
    const std::uint32_t n = of_.size;
    if (schedule_.shape() == Shape::ring) return {(of_.rank + n - 1) % n, (of_.rank + 1) % n};
    std::vector<std::uint32_t> all;
    for (std::uint32_t away = 1; away < n; ++away) all.push_back((of_.rank + away) % n);
    return all;
  }

  void begin(std::vector<Unit>& ready) override {
    const std::uint32_t first = schedule_.shape() == Shape::ring ? 1 : of_.size - 1;
    for (std::uint32_t slice = 0; slice < schedule_.slices(); ++slice) {
      for (std::uint32_t step = 0; step < first; ++step) send(slice, step, ready);
    }
  }

  void receive(std::uint32_t slice, std::uint32_t step, std::vector<Unit>& ready) override {
    --missing_;
    if (schedule_.shape() == Shape::ring) return send(slice, step + 1, ready);
    if (!schedule_.scatters(step) || ++scattered_[slice] < of_.size - 1) return;
    for (std::uint32_t next = of_.size - 1; next < schedule_.steps(); ++next) send(slice, next, ready);
  }

  [[nodiscard]] bool finished() const override { return missing_ == 0; }

 private:
  void send(std::uint32_t slice, std::uint32_t step, std::vector<Unit>& ready) const {
    if (!schedule_.sends(step)) return;
    const std::uint32_t to = (of_.rank + schedule_.distance(step)) % of_.size;
    ready.push_back({to, slice, step, schedule_.sent(slice, step).count * element});
  }

  const Reduction of_;
  const Schedule schedule_;
  std::size_t missing_;
  std::vector<std::uint32_t> scattered_;  // contributions to the own segment of each slice
};

}  // namespace

Planner scheduled(Shape shape, std::size_t largest_unit) {
  return [=](const Reduction& of) { return std::make_unique<Scheduled>(shape, of, largest_unit); };
}

Planner library() {
  return [](const Reduction& of) {
    return std::make_unique<Scheduled>(plan::all_reduce_shape(of.bytes, of.size), of, unit_bytes);
  };
}

}  // namespace hawser::scale
