// An outer optimizer of the DiLoCo family (Douillard et al., arXiv 2311.08105): owns the anchor (the parameters that
// all members agreed on last), the outer momentum and the averages in flight, and registers them as shared state, so
// that newcomers get them. A round's average is one weighted all-reduce, hence happens on all survivors or on none;
// what follows from it is arithmetic that gives the same bits everywhere.
//
// Delayed by one round, the average of the round before is applied while this round's is in flight. A newcomer could
// not take part in that one, so before a sync the members wait for it and share the result as the pending average.
//
// Any thread, one call at a time. The parameters are the user's memory, touched during calls only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "outer/rules.hpp"
#include "runtime/communicator.hpp"
#include "runtime/data/two_shot.hpp"
#include "runtime/shared_state.hpp"

namespace hawser::outer {

struct Param {
  std::string name;
  std::byte* data = nullptr;
  std::size_t count = 0;
  Dtype dtype = Dtype::f32;  // f32, bf16, f16
};

struct Config {
  double lr = 0.7;
  double momentum = 0.9;
  bool nesterov = true;
  bool delayed = false;
  bool fail_non_finite = false;
  bool error_feedback = false;
  bool manual_admission = false;
  runtime::Coding coding;  // format, seed and decay
  std::uint64_t tag = 0;
};

// What a call may take.
struct Limits {
  std::uint32_t op_timeout_ms = 0;
  std::uint32_t join_timeout_ms = 0;
  bool strict = false;
};

struct Info {
  std::uint64_t round = 0;
  std::uint64_t view = 0;
  std::uint32_t participants = 0;
  std::uint32_t contributors = 0;
  std::uint32_t left_out = 0;
  std::uint32_t attempts = 0;
  bool self_left_out = false;
  bool synced = false;
  double total_weight = 0;
  double delta_norm = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::int64_t wait_us = 0;
};

enum class Tensor : std::uint8_t { anchor = 0, momentum = 1, pending = 2 };

class Outer {
 public:
  // Throws std::bad_alloc. INVALID_ARGUMENT: names, configuration.
  static Result<std::unique_ptr<Outer>> create(std::vector<Param> params, const Config& config);
  ~Outer();
  Outer(const Outer&) = delete;
  Outer& operator=(const Outer&) = delete;

  using Session = std::shared_ptr<runtime::Communicator>;
  Status sync(const Session& session, const Limits& limits, runtime::SyncReport& report);
  Status step(const Session& session, const Limits& limits, double weight, Info& info);
  Status begin(const Session& session, const Limits& limits, double weight);
  Status finish(const Session& session, const Limits& limits, Info& info);

  Status move_param(const Param& param);
  Status read(Tensor tensor, std::size_t index, float* out, std::size_t count);
  Status write(Tensor tensor, std::size_t index, const float* values, std::size_t count);
  Status round(std::uint64_t& round, bool& pending);
  Status set_round(std::uint64_t round, bool pending);

 private:
  Outer(std::vector<Param> params, const Config& config);
  Status describe();

  struct Flight {  // a round's average on its way
    Session session;
    std::shared_ptr<runtime::OpRun> op;
    double norm = 0;
  };

  Status depart(const Session& session, const Limits& limits, double weight, double& norm);
  Status depart_again(const Session& session, const Limits& limits);
  Status launch(const Session& session, const Limits& limits, double norm);
  Status land(Info& info);  // waits for the flight; its average becomes the pending one, its story landed_
  void apply_pending(Info& info);
  void set_params();
  double take_delta();  // into flying_; its norm
  Status admit(const Session& session, const Limits& limits, Info& info);
  Status synchronize(const Session& session, const Limits& limits, runtime::SyncReport& report);
  Status ready(const Session& session) const;
  Result<float*> locate(Tensor which, std::size_t index, std::size_t count);
  void set_revision();
  void share_pending();

  std::mutex busy_;  // held by the call that is inside
  std::vector<Param> params_;
  std::vector<std::size_t> offsets_;  // of each parameter in the flat vectors
  const Config config_;
  std::string settings_;
  std::vector<std::string> pending_names_;  // of the tensors that share_pending moves
  std::size_t count_ = 0;
  std::vector<float> anchor_;
  std::vector<float> momentum_;
  std::vector<float> pending_;  // an average that has landed and is not applied yet; between calls only when delayed
  std::vector<float> flying_;   // lent to the operation in flight
  std::array<std::uint64_t, 2> counters_ = {0, 0};  // rounds in the anchor; 1: pending_ holds an average
  std::shared_ptr<runtime::Residual> residual_;
  runtime::SharedState state_;
  PeerId synced_;                 // as which member; zero: not yet
  std::uint64_t generation_ = 0;  // of the view in which it was
  std::unique_ptr<Flight> flight_;
  Info landed_;               // of the pending average: told when it is applied, whoever waited for it
  bool failed_ = false;       // delayed: the flight failed, flying_ holds its contribution, which is to be sent again
  double flying_weight_ = 0;  // of the contribution in flying_
};

}  // namespace hawser::outer
