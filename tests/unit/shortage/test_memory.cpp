// The n-th allocation fails, n = 1, 2, 3, ..., in every call of the C API and on every thread of the library. Wanted:
// the call's success or RESOURCE, inputs as they were, nothing leaked (in the build with the address sanitizer), nobody
// stuck, and either a communicator that goes on or one that ended for good while the others go on without it.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "failing.hpp"
#include "runtime/data/byte_buffer.hpp"
#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)
using failing::What;
using failing::Where;

namespace {

// A folder of its own for a coordinator's log.
class Folder {
 public:
  Folder() {
    const char* const root = std::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): nobody sets it
    std::string pattern = std::string(root == nullptr ? "/tmp" : root) + "/hawser-shortage-XXXXXX";
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] const char* path() const { return path_.c_str(); }

 private:
  std::string path_;
};

// A call that needs nobody else. `undo` runs after those that succeeded.
void sweep_call(
    const std::string& name, const std::function<hawser_status_t()>& call, const std::function<void()>& undo = [] {},
    hawser_status_t wanted = HAWSER_OK) {
  hawser_status_t status = HAWSER_INTERNAL;
  const long failures = failing::sweep(
      What::memory, Where::caller, [&] { status = call(); },
      [&](bool failed) {
        INFO(name << ": " << hawser_status_name(status) << ": " << hawser_last_error());
        CHECK((status == wanted || (failed && status == HAWSER_RESOURCE)));
        if (status == HAWSER_OK) undo();
      });
  UNSCOPED_INFO(name << ": " << failures);
}

hawser_compression_t coded_with(hawser_codec_t codec) {
  hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
  compression.codec = static_cast<std::uint32_t>(codec);
  return compression;
}

// Tests, waits and frees.
hawser_status_t end_of(hawser_op_t* op) {
  hawser_op_info_t info = HAWSER_OP_INFO_INIT;
  (void)hawser_op_test(op, nullptr);
  hawser_status_t status = hawser_op_wait(op, 0, &info);
  if (status == HAWSER_RESOURCE) status = hawser_op_wait(op, 0, &info);  // of this call or of the operation
  // Frees the handle whatever happens.
  const hawser_status_t released = hawser_op_release(op);
  return status == HAWSER_OK && released != HAWSER_OK ? HAWSER_INTERNAL : status;
}

// What two members do together, with the data of each: member 0, whose allocations fail, begins with 1 everywhere, the
// other with 2.
class Work {
 public:
  virtual ~Work() = default;
  virtual hawser_status_t call(hawser_comm_t* comm) = 0;
  virtual bool tells_later() const { return false; }  // a call may report what an earlier one lacked
  virtual bool untouched() const { return true; }     // inputs, after a failure
  virtual bool right() const { return true; }         // results, after a success; one or two took part
};
using Make = std::function<std::unique_ptr<Work>(hawser_comm_t* comm, std::uint32_t number)>;

// Two members, the first on this thread with an allocation that fails.
struct Pair {
  explicit Pair(const Make& make)
      : coordinator(500), comms(make_group(coordinator, 2, [](auto& config) { config.op_timeout_ms = 10000; })) {
    for (std::uint32_t i = 0; i < 2; ++i) works.push_back(make(comms[i].get(), i));
  }
  ~Pair() { works.clear(); }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  const Coordinator coordinator;
  std::vector<Comm> comms;
  std::vector<std::unique_ptr<Work>> works;
};

void sweep_work(const std::string& name, const Make& make) {
  auto pair = std::make_unique<Pair>(make);
  hawser_status_t mine = HAWSER_INTERNAL;
  hawser_status_t theirs = HAWSER_INTERNAL;
  std::atomic<bool> go{false};
  std::thread other;
  long ended = 0;
  const auto launch = [&] {
    go = false;
    other = std::thread([&] {
      go.wait(false);
      do {
        theirs = pair->works[1]->call(pair->comms[1].get());
      } while (theirs == HAWSER_RESOURCE);  // the first one's vote
    });
  };
  launch();
  const long failures = failing::sweep(
      What::memory, Where::caller,
      [&] {
        go = true;
        go.notify_all();
        mine = pair->works[0]->call(pair->comms[0].get());
      },
      [&](bool failed) {
        const std::string sentence = hawser_last_error();
        const hawser_status_t first = mine;
        CHECK((mine != HAWSER_RESOURCE || pair->works[0]->untouched()));
        const auto is_member = [&] {
          hawser_view_t view = HAWSER_VIEW_INIT;
          return hawser_comm_view(pair->comms[0].get(), &view) == HAWSER_OK;
        };
        // Also after a success: its thread may have read more than it was waiting for.
        bool alive = is_member();
        while (alive && mine == HAWSER_RESOURCE) {
          mine = pair->works[0]->call(pair->comms[0].get());
          alive = is_member();
        }
        const std::string last = hawser_last_error();
        other.join();
        INFO("last: " << last);
        INFO(name << ": " << hawser_status_name(first) << ": " << sentence << "; then " << hawser_status_name(mine)
                  << ", the other " << hawser_status_name(theirs));
        const bool may_lack = failed || pair->works[0]->tells_later();
        CHECK((first == HAWSER_OK || (may_lack && first == HAWSER_RESOURCE)));
        CHECK(theirs == HAWSER_OK);
        CHECK(pair->works[1]->right());
        if (alive) CHECK(mine == HAWSER_OK);
        if (mine == HAWSER_OK) CHECK(pair->works[0]->right());
        if (!alive) ++ended;
        if (!alive || mine != HAWSER_OK || theirs != HAWSER_OK) pair = std::make_unique<Pair>(make);
        if (failed) launch();
      });
  UNSCOPED_INFO(name << ": " << failures << " failures, of which " << ended << " ended the membership");
}

class Reduce : public Work {
 public:
  Reduce(std::uint32_t number, std::size_t count, bool in_place, hawser_codec_t codec = HAWSER_CODEC_NONE)
      : number_(number), in_place_(in_place), coded_(codec != HAWSER_CODEC_NONE), send_(count), recv_(count) {
    if (!coded_) return;
    compression_ = coded_with(codec);
    expect(hawser_residual_create(count, &compression_.residual), HAWSER_OK, "residual");
  }
  ~Reduce() override {
    if (coded_) hawser_residual_destroy(compression_.residual);
  }
  hawser_status_t call(hawser_comm_t* comm) override {
    send_.assign(send_.size(), static_cast<float>(number_ + 1));
    hawser_op_options_t options = options_of();
    return reduce(comm, send_.data(), in_place_ ? send_.data() : recv_.data(), send_.size(), &options);
  }
  bool untouched() const override { return send_ == std::vector<float>(send_.size(), static_cast<float>(number_ + 1)); }
  bool right() const override {
    const std::vector<float>& out = in_place_ ? send_ : recv_;
    if (coded_) return out.front() > 0.9F && out.back() < 3.1F;
    return out == std::vector<float>(out.size(), 3.0F) ||
           out == std::vector<float>(out.size(), static_cast<float>(number_ + 1));
  }

 protected:
  virtual hawser_status_t reduce(hawser_comm_t* comm, const float* send, float* recv, std::size_t count,
                                 const hawser_op_options_t* options) {
    return hawser_all_reduce(comm, send, recv, count, HAWSER_F32, HAWSER_SUM, options, nullptr);
  }
  hawser_op_options_t options_of() {
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    if (coded_) options.compression = &compression_;
    return options;
  }

 private:
  const std::uint32_t number_;
  const bool in_place_;
  const bool coded_;
  std::vector<float> send_;
  std::vector<float> recv_;
  hawser_compression_t compression_ = HAWSER_COMPRESSION_INIT;
};

// The same by a handle: started, tested, waited for, released.
class Started : public Reduce {
 public:
  using Reduce::Reduce;

 protected:
  hawser_status_t reduce(hawser_comm_t* comm, const float* send, float* recv, std::size_t count,
                         const hawser_op_options_t* options) override {
    hawser_op_t* op = nullptr;
    const hawser_status_t started =
        hawser_all_reduce_start(comm, send, recv, count, HAWSER_F32, HAWSER_SUM, options, &op);
    if (started != HAWSER_OK) return started;
    return end_of(op);
  }
};

class Many : public Work {
 public:
  Many(std::uint32_t number, bool uniform) : number_(number), uniform_(uniform) {
    for (const std::size_t count : {5U, 100000U, 70U, 3000U}) tensors_.emplace_back(count);
  }
  hawser_status_t call(hawser_comm_t* comm) override {
    std::array<hawser_many_item_t, 4> items;
    for (std::size_t k = 0; k < items.size(); ++k) {
      tensors_[k].assign(tensors_[k].size(), number_ + 1);
      items[k] = HAWSER_MANY_ITEM_INIT;
      items[k].send = items[k].recv = tensors_[k].data();
      items[k].count = tensors_[k].size();
      items[k].dtype = HAWSER_F64;
      infos_[k] = HAWSER_OP_INFO_INIT;
    }
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.flags = uniform_ ? HAWSER_OP_UNIFORM : 0;
    return hawser_all_reduce_many(comm, items.data(), items.size(), 2, &options, infos_.data(), nullptr);
  }
  bool untouched() const override {
    for (std::size_t k = 0; k < tensors_.size(); ++k) {
      const bool committed = infos_[k].runs != 0 && infos_[k].status == HAWSER_OK;
      if (!committed && tensors_[k] != std::vector<double>(tensors_[k].size(), number_ + 1)) return false;
      if (committed && uniform_) return false;
    }
    return true;
  }
  bool right() const override {
    for (const auto& tensor : tensors_) {
      if (tensor != std::vector<double>(tensor.size(), 3.0) &&
          tensor != std::vector<double>(tensor.size(), number_ + 1))
        return false;
    }
    return true;
  }

 private:
  const std::uint32_t number_;
  const bool uniform_;
  std::vector<std::vector<double>> tensors_;
  std::array<hawser_op_info_t, 4> infos_{};
};

// From the member whose allocations work, so that the root is there in any case.
class Broadcast : public Work {
 public:
  Broadcast(hawser_comm_t* comm, std::uint32_t number, bool starts = false) : number_(number), starts_(starts) {
    hawser_view_t view = HAWSER_VIEW_INIT;
    expect(hawser_comm_view(comm, &view), HAWSER_OK, "view");
    root_ = number == 1 ? view.rank : 1 - view.rank;
  }
  hawser_status_t call(hawser_comm_t* comm) override {
    if (is_alone(comm)) root_ = 0;
    const hawser_status_t status = once(comm);
    // The other one may go between the look at the view and the call.
    if (status != HAWSER_INVALID_ARGUMENT || root_ == 0 || !is_alone(comm)) return status;
    root_ = 0;
    return once(comm);
  }
  bool right() const override { return data_ == std::vector<int>(data_.size(), 1); }

 private:
  static bool is_alone(hawser_comm_t* comm) {
    hawser_view_t view = HAWSER_VIEW_INIT;
    return hawser_comm_view(comm, &view) == HAWSER_OK && view.world_size == 1;
  }
  hawser_status_t once(hawser_comm_t* comm) {
    data_.assign(data_.size(), static_cast<int>(number_));
    if (!starts_) {
      return hawser_broadcast(comm, data_.data(), data_.data(), data_.size(), HAWSER_I32, root_, nullptr, nullptr);
    }
    hawser_op_t* op = nullptr;
    const hawser_status_t started =
        hawser_broadcast_start(comm, data_.data(), data_.data(), data_.size(), HAWSER_I32, root_, nullptr, &op);
    return started == HAWSER_OK ? end_of(op) : started;
  }

  const std::uint32_t number_;
  const bool starts_;
  std::uint32_t root_ = 0;
  std::vector<int> data_ = std::vector<int>(50000);
};

class Barrier : public Work {
 public:
  explicit Barrier(bool starts = false) : starts_(starts) {}
  hawser_status_t call(hawser_comm_t* comm) override {
    if (!starts_) return hawser_barrier(comm, nullptr, nullptr);
    hawser_op_t* op = nullptr;
    const hawser_status_t started = hawser_barrier_start(comm, nullptr, &op);
    return started == HAWSER_OK ? end_of(op) : started;
  }

 private:
  const bool starts_;
};

class State : public Work {
 public:
  explicit State(bool check) : check_(check) {
    expect(hawser_state_create(&state_), HAWSER_OK, "state");
    expect(hawser_state_add_tensor(state_, "w", data_.data(), data_.size(), HAWSER_F32), HAWSER_OK, "tensor");
  }
  ~State() override { hawser_state_destroy(state_); }
  hawser_status_t call(hawser_comm_t* comm) override {
    return check_ ? hawser_state_check(comm, state_, nullptr, nullptr)
                  : hawser_state_sync(comm, state_, HAWSER_SYNC_AGREE, nullptr, nullptr);
  }

 private:
  const bool check_;
  std::vector<float> data_ = std::vector<float>(100000, 1.0F);
  hawser_state_t* state_ = nullptr;
};

// The first member has what the second one gets.
class Transfer : public Work {
 public:
  explicit Transfer(std::uint32_t number) : number_(number) {
    expect(hawser_state_create(&state_), HAWSER_OK, "state");
    expect(hawser_state_add_tensor(state_, "w", data_.data(), data_.size(), HAWSER_F32), HAWSER_OK, "tensor");
  }
  ~Transfer() override { hawser_state_destroy(state_); }
  hawser_status_t call(hawser_comm_t* comm) override {
    data_.assign(data_.size(), static_cast<float>(number_));
    const hawser_status_t status = hawser_state_sync(
        comm, state_, number_ == 0 ? HAWSER_SYNC_RECEIVE_ONLY : HAWSER_SYNC_SEND_ONLY, nullptr, nullptr);
    return status;
  }
  bool untouched() const override { return data_ == std::vector<float>(data_.size(), static_cast<float>(number_)); }
  bool right() const override { return data_ == std::vector<float>(data_.size(), 1.0F); }

 private:
  const std::uint32_t number_;
  std::vector<float> data_ = std::vector<float>(300000);
  hawser_state_t* state_ = nullptr;
};

class Outer : public Work {
 public:
  enum class How : std::uint8_t { step, halves, delayed };
  Outer(hawser_comm_t* comm, How how) : split_(how == How::halves), delayed_(how == How::delayed) {
    hawser_outer_param_t param = HAWSER_OUTER_PARAM_INIT;
    param.name = "w";
    param.data = data_.data();
    param.count = data_.size();
    compression_ = coded_with(HAWSER_CODEC_INT8);
    hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
    config.compression = &compression_;
    config.error_feedback = 1;
    config.manual_admission = 1;
    config.delayed = how == How::delayed ? 1 : 0;
    expect(hawser_outer_create(comm, &param, 1, &config, &outer_), HAWSER_OK, "outer");
  }
  ~Outer() override { hawser_outer_destroy(outer_); }
  bool tells_later() const override { return delayed_; }
  hawser_status_t call(hawser_comm_t*) override {
    if (!synced_) {
      const hawser_status_t status = hawser_outer_sync(outer_, nullptr);
      synced_ = status == HAWSER_OK;
      return status;
    }
    for (float& value : data_) value += 1.0F;
    if (!split_) return hawser_outer_step(outer_, 1.0, nullptr);
    if (!begun_) {
      if (const hawser_status_t status = hawser_outer_begin(outer_, 1.0); status != HAWSER_OK) return status;
      begun_ = true;
    }
    const hawser_status_t status = hawser_outer_finish(outer_, nullptr);
    begun_ = false;  // a round that failed begins again
    return status;
  }

 private:
  const bool split_;
  const bool delayed_;
  bool begun_ = false;
  bool synced_ = false;
  std::vector<float> data_ = std::vector<float>(40000, 1.0F);
  hawser_compression_t compression_ = HAWSER_COMPRESSION_INIT;
  hawser_outer_t* outer_ = nullptr;
};

}  // namespace

TEST_CASE("memory lacks in calls that need nobody else", "[shortage]") {
  // What a process allocates once, at its first call, may fail too; so this comes before anything else.
  for (long n = 1; n < 40; ++n) {
    failing::arm(What::memory, Where::caller, n);
    const char* const info = hawser_build_info();
    const bool failed = failing::disarm();
    CHECK(info != nullptr);
    if (!failed) break;
  }

  hawser_coordinator_t* started = nullptr;
  hawser_coordinator_config_t at_port = HAWSER_COORDINATOR_CONFIG_INIT;
  sweep_call(
      "coordinator_start", [&] { return hawser_coordinator_start(&at_port, &started); },
      [&] { CHECK(hawser_coordinator_destroy(started) == HAWSER_OK); });
  at_port.listen = "localhost:0";
  sweep_call(
      "coordinator_start by name", [&] { return hawser_coordinator_start(&at_port, &started); },
      [&] { CHECK(hawser_coordinator_destroy(started) == HAWSER_OK); });
  const Folder folder;
  at_port.listen = nullptr;
  at_port.log_dir = folder.path();
  sweep_call(
      "coordinator_start with a log", [&] { return hawser_coordinator_start(&at_port, &started); },
      [&] { CHECK(hawser_coordinator_destroy(started) == HAWSER_OK); });
  hawser_status_t status = HAWSER_INTERNAL;
  failing::sweep(
      What::memory, Where::coordinator, [&] { status = hawser_coordinator_start(&at_port, &started); },
      [&](bool failed) {
        INFO("coordinator_start, its own thread: " << hawser_last_error());
        CHECK((status == HAWSER_OK || (failed && status == HAWSER_RESOURCE)));
        if (status == HAWSER_OK) CHECK(hawser_coordinator_destroy(started) == HAWSER_OK);
      });
  at_port.log_dir = nullptr;
  std::array<char, 200> said{};
  sweep_call("coordinator_repair_log",
             [&] { return hawser_coordinator_repair_log(folder.path(), said.data(), said.size()); });
  at_port.listen = "no such address";
  sweep_call(
      "coordinator_start at nothing", [&] { return hawser_coordinator_start(&at_port, &started); }, [] {},
      HAWSER_BAD_ADDRESS);

  const Coordinator coordinator(500);
  const std::string address = coordinator.address();
  hawser_coordinator_t* service = nullptr;
  REQUIRE(hawser_coordinator_start(nullptr, &service) == HAWSER_OK);
  std::array<char, 64> text{};
  sweep_call("coordinator_address", [&] { return hawser_coordinator_address(service, text.data(), text.size()); });
  sweep_call(
      "coordinator_wait", [&] { return hawser_coordinator_wait(service, 1); }, [] {}, HAWSER_PENDING);
  sweep_call("coordinator_stop", [&] { return hawser_coordinator_stop(service); });
  sweep_call("coordinator_wait for the end", [&] { return hawser_coordinator_wait(service, 10000); });
  failing::sweep(
      What::memory, Where::caller, [&] { status = hawser_coordinator_destroy(service); },
      [&](bool) {
        CHECK(status == HAWSER_OK);
        REQUIRE(hawser_coordinator_start(nullptr, &service) == HAWSER_OK);
      });
  REQUIRE(hawser_coordinator_destroy(service) == HAWSER_OK);

  std::array<char, 1000> report{};
  std::size_t report_bytes = 0;
  sweep_call("coordinator_report", [&] {
    return hawser_coordinator_report(address.c_str(), 10000, report.data(), report.size(), &report_bytes);
  });

  hawser_comm_config_t config = config_for(coordinator, 1);
  config.advertise = "127.0.0.1";
  config.listen = "127.0.0.1";
  config.port_range = "20000-60000";
  hawser_comm_t* comm = nullptr;
  const auto destroy = [&] { CHECK(hawser_comm_destroy(comm) == HAWSER_OK); };
  sweep_call(
      "comm_create", [&] { return hawser_comm_create(&config, &comm); }, destroy);
  const auto create = [&] { REQUIRE(hawser_comm_create(&config, &comm) == HAWSER_OK); };
  create();
  sweep_call(
      "comm_join", [&] { return hawser_comm_join(comm, 0); },
      [&] {
        destroy();
        create();
      });
  REQUIRE(hawser_comm_join(comm, 0) == HAWSER_OK);
  sweep_call("comm_admit", [&] { return hawser_comm_admit(comm, 0); });
  hawser_view_t view = HAWSER_VIEW_INIT;
  sweep_call("comm_view", [&] { return hawser_comm_view(comm, &view); });
  hawser_member_t member = HAWSER_MEMBER_INIT;
  sweep_call("comm_member", [&] { return hawser_comm_member(comm, 0, &member); });
  sweep_call(
      "comm_member that is not", [&] { return hawser_comm_member(comm, 9, &member); }, [] {}, HAWSER_INVALID_ARGUMENT);
  hawser_metrics_t metrics = HAWSER_METRICS_INIT;
  sweep_call("comm_metrics", [&] { return hawser_comm_metrics(comm, &metrics); });

  hawser_residual_t* residual = nullptr;
  sweep_call(
      "residual_create", [&] { return hawser_residual_create(100, &residual); },
      [&] { CHECK(hawser_residual_destroy(residual) == HAWSER_OK); });
  sweep_call(
      "residual_create of some size", [&] { return hawser_residual_create(2U << 20, &residual); },
      [&] { CHECK(hawser_residual_destroy(residual) == HAWSER_OK); });
  REQUIRE(hawser_residual_create(100, &residual) == HAWSER_OK);
  std::vector<float> values(100);
  sweep_call("residual_read", [&] { return hawser_residual_read(residual, values.data(), 100); });
  sweep_call("residual_write", [&] { return hawser_residual_write(residual, values.data(), 100); });
  sweep_call(
      "residual_write of another count", [&] { return hawser_residual_write(residual, values.data(), 7); }, [] {},
      HAWSER_INVALID_ARGUMENT);
  REQUIRE(hawser_residual_destroy(residual) == HAWSER_OK);
  hawser_compression_t wrong = coded_with(HAWSER_CODEC_INT8);
  wrong.block = 33;
  sweep_call("compressed_bytes",
             [&] { return hawser_compressed_bytes(&wrong, 100) == 0 ? HAWSER_OK : HAWSER_INTERNAL; });

  hawser_state_t* state = nullptr;
  sweep_call(
      "state_create", [&] { return hawser_state_create(&state); },
      [&] { CHECK(hawser_state_destroy(state) == HAWSER_OK); });
  REQUIRE(hawser_state_create(&state) == HAWSER_OK);
  const std::string long_name(200, 'n');
  int added = 0;
  std::string name = long_name;
  failing::sweep(
      What::memory, Where::caller,
      [&] { status = hawser_state_add_tensor(state, name.c_str(), values.data(), 100, HAWSER_F32); },
      [&](bool failed) {
        INFO("state_add_tensor: " << hawser_last_error());
        CHECK((status == HAWSER_OK || (failed && status == HAWSER_RESOURCE)));
        if (status == HAWSER_OK) name = long_name + std::to_string(++added);
      });
  // What a failure left behind would be in the way of the next one of that name.
  CHECK(hawser_state_add_tensor(state, name.c_str(), values.data(), 100, HAWSER_F32) == HAWSER_OK);
  sweep_call("state_move_tensor", [&] { return hawser_state_move_tensor(state, name.c_str(), values.data()); });
  sweep_call("state_set_revision", [&] { return hawser_state_set_revision(state, 3); });
  std::uint64_t revision = 0;
  sweep_call("state_revision", [&] { return hawser_state_revision(state, &revision); });
  hawser_outer_param_t param = HAWSER_OUTER_PARAM_INIT;
  param.name = "a parameter with a name that is longer than a short string";
  param.data = values.data();
  param.count = values.size();
  hawser_outer_t* outer = nullptr;
  sweep_call(
      "outer_create", [&] { return hawser_outer_create(comm, &param, 1, nullptr, &outer); },
      [&] { CHECK(hawser_outer_destroy(outer) == HAWSER_OK); });
  REQUIRE(hawser_outer_create(comm, &param, 1, nullptr, &outer) == HAWSER_OK);
  sweep_call("outer_move_param", [&] { return hawser_outer_move_param(outer, &param); });
  sweep_call("outer_read", [&] { return hawser_outer_read(outer, HAWSER_OUTER_ANCHOR, 0, values.data(), 100); });
  sweep_call("outer_write", [&] { return hawser_outer_write(outer, HAWSER_OUTER_ANCHOR, 0, values.data(), 100); });
  std::uint64_t round = 0;
  std::uint32_t pending = 0;
  sweep_call("outer_round", [&] { return hawser_outer_round(outer, &round, &pending); });
  sweep_call("outer_set_round", [&] { return hawser_outer_set_round(outer, 2, 0); });
  failing::sweep(
      What::memory, Where::caller, [&] { status = hawser_outer_destroy(outer); },
      [&](bool) {
        CHECK(status == HAWSER_OK);
        REQUIRE(hawser_outer_create(comm, &param, 1, nullptr, &outer) == HAWSER_OK);
      });
  REQUIRE(hawser_outer_destroy(outer) == HAWSER_OK);

  // After these the communicator is of no more use, so each has its own.
  const auto renew = [&] {
    destroy();
    create();
    REQUIRE(hawser_comm_join(comm, 0) == HAWSER_OK);
  };
  const auto sweep_end = [&](const std::string& what, const std::function<hawser_status_t()>& end) {
    failing::sweep(
        What::memory, Where::caller, [&] { status = end(); },
        [&](bool failed) {
          INFO(what << ": " << hawser_status_name(status) << ": " << hawser_last_error());
          CHECK((status == HAWSER_OK || (failed && status == HAWSER_RESOURCE)));
          renew();
        });
  };
  renew();
  sweep_end("state_sync alone", [&] { return hawser_state_sync(comm, state, HAWSER_SYNC_AGREE, nullptr, nullptr); });
  sweep_end("state_check alone", [&] { return hawser_state_check(comm, state, nullptr, nullptr); });
  REQUIRE(hawser_state_destroy(state) == HAWSER_OK);
  sweep_end("barrier alone", [&] { return hawser_barrier(comm, nullptr, nullptr); });
  sweep_end("comm_leave", [&] { return hawser_comm_leave(comm, 0); });
  sweep_end("comm_abort", [&] { return hawser_comm_abort(comm); });
  failing::sweep(
      What::memory, Where::caller, [&] { status = hawser_comm_destroy(comm); },
      [&](bool) {
        CHECK(status == HAWSER_OK);
        create();
        REQUIRE(hawser_comm_join(comm, 0) == HAWSER_OK);
      });
  hawser_op_t* op = nullptr;
  std::vector<float> sum(100);
  failing::sweep(
      What::memory, Where::caller,
      [&] {
        status = hawser_all_reduce_start(comm, values.data(), sum.data(), 100, HAWSER_F32, HAWSER_SUM, nullptr, &op);
        if (status != HAWSER_OK) return;
        (void)hawser_op_cancel(op);
        (void)hawser_op_release(op);
      },
      [&](bool failed) {
        CHECK((status == HAWSER_OK || (failed && status == HAWSER_RESOURCE)));
        renew();
      });
  destroy();
}

TEST_CASE("memory lacks where blocks go back to their pool", "[shortage]") {
  const auto pool = hawser::runtime::BlockPool::create(8U << 20);
  std::array<hawser::runtime::ByteBuffer, 5> blocks;  // of more than one area
  for (auto& block : blocks) block = pool->take(1);
  failing::arm(What::memory, Where::caller, 1, true);
  for (auto& block : blocks) block = {};
  CHECK_FALSE(failing::disarm());
}

TEST_CASE("memory lacks at the caller of an operation", "[shortage]") {
  sweep_work("all_reduce", [](auto*, auto number) { return std::make_unique<Reduce>(number, 1000, false); });
  sweep_work("all_reduce in place", [](auto*, auto number) { return std::make_unique<Reduce>(number, 400000, true); });
  sweep_work("all_reduce of much", [](auto*, auto number) { return std::make_unique<Reduce>(number, 1500000, true); });
  sweep_work("all_reduce compressed",
             [](auto*, auto number) { return std::make_unique<Reduce>(number, 300000, true, HAWSER_CODEC_INT8); });
  sweep_work("all_reduce_start", [](auto*, auto number) { return std::make_unique<Started>(number, 100000, true); });
  sweep_work("all_reduce_start compressed",
             [](auto*, auto number) { return std::make_unique<Started>(number, 100000, false, HAWSER_CODEC_INT4); });
  sweep_work("barrier", [](auto*, auto) { return std::make_unique<Barrier>(); });
  sweep_work("barrier_start", [](auto*, auto) { return std::make_unique<Barrier>(true); });
  sweep_work("broadcast", [](auto* comm, auto number) { return std::make_unique<Broadcast>(comm, number); });
  sweep_work("broadcast_start",
             [](auto* comm, auto number) { return std::make_unique<Broadcast>(comm, number, true); });
}

TEST_CASE("memory lacks at the caller of a list", "[shortage]") {
  sweep_work("all_reduce_many", [](auto*, auto number) { return std::make_unique<Many>(number, false); });
  sweep_work("all_reduce_many, uniform", [](auto*, auto number) { return std::make_unique<Many>(number, true); });
}

TEST_CASE("memory lacks at the caller of a sync or an outer step", "[shortage]") {
  sweep_work("state_sync", [](auto*, auto) { return std::make_unique<State>(false); });
  sweep_work("state_check", [](auto*, auto) { return std::make_unique<State>(true); });
  sweep_work("state_sync with a transfer", [](auto*, auto number) { return std::make_unique<Transfer>(number); });
  sweep_work("outer_step", [](auto* comm, auto) { return std::make_unique<Outer>(comm, Outer::How::step); });
  sweep_work("outer_begin and _finish",
             [](auto* comm, auto) { return std::make_unique<Outer>(comm, Outer::How::halves); });
  sweep_work("outer_step, delayed",
             [](auto* comm, auto) { return std::make_unique<Outer>(comm, Outer::How::delayed); });
}

namespace {

// The life of two members; what the threads of the library lack memory for may end either of them, and the coordinator.
struct Life {
  explicit Life(const std::string& address) : comms(2) {
    for (Comm& comm : comms) {
      hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
      config.coordinators = address.c_str();
      config.min_size = 2;
      config.join_timeout_ms = 20000;
      config.op_timeout_ms = 2000;
      comm = Comm(config);
    }
  }

  void run() {
    in_threads(2, [&](std::uint32_t i) { live(i); });
  }
  void live(std::uint32_t i) {
    hawser_comm_t* const comm = comms[i].get();
    if (!went(hawser_comm_join(comm, 0))) {
      hawser_comm_abort(comms[1 - i].get());  // alone it would wait for its deadline
      return;
    }
    for (const std::size_t count : {10U, 300000U}) {
      std::vector<float> data(count, static_cast<float>(i + 1));
      hawser_op_info_t info = HAWSER_OP_INFO_INIT;
      const hawser_status_t status =
          hawser_all_reduce(comm, data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, &info);
      const bool ok = went(status);
      const float wanted = !ok ? static_cast<float>(i + 1) : info.participants == 2 ? 3.0F : static_cast<float>(i + 1);
      check(data == std::vector<float>(count, wanted), "values");
      if (!ok) return;
    }
    std::vector<float> data(50000, 1.0F);
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    const hawser_compression_t compression = coded_with(HAWSER_CODEC_INT8);
    options.compression = &compression;
    if (!went(
            hawser_all_reduce(comm, data.data(), data.data(), data.size(), HAWSER_F32, HAWSER_AVG, &options, nullptr)))
      return;
    for (const float value : data) check(value > 0.98F && value < 1.02F, "compressed values");
    if (went(hawser_comm_admit(comm, 1000))) went(hawser_comm_leave(comm, 2000));
  }
  bool went(hawser_status_t status) {
    if (status != HAWSER_OK) all_ok = false;
    // TIMEOUT and NO_COORDINATOR: where it was the coordinator that ended; EXPELLED: where only this one was lost to
    // it.
    check(status == HAWSER_OK || status == HAWSER_RESOURCE || status == HAWSER_ABORTED || status == HAWSER_TIMEOUT ||
              status == HAWSER_NO_COORDINATOR || status == HAWSER_EXPELLED || status == HAWSER_CANCELLED,
          std::string(hawser_status_name(status)) + ": " + hawser_last_error());
    return status == HAWSER_OK;
  }

  std::vector<Comm> comms;
  std::atomic<bool> all_ok{true};
};

}  // namespace

TEST_CASE("memory lacks on the threads of a member", "[shortage]") {
  const Coordinator coordinator(500);
  auto life = std::make_unique<Life>(coordinator.address());
  std::chrono::steady_clock::time_point begin;
  failing::sweep(
      What::memory, Where::member,
      [&] {
        begin = std::chrono::steady_clock::now();
        life->run();
        life->comms.clear();
      },
      [&](bool failed) {
        CHECK((failed || life->all_ok));
        CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
        life = std::make_unique<Life>(coordinator.address());
      });
  // And when from some moment on there is none at all.
  for (const long n : {1, 5, 20, 60, 150, 400}) {
    failing::arm(What::memory, Where::member, n, true);
    life->run();
    life->comms.clear();
    (void)failing::disarm();
    life = std::make_unique<Life>(coordinator.address());
  }
  life->run();
  CHECK(life->all_ok);
}

namespace {

// One that may end before its time.
struct Service {
  explicit Service(const char* log_dir) {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.heartbeat_ms = 500;
    config.log_dir = log_dir;
    REQUIRE(hawser_coordinator_start(&config, &handle) == HAWSER_OK);
    std::array<char, 64> text{};
    REQUIRE(hawser_coordinator_address(handle, text.data(), text.size()) == HAWSER_OK);
    address = text.data();
  }
  ~Service() { hawser_coordinator_destroy(handle); }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  hawser_coordinator_t* handle = nullptr;
  std::string address;
};

void sweep_coordinator(const char* log_dir) {
  auto service = std::make_unique<Service>(log_dir);
  auto life = std::make_unique<Life>(service->address);
  const auto attempt = [&] {
    std::atomic<bool> over{false};
    std::thread watch([&] {
      while (!over && hawser_coordinator_wait(service->handle, 20) == HAWSER_PENDING) {
      }
      // Without it nobody joins; those who are members go on.
      for (const Comm& comm : life->comms) {
        if (!over) hawser_comm_abort(comm.get());
      }
    });
    life->run();
    over = true;
    watch.join();
    life->comms.clear();
  };
  const auto renew = [&] {
    life.reset();
    service.reset();
    service = std::make_unique<Service>(log_dir);
    life = std::make_unique<Life>(service->address);
  };
  failing::sweep(What::memory, Where::coordinator, attempt, [&](bool failed) {
    CHECK((failed || life->all_ok));
    renew();
  });
  for (const long n : {1, 10, 40, 100}) {
    failing::arm(What::memory, Where::coordinator, n, true);
    attempt();
    (void)failing::disarm();
    renew();
  }
}

}  // namespace

TEST_CASE("memory lacks on the thread of the coordinator", "[shortage]") { sweep_coordinator(nullptr); }

TEST_CASE("memory lacks on the threads of a coordinator with a log", "[shortage]") {
  const Folder folder;
  sweep_coordinator(folder.path());
}
