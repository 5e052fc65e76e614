// The schedules by property: run by all members on sets of contributors, every element of every member must end with
// all of them, nothing may be reduced twice, and no member may send more than the bound.
#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "plan/schedule.hpp"
#include "support/catch.hpp"

using hawser::plan::Schedule;
using hawser::plan::ScheduleInput;
using hawser::plan::Segment;
using hawser::plan::Shape;

namespace {

// Elements are bit sets of contributors; a unit travels at once when it is ready. Slow and obvious.
struct Machine {
  std::vector<Schedule> plans;
  std::vector<std::vector<std::uint64_t>> buffers;
  std::vector<std::size_t> sent;

  Machine(Shape shape, std::uint32_t size, std::size_t count, std::size_t unit) {
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      plans.emplace_back(ScheduleInput{shape, size, rank, count, unit});
      const bool source = shape == Shape::ring || rank == 0;
      buffers.emplace_back(count, source ? std::uint64_t{1} << rank : 0);
      sent.push_back(0);
    }
  }

  void run(Shape shape) {
    struct Unit {
      std::uint32_t from, slice, step;
    };
    std::vector<Unit> ready;
    const auto make_ready = [&](std::uint32_t rank, std::uint32_t slice, std::uint32_t step) {
      if (plans[rank].sends(step)) ready.push_back({rank, slice, step});
    };
    std::vector<std::size_t> received(plans.size(), 0);
    for (std::uint32_t rank = 0; rank < plans.size(); ++rank) {
      for (std::uint32_t slice = 0; slice < plans[rank].slices(); ++slice) make_ready(rank, slice, 0);
    }
    while (!ready.empty()) {
      const Unit unit = ready.back();
      ready.pop_back();
      const auto to = static_cast<std::uint32_t>((unit.from + 1) % plans.size());
      const Segment out = plans[unit.from].sent(unit.slice, unit.step);
      const Segment in = plans[to].received(unit.slice, unit.step);
      REQUIRE(out.offset == in.offset);
      REQUIRE(out.count == in.count);
      REQUIRE(plans[to].receives(unit.step));
      REQUIRE(plans[unit.from].piece(unit.slice, unit.step, true) == plans[to].piece(unit.slice, unit.step, false));
      sent[unit.from] += out.count;
      ++received[to];
      for (std::size_t i = out.offset; i < out.offset + out.count; ++i) {
        const std::uint64_t value = buffers[unit.from][i];
        if (plans[to].reduces(unit.step)) {
          REQUIRE((buffers[to][i] & value) == 0);
          buffers[to][i] |= value;
          if (plans[to].completes(unit.step)) REQUIRE(buffers[to][i] == all(shape));
        } else {
          REQUIRE(value == all(shape));
          buffers[to][i] = value;
        }
      }
      make_ready(to, unit.slice, unit.step + 1);
    }
    for (std::uint32_t rank = 0; rank < plans.size(); ++rank) {
      REQUIRE(received[rank] == plans[rank].receive_count());
      for (const std::uint64_t value : buffers[rank]) REQUIRE(value == all(shape));
    }
  }

  [[nodiscard]] std::uint64_t all(Shape shape) const {
    return shape == Shape::ring ? (std::uint64_t{1} << plans.size()) - 1 : 1;
  }
};

}  // namespace

TEST_CASE("ring all-reduce: every element is reduced once by everybody", "[plan]") {
  for (std::uint32_t size = 2; size <= 9; ++size) {
    for (const std::size_t count : {1U, 2U, 3U, 7U, 8U, 64U, 65U, 1000U}) {
      for (const std::size_t unit : {1U, 3U, 16U, 100000U}) {
        CAPTURE(size, count, unit);
        Machine machine(Shape::ring, size, count, unit);
        machine.run(Shape::ring);
        // Steps and bytes: 2(n-1) steps; with parts that differ by one element at most, 2(n-1)/n of the buffer and a
        // bit.
        REQUIRE(machine.plans[0].steps() == 2 * (size - 1));
        for (const std::size_t sent : machine.sent) {
          REQUIRE(sent <= 2 * (size - 1) * (count / size + machine.plans[0].slices()));
        }
      }
    }
  }
}

TEST_CASE("chain broadcast: the root's bytes reach everybody once", "[plan]") {
  for (std::uint32_t size = 2; size <= 9; ++size) {
    for (const std::size_t count : {1U, 5U, 100U}) {
      CAPTURE(size, count);
      Machine machine(Shape::chain, size, count, 16);
      machine.run(Shape::chain);
      for (std::uint32_t rank = 0; rank < size; ++rank) REQUIRE(machine.sent[rank] == (rank + 1 < size ? count : 0));
    }
  }
}

TEST_CASE("units are never larger than asked, and segments tile the buffer", "[plan]") {
  for (const std::uint32_t size : {2U, 3U, 4U, 8U}) {
    for (const std::size_t count : {1U, 100U, 4096U, 100003U}) {
      const Schedule plan(ScheduleInput{Shape::ring, size, 1, count, 1024});
      std::map<std::size_t, std::size_t> segments;
      for (std::uint32_t slice = 0; slice < plan.slices(); ++slice) {
        for (std::uint32_t step = 0; step < plan.steps(); ++step) {
          const Segment segment = plan.received(slice, step);
          REQUIRE(segment.count <= 1024);
          if (segment.count != 0) segments[segment.offset] = segment.count;
        }
      }
      std::size_t at = 0;
      for (const auto& [offset, length] : segments) {
        REQUIRE(offset == at);
        at += length;
      }
      REQUIRE(at == count);
    }
  }
}

TEST_CASE("nothing to move: one member, no elements, no shape", "[plan]") {
  REQUIRE(Schedule(ScheduleInput{Shape::ring, 1, 0, 100, 16}).receive_count() == 0);
  REQUIRE(Schedule(ScheduleInput{Shape::ring, 4, 0, 0, 16}).slices() == 0);
  REQUIRE_FALSE(Schedule(ScheduleInput{Shape::none, 4, 0, 100, 16}).sends(0));
}

TEST_CASE("direct all-reduce: every contribution reaches its owner, every result everybody", "[plan]") {
  for (std::uint32_t size = 1; size <= 9; ++size) {
    for (const std::size_t count : {1U, 2U, 7U, 64U, 1000U}) {
      for (const std::size_t unit : {1U, 16U, 100000U}) {
        CAPTURE(size, count, unit);
        std::vector<Schedule> plans;
        for (std::uint32_t rank = 0; rank < size; ++rank) {
          plans.emplace_back(ScheduleInput{Shape::direct, size, rank, count, unit});
        }
        REQUIRE(plans[0].steps() == 2 * (size - 1));
        std::vector<std::uint64_t> gathered(count, 0);  // owner's contributors of each element
        std::vector<std::vector<std::size_t>> results(size, std::vector<std::size_t>(count, 0));
        for (std::uint32_t rank = 0; rank < size; ++rank) {
          const Schedule& plan = plans[rank];
          REQUIRE(plan.receive_count() == static_cast<std::size_t>(plan.steps()) * plan.slices());
          std::size_t sent = 0;
          for (std::uint32_t slice = 0; slice < plan.slices(); ++slice) {
            const Segment own = plan.own(slice);
            for (std::size_t i = own.offset; i < own.offset + own.count; ++i) {
              gathered[i] |= std::uint64_t{1} << rank;
              ++results[rank][i];
            }
            for (std::uint32_t step = 0; step < plan.steps(); ++step) {
              REQUIRE(plan.sends(step));
              const std::uint32_t to = (rank + plan.distance(step)) % size;
              REQUIRE(to != rank);
              REQUIRE((to + size - plans[to].distance(step)) % size == rank);
              const Segment out = plan.sent(slice, step);
              const Segment in = plans[to].received(slice, step);
              REQUIRE((out.offset == in.offset && out.count == in.count && out.count <= unit));
              REQUIRE(plan.piece(slice, step, true) == plans[to].piece(slice, step, false));
              sent += out.count;
              for (std::size_t i = out.offset; i < out.offset + out.count; ++i) {
                if (plan.scatters(step)) {
                  REQUIRE((gathered[i] & std::uint64_t{1} << rank) == 0);
                  gathered[i] |= std::uint64_t{1} << rank;
                  REQUIRE((i >= plans[to].own(slice).offset &&
                           i < plans[to].own(slice).offset + plans[to].own(slice).count));
                } else {
                  ++results[to][i];
                }
              }
            }
          }
          REQUIRE(sent <= 2 * (size - 1) * (count / size + plan.slices()));
        }
        for (const std::uint64_t who : gathered) REQUIRE(who == (std::uint64_t{1} << size) - 1);
        for (const auto& result : results) {
          for (const std::size_t times : result) REQUIRE(times == 1);
        }
      }
    }
  }
}

TEST_CASE("flat all-reduce: the whole buffer from everybody to everybody, once", "[plan]") {
  for (std::uint32_t size = 2; size <= 9; ++size) {
    std::vector<Schedule> plans;
    for (std::uint32_t rank = 0; rank < size; ++rank) plans.emplace_back(ScheduleInput{Shape::flat, size, rank, 7, 7});
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      const Schedule& plan = plans[rank];
      REQUIRE((plan.slices() == 1 && plan.parts() == 1 && plan.steps() == size - 1));
      REQUIRE(plan.receive_count() == size - 1);
      std::vector<std::uint32_t> reached(size, 0);
      for (std::uint32_t step = 0; step < plan.steps(); ++step) {
        REQUIRE((plan.sends(step) && plan.receives(step) && !plan.reduces(step)));
        REQUIRE((plan.sent(0, step).offset == 0 && plan.sent(0, step).count == 7 && plan.received(0, step).count == 7));
        ++reached[(rank + plan.distance(step)) % size];
      }
      for (std::uint32_t other = 0; other < size; ++other) REQUIRE(reached[other] == (other == rank ? 0 : 1));
    }
  }
}

TEST_CASE("the shape of an all-reduce: a mebibyte is sent for a latency, and no more", "[plan]") {
  for (const std::uint32_t size : {2U, 3U, 4U, 16U, 256U, 1024U}) {
    Shape before = Shape::flat;
    for (std::size_t bytes = 1; bytes <= (std::size_t{8} << 20); bytes *= 2) {
      CAPTURE(size, bytes);
      const Shape shape = hawser::plan::all_reduce_shape(bytes, size);
      if (shape == Shape::flat) REQUIRE(bytes * (size - 1) <= (std::size_t{1} << 20));
      if (shape == Shape::direct) REQUIRE((size > 2 && bytes <= std::size_t{size} << 15));
      // With the bytes it only goes from flat to direct to ring.
      REQUIRE((shape == before || shape == Shape::ring || (before == Shape::flat && shape == Shape::direct)));
      before = shape;
    }
    REQUIRE(before == Shape::ring);
  }
  REQUIRE(hawser::plan::all_reduce_shape(4096, 256) == Shape::flat);
}
