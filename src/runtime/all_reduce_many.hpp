// A list of all-reduces as one call: a few in flight at a time, one deadline, and a report that says under which
// membership each committed. On demand the results are of one membership or nobody gets any: they are kept back, inputs
// are only read meanwhile, and items that lost members had committed with run again among those who are left.
// docs/protocol.md#lists has the rules.
//
// Every member starts every item, whatever became of those before it, so all count the same calls; what cannot be
// started any more is counted all the same. Runs on the thread that calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/byte_buffer.hpp"
#include "runtime/data/engine.hpp"

namespace hawser::runtime {

inline constexpr std::size_t in_flight_default = 8;
inline constexpr std::size_t in_flight_limit = wire::ops_open_max;

// Asked by a thread that waits, about every 50 ms; true: the caller wants the operation cancelled.
using Interrupted = std::function<bool()>;
// Waits for the end, or cancels and then waits for the end.
OpReport wait_interruptible(Engine& engine, OpRun& op, const Interrupted& interrupted);

struct ManyOptions {
  std::uint64_t tag = 0;
  std::uint32_t timeout_ms = 0;  // of the whole call
  std::size_t in_flight = in_flight_default;
  bool strict = false;
  bool uniform = false;
  Interrupted interrupted;
};

struct ManyItem {
  OpReport report;                   // of the last run; bytes, time and attempts of all
  std::uint32_t runs = 0;            // times it was started
  std::vector<PeerId> participants;  // what the report's spans look into
  std::vector<double> weights;
};

struct ManyReport {
  Status status;  // the first failure in the order of the list
  std::vector<ManyItem> items;
  bool uniform = false;      // all are committed, with the same participants
  std::uint32_t rounds = 1;  // 1 + the times that items ran again for that
  std::size_t reruns = 0;    // items that did, counted each time
  std::size_t first_failed = 0;
  std::int64_t time_us = 0;
};

class AllReduceMany {
 public:
  // Calls without tag, policy, timeout and fault. No residual is there twice.
  AllReduceMany(Engine& engine, std::vector<OpCall> calls, ManyOptions options);
  ~AllReduceMany();
  AllReduceMany(const AllReduceMany&) = delete;
  AllReduceMany& operator=(const AllReduceMany&) = delete;

  // Once. With `runs` 0 in every item nothing was started.
  ManyReport run();

 private:
  struct Item {
    OpCall call;
    std::byte* recv = nullptr;                // the user's
    ByteBuffer kept_back;                     // uniform, in place: the result until it is decided
    std::shared_ptr<Residual> user_residual;  // uniform: taken for the whole call, call.coding has one of its own
    std::shared_ptr<OpRun> run;               // in flight
    std::uint64_t generation = 0;
    bool ended = false;  // the result below is that of this round
    ManyItem result;
  };

  Status take_residuals();
  void make_room();
  void keep_back();
  Status reduce();
  void run_items();
  bool start(Item& item);
  Status start_run(Item& item, std::int64_t left_ms, const std::optional<OpCall::Fault>& fault);
  bool reap(Item& item);
  void end(Item& item, const Status& status);
  void end_round() noexcept;
  void give_up(wire::FaultReason reason, const char* why, const Status& status);
  void look_for_interrupt();
  void find_reruns();
  [[nodiscard]] std::vector<Item>::const_iterator first_failure() const;
  void publish();
  void withhold(const Status& status, std::size_t why);

  Engine& engine_;
  const ManyOptions options_;
  std::vector<Item> items_;
  std::vector<std::size_t> which_;                     // items of this round
  std::vector<std::span<const PeerId>> participants_;  // of each item; room is made before anything starts
  std::size_t oldest_ = 0;                             // of which_: those before have ended
  std::size_t unstarted_ = 0;                          // of which_: this one and those behind; >= oldest_
  std::size_t in_flight_ = 0;                          // between the two
  wire::OpKey next_;                                   // of the next call, as everyone counts
  bool started_ = false;                               // any
  std::int64_t deadline_ms_ = 0;
  std::int64_t looked_ms_ = 0;
  std::optional<OpCall::Fault> fault_;  // the items are not wanted any more: the rest is started to be ended
  bool cancelled_ = false;
  std::optional<Status> stopped_;  // nothing can be started any more
  std::uint32_t rounds_ = 1;
  std::size_t reruns_ = 0;
};

}  // namespace hawser::runtime
