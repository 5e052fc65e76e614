// Compression with its residual, shared state and the outer optimizer as classes of the extension. Each keeps what it
// lent to the library alive. Runs on whatever Python thread calls; every call of the library is made without the GIL,
// and those that wait for the network let Ctrl-C in by aborting the communicator.

#include "training.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "buffers.hpp"
#include "calls.hpp"

namespace hawser_python {

namespace {

// ------------------------------------------------------------------------------------------------------- compression

class Residual {
 public:
  explicit Residual(size_t count) : handle_(create(count), "this Residual"), count_(count) {}
  Residual(const Residual&) = delete;
  Residual& operator=(const Residual&) = delete;
  ~Residual() { destroy(); }

  // For an operation, which would take NULL for "no residual".
  [[nodiscard]] hawser_residual_t* for_operation() const {
    auto* const handle = handle_.get();
    if (handle == nullptr) {
      raise(HAWSER_INVALID_HANDLE, "compression: its residual was closed");
    }
    return handle;
  }
  [[nodiscard]] size_t count() const { return count_; }

  void read(const Buffer& values) const {
    auto* const handle = handle_.get();
    check(call([&] { return hawser_residual_read(handle, static_cast<float*>(values.data()), values.count()); }));
  }

  void write(const Buffer& values) {
    auto* const handle = handle_.get();
    check(
        call([&] { return hawser_residual_write(handle, static_cast<const float*>(values.data()), values.count()); }));
  }

  void destroy() {
    if (auto* const handle = handle_.take()) {
      call([&] { return hawser_residual_destroy(handle); });
    }
  }

 private:
  static hawser_residual_t* create(size_t count) {
    hawser_residual_t* handle = nullptr;
    check(call([&] { return hawser_residual_create(count, &handle); }));
    return handle;
  }

  Handle<hawser_residual_t> handle_;
  size_t count_;
};

class Compression {
 public:
  Compression(uint32_t codec, uint32_t block, uint32_t rounding, uint64_t seed, nb::object residual,
              double residual_decay)
      : residual_(std::move(residual)) {
    settings_.codec = codec;
    settings_.block = block;
    settings_.rounding = rounding;
    settings_.seed = seed;
    settings_.residual_decay = residual_decay;
  }

  [[nodiscard]] hawser_compression_t settings() const {
    hawser_compression_t settings = settings_;
    settings.residual = residual_.is_none() ? nullptr : nb::cast<const Residual&>(residual_).for_operation();
    return settings;
  }

  // 0 when the settings are not valid.
  [[nodiscard]] size_t bytes(size_t count) const { return hawser_compressed_bytes(&settings_, count); }

 private:
  hawser_compression_t settings_ = HAWSER_COMPRESSION_INIT;  // without the residual
  nb::object residual_;
};

// ------------------------------------------------------------------------------------------------------ shared state

// (view, participants, attempts, decision, tensors changed, sources, behind, revision, blocks, blocks received, bytes
// received, bytes sent, microseconds of hashing, microseconds, root)
nb::tuple row_of(const hawser_sync_info_t& info) {
  return nb::make_tuple(info.view, info.participants, info.attempts, info.decision, info.tensors_changed, info.sources,
                        info.behind, info.revision, info.blocks, info.blocks_received, info.bytes_received,
                        info.bytes_sent, info.hash_us, info.time_us,
                        nb::bytes(reinterpret_cast<const char*>(info.root), sizeof info.root));
}

class State {
 public:
  State() : handle_(create(), "this SharedState") {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { destroy(); }

  void add(const std::string& name, const nb::object& tensor) {
    const auto& buffer = nb::cast<const Buffer&>(tensor);
    auto* const handle = handle_.get();
    check(call([&] {
      return hawser_state_add_tensor(handle, name.c_str(), buffer.data(), buffer.count(),
                                     static_cast<hawser_dtype_t>(buffer.dtype()));
    }));
    tensors_.insert_or_assign(name, tensor);
  }

  void move(const std::string& name, const nb::object& tensor) {
    const auto& buffer = nb::cast<const Buffer&>(tensor);
    auto* const handle = handle_.get();
    check(call([&] { return hawser_state_move_tensor(handle, name.c_str(), buffer.data()); }));
    tensors_.insert_or_assign(name, tensor);
  }

  uint64_t revision() const {
    auto* const handle = handle_.get();
    uint64_t revision = 0;
    check(call([&] { return hawser_state_revision(handle, &revision); }));
    return revision;
  }

  void set_revision(uint64_t revision) {
    auto* const handle = handle_.get();
    check(call([&] { return hawser_state_set_revision(handle, revision); }));
  }

  nb::tuple sync(const nb::object& comm, uint32_t strategy, uint64_t tag, uint32_t timeout_ms, uint32_t policy,
                 int32_t priority) {
    const auto options = options_of(tag, timeout_ms, policy, priority);
    auto* const with = comm_of(comm);
    auto* const handle = handle_.get();
    hawser_sync_info_t info = HAWSER_SYNC_INFO_INIT;
    check(call_until_signal(
        with, [&] { return hawser_state_sync(with, handle, hawser_strategy_t(strategy), &options, &info); }));
    return row_of(info);
  }

  nb::tuple compare(const nb::object& comm, uint64_t tag, uint32_t timeout_ms, uint32_t policy, int32_t priority) {
    const auto options = options_of(tag, timeout_ms, policy, priority);
    auto* const with = comm_of(comm);
    auto* const handle = handle_.get();
    hawser_sync_info_t info = HAWSER_SYNC_INFO_INIT;
    check(call_until_signal(with, [&] { return hawser_state_check(with, handle, &options, &info); }));
    return row_of(info);
  }

  void destroy() {
    if (auto* const handle = handle_.take()) {
      call([&] { return hawser_state_destroy(handle); });
    }
  }

 private:
  static hawser_state_t* create() {
    hawser_state_t* handle = nullptr;
    check(call([&] { return hawser_state_create(&handle); }));
    return handle;
  }

  static hawser_op_options_t options_of(uint64_t tag, uint32_t timeout_ms, uint32_t policy, int32_t priority) {
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.tag = tag;
    options.timeout_ms = timeout_ms;
    options.policy = policy;
    options.priority = priority;
    return options;
  }

  std::map<std::string, nb::object> tensors_;  // what is lent
  Handle<hawser_state_t> handle_;              // destroyed by ~State, so before what is lent
};

// ------------------------------------------------------------------------------------------------------- outer steps

class Outer {
 public:
  Outer(const nb::object& comm, const std::vector<std::pair<std::string, nb::object>>& params, double lr,
        double momentum, bool nesterov, bool delayed, uint32_t non_finite, bool error_feedback,
        const nb::object& compression, uint64_t tag, uint32_t timeout_ms, bool manual_admission)
      : comm_(comm),
        compression_(compression),
        names_(params.size()),
        params_(params.size()),
        handle_(create(params, lr, momentum, nesterov, delayed, non_finite, error_feedback, tag, timeout_ms,
                       manual_admission),
                "this outer optimizer") {}
  Outer(const Outer&) = delete;
  Outer& operator=(const Outer&) = delete;
  ~Outer() { destroy(); }

  nb::tuple sync() {
    auto* const handle = handle_.get();
    hawser_sync_info_t info = HAWSER_SYNC_INFO_INIT;
    check(call_until_signal(comm_of(comm_), [&] { return hawser_outer_sync(handle, &info); }));
    return row_of(info);
  }

  // (round, view, participants, contributors, left out, attempts, self left out, synced, total weight, norm of the
  // pseudo-gradient, bytes sent, bytes received, microseconds waited)
  nb::tuple step(double weight) {
    auto* const handle = handle_.get();
    hawser_outer_info_t info = HAWSER_OUTER_INFO_INIT;
    check(call_until_signal(comm_of(comm_), [&] { return hawser_outer_step(handle, weight, &info); }));
    return row_of(info);
  }

  void begin(double weight) {
    auto* const handle = handle_.get();
    check(call([&] { return hawser_outer_begin(handle, weight); }));
  }

  nb::tuple finish() {
    auto* const handle = handle_.get();
    hawser_outer_info_t info = HAWSER_OUTER_INFO_INIT;
    check(call_until_signal(comm_of(comm_), [&] { return hawser_outer_finish(handle, &info); }));
    return row_of(info);
  }

  void move(size_t index, const nb::object& tensor) {
    auto* const handle = handle_.get();
    const hawser_outer_param_t param = param_of(names_.at(index), nb::cast<const Buffer&>(tensor));
    check(call([&] { return hawser_outer_move_param(handle, &param); }));
    params_[index] = tensor;
  }

  void read(uint32_t kind, size_t index, const Buffer& values) {
    auto* const handle = handle_.get();
    auto* const to = static_cast<float*>(values.data());
    check(call_until_signal(comm_of(comm_), [&] {
      return hawser_outer_read(handle, hawser_outer_tensor_kind_t(kind), index, to, values.count());
    }));
  }

  void write(uint32_t kind, size_t index, const Buffer& values) {
    auto* const handle = handle_.get();
    const auto* const from = static_cast<const float*>(values.data());
    check(call_until_signal(comm_of(comm_), [&] {
      return hawser_outer_write(handle, hawser_outer_tensor_kind_t(kind), index, from, values.count());
    }));
  }

  // (rounds made, whether an average is pending)
  nb::tuple round() const {
    auto* const handle = handle_.get();
    uint64_t round = 0;
    uint32_t pending = 0;
    check(call([&] { return hawser_outer_round(handle, &round, &pending); }));
    return nb::make_tuple(round, pending != 0);
  }

  void set_round(uint64_t round, bool pending) {
    auto* const handle = handle_.get();
    check(call([&] { return hawser_outer_set_round(handle, round, pending ? 1 : 0); }));
  }

  void destroy() {
    if (auto* const handle = handle_.take()) {
      call([&] { return hawser_outer_destroy(handle); });
    }
  }

 private:
  static hawser_outer_param_t param_of(const std::string& name, const Buffer& buffer) {
    hawser_outer_param_t param = HAWSER_OUTER_PARAM_INIT;
    param.name = name.c_str();
    param.data = buffer.data();
    param.count = buffer.count();
    param.dtype = static_cast<uint32_t>(buffer.dtype());
    return param;
  }

  static nb::tuple row_of(const hawser_outer_info_t& info) {
    return nb::make_tuple(info.round, info.view, info.participants, info.contributors, info.left_out, info.attempts,
                          info.self_left_out != 0, info.synced != 0, info.total_weight, info.delta_norm,
                          info.bytes_sent, info.bytes_received, info.wait_us);
  }
  static nb::tuple row_of(const hawser_sync_info_t& info) { return hawser_python::row_of(info); }

  hawser_outer_t* create(const std::vector<std::pair<std::string, nb::object>>& params, double lr, double momentum,
                         bool nesterov, bool delayed, uint32_t non_finite, bool error_feedback, uint64_t tag,
                         uint32_t timeout_ms, bool manual_admission) {
    std::vector<hawser_outer_param_t> rows;
    for (size_t index = 0; index < params.size(); ++index) {
      names_[index] = params[index].first;
      params_[index] = params[index].second;
      rows.push_back(param_of(names_[index], nb::cast<const Buffer&>(params_[index])));
    }
    const auto chosen = compression_of(compression_);
    hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
    config.lr = lr;
    config.momentum = momentum;
    config.nesterov = nesterov ? 1 : 0;
    config.delayed = delayed ? 1 : 0;
    config.non_finite = non_finite;
    config.error_feedback = error_feedback ? 1 : 0;
    config.compression = chosen ? &*chosen : nullptr;
    config.tag = tag;
    config.timeout_ms = timeout_ms;
    config.manual_admission = manual_admission ? 1 : 0;
    auto* const comm = comm_of(comm_);
    hawser_outer_t* handle = nullptr;
    check(call([&] { return hawser_outer_create(comm, rows.data(), rows.size(), &config, &handle); }));
    return handle;
  }

  nb::object comm_;
  nb::object compression_;
  std::vector<std::string> names_;
  std::vector<nb::object> params_;  // what is lent
  Handle<hawser_outer_t> handle_;   // destroyed by ~Outer, so before what is lent
};

}  // namespace

std::optional<hawser_compression_t> compression_of(const nb::handle& compression) {
  if (compression.is_none()) {
    return std::nullopt;
  }
  return nb::cast<const Compression&>(compression).settings();
}

void bind_training(nb::module_& module) {
  nb::class_<Residual>(module, "Residual")
      .def(nb::init<size_t>(), nb::arg("count"))
      .def_prop_ro("count", &Residual::count)
      .def("read", &Residual::read, nb::arg("values"))
      .def("write", &Residual::write, nb::arg("values"))
      .def("destroy", &Residual::destroy);

  nb::class_<Compression>(module, "Compression")
      .def(nb::init<uint32_t, uint32_t, uint32_t, uint64_t, nb::object, double>(), nb::arg("codec"), nb::arg("block"),
           nb::arg("rounding"), nb::arg("seed"), nb::arg("residual").none(), nb::arg("residual_decay"))
      .def("bytes", &Compression::bytes, nb::arg("count"));

  nb::class_<State>(module, "State")
      .def(nb::init<>())
      .def("add", &State::add, nb::arg("name"), nb::arg("tensor"))
      .def("move", &State::move, nb::arg("name"), nb::arg("tensor"))
      .def("revision", &State::revision)
      .def("set_revision", &State::set_revision, nb::arg("revision"))
      .def("sync", &State::sync, nb::arg("comm"), nb::arg("strategy"), nb::arg("tag"), nb::arg("timeout_ms"),
           nb::arg("policy"), nb::arg("priority"))
      .def("check", &State::compare, nb::arg("comm"), nb::arg("tag"), nb::arg("timeout_ms"), nb::arg("policy"),
           nb::arg("priority"))
      .def("destroy", &State::destroy);

  nb::class_<Outer>(module, "Outer")
      .def(nb::init<const nb::object&, const std::vector<std::pair<std::string, nb::object>>&, double, double, bool,
                    bool, uint32_t, bool, const nb::object&, uint64_t, uint32_t, bool>(),
           nb::arg("comm"), nb::arg("params"), nb::arg("lr"), nb::arg("momentum"), nb::arg("nesterov"),
           nb::arg("delayed"), nb::arg("non_finite"), nb::arg("error_feedback"), nb::arg("compression").none(),
           nb::arg("tag"), nb::arg("timeout_ms"), nb::arg("manual_admission"))
      .def("sync", &Outer::sync)
      .def("step", &Outer::step, nb::arg("weight"))
      .def("begin", &Outer::begin, nb::arg("weight"))
      .def("finish", &Outer::finish)
      .def("move", &Outer::move, nb::arg("index"), nb::arg("tensor"))
      .def("read", &Outer::read, nb::arg("kind"), nb::arg("index"), nb::arg("values"))
      .def("write", &Outer::write, nb::arg("kind"), nb::arg("index"), nb::arg("values"))
      .def("round", &Outer::round)
      .def("set_round", &Outer::set_round, nb::arg("round"), nb::arg("pending"))
      .def("destroy", &Outer::destroy);
}

}  // namespace hawser_python
