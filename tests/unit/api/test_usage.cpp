// Wrong use: every mistake has its own status and a sentence, and nothing is lost.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "support/descriptors.hpp"
#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

bool says(const std::string& part) { return std::string(hawser_last_error()).find(part) != std::string::npos; }

// A value that may be none of the enum's, as a C caller can pass it.
template <typename Enum>
Enum raw(int value) {
  static_assert(sizeof(Enum) == sizeof(int));
  Enum out;
  std::memcpy(&out, &value, sizeof(out));
  return out;
}

// A TCP listener that a test scripts: port() is taken, and an accepted connection gets `answer`.
class FakeService {
 public:
  explicit FakeService(std::string answer) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    REQUIRE(bind(fd_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(listen(fd_, 8) == 0);
    REQUIRE(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answer = std::move(answer)] {
      for (;;) {
        const int peer = accept(fd_, nullptr, nullptr);
        if (peer < 0) return;
        std::array<char, 256> ignored;
        (void)!recv(peer, ignored.data(), ignored.size(), 0);
        (void)!send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
        close(peer);
      }
    });
  }
  ~FakeService() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int fd_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace

TEST_CASE("statuses have names, sentences and categories", "[api]") {
  REQUIRE(std::string(hawser_status_name(HAWSER_PEER_LOST)) == "PEER_LOST");
  REQUIRE(hawser_status_category(HAWSER_PEER_LOST) == HAWSER_CATEGORY_PEER_LOST);
  REQUIRE(hawser_status_category(HAWSER_OK) == HAWSER_CATEGORY_NONE);
  REQUIRE(std::string(hawser_status_name(raw<hawser_status_t>(4711))) == "UNKNOWN");
  REQUIRE(hawser_status_category(raw<hawser_status_t>(4711)) == HAWSER_CATEGORY_INTERNAL);
  REQUIRE(hawser_version() == HAWSER_VERSION_NUMBER);
  REQUIRE(hawser_dtype_size(HAWSER_BF16) == 2);
  REQUIRE(hawser_dtype_size(raw<hawser_dtype_t>(99)) == 0);
  REQUIRE(std::string(hawser_build_info()).find("\"version\"") != std::string::npos);
}

TEST_CASE("NULL, foreign and destroyed handles", "[api]") {
  float x = 1;
  hawser_view_t view = HAWSER_VIEW_INIT;
  hawser_metrics_t metrics = HAWSER_METRICS_INIT;
  hawser_member_t member = HAWSER_MEMBER_INIT;
  const auto all_refuse = [&](hawser_comm_t* comm) {
    CHECK(hawser_comm_join(comm, 1) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_comm_admit(comm, 1) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_comm_view(comm, &view) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_comm_member(comm, 0, &member) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_comm_leave(comm, 1) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_comm_abort(comm) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_comm_metrics(comm, &metrics) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_all_reduce(comm, &x, &x, 1, HAWSER_F32, HAWSER_SUM, nullptr, nullptr) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_broadcast(comm, &x, &x, 1, HAWSER_F32, 0, nullptr, nullptr) == HAWSER_INVALID_HANDLE);
    CHECK(hawser_barrier(comm, nullptr, nullptr) == HAWSER_INVALID_HANDLE);
    hawser_op_t* op = nullptr;
    CHECK(hawser_all_reduce_start(comm, &x, &x, 1, HAWSER_F32, HAWSER_SUM, nullptr, &op) == HAWSER_INVALID_HANDLE);
    CHECK(op == nullptr);
    CHECK(hawser_comm_destroy(comm) == HAWSER_INVALID_HANDLE);
    CHECK(says("destroyed"));
  };
  all_refuse(nullptr);
  all_refuse(reinterpret_cast<hawser_comm_t*>(&x));
  const Coordinator coordinator;
  const hawser_comm_config_t config = config_for(coordinator, 1);
  hawser_comm_t* comm = nullptr;
  REQUIRE(hawser_comm_create(&config, &comm) == HAWSER_OK);
  REQUIRE(hawser_comm_destroy(comm) == HAWSER_OK);
  all_refuse(comm);

  CHECK(hawser_op_wait(nullptr, 1, nullptr) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_op_test(reinterpret_cast<hawser_op_t*>(comm), nullptr) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_op_cancel(nullptr) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_op_release(nullptr) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_coordinator_stop(nullptr) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_coordinator_wait(nullptr, 1) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_coordinator_destroy(reinterpret_cast<hawser_coordinator_t*>(comm)) == HAWSER_INVALID_HANDLE);
  std::array<char, 64> text;
  CHECK(hawser_coordinator_address(nullptr, text.data(), text.size()) == HAWSER_INVALID_HANDLE);
}

TEST_CASE("configurations that cannot be", "[api]") {
  hawser_comm_t* comm = nullptr;
  const auto refused = [&](const std::function<void(hawser_comm_config_t&)>& change, hawser_status_t wanted,
                           const std::string& word) {
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = "127.0.0.1:1";
    change(config);
    INFO(word);
    CHECK(hawser_comm_create(&config, &comm) == wanted);
    INFO(hawser_last_error());
    CHECK(says(word));
    CHECK(comm == nullptr);
  };
  unsetenv("HAWSER_COORDINATORS");
  refused([](auto& c) { c.coordinators = nullptr; }, HAWSER_INVALID_ARGUMENT, "HAWSER_COORDINATORS");
  refused([](auto& c) { c.coordinators = "nonsense"; }, HAWSER_BAD_ADDRESS, "nonsense");
  refused([](auto& c) { c.coordinators = "a:1,,b:2"; }, HAWSER_BAD_ADDRESS, "coordinators");
  refused([](auto& c) { c.coordinators = "host:70000"; }, HAWSER_BAD_ADDRESS, "70000");
  refused([](auto& c) { c.listen = "::1:5:"; }, HAWSER_BAD_ADDRESS, "listen");
  refused([](auto& c) { c.advertise = "0.0.0.0"; }, HAWSER_BAD_ADDRESS, "advertise");
  refused([](auto& c) { c.port_range = "5000"; }, HAWSER_BAD_ADDRESS, "port_range");
  refused([](auto& c) { c.port_range = "6000-5000"; }, HAWSER_BAD_ADDRESS, "port_range");
  refused([](auto& c) { c.strands = 65; }, HAWSER_INVALID_ARGUMENT, "strands");
  refused([](auto& c) { c.io_threads = 1000; }, HAWSER_INVALID_ARGUMENT, "io_threads");
  refused([](auto& c) { c.policy = 7; }, HAWSER_INVALID_ARGUMENT, "policy");
  refused([](auto& c) { c.name = "bad\nname"; }, HAWSER_INVALID_ARGUMENT, "name");
  refused([](auto& c) { c.min_size = 5000; }, HAWSER_INVALID_ARGUMENT, "min_size");
  refused([](auto& c) { c.reserved = 1; }, HAWSER_UNSUPPORTED, "reserved");
  refused([](auto& c) { c.size = 3; }, HAWSER_INVALID_ARGUMENT, "_INIT");
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = "127.0.0.1:1";
  CHECK(hawser_comm_create(&config, nullptr) == HAWSER_INVALID_ARGUMENT);

  hawser_coordinator_t* coordinator = nullptr;
  hawser_coordinator_config_t service = HAWSER_COORDINATOR_CONFIG_INIT;
  service.listen = "not an address";
  CHECK(hawser_coordinator_start(&service, &coordinator) == HAWSER_BAD_ADDRESS);
  service.listen = "192.0.2.1:0";  // TEST-NET-1 (RFC 5737): of no machine
  CHECK(hawser_coordinator_start(&service, &coordinator) == HAWSER_ADDRESS_IN_USE);
  service = HAWSER_COORDINATOR_CONFIG_INIT;
  service.heartbeat_ms = 1000;
  service.peer_timeout_ms = 1001;
  CHECK(hawser_coordinator_start(&service, &coordinator) == HAWSER_INVALID_ARGUMENT);
  CHECK(coordinator == nullptr);
}

TEST_CASE("structs of older and newer sizes", "[api]") {
  const Coordinator coordinator;
  // Older: ends before min_size; what it lacks has its default.
  hawser_comm_config_t config = config_for(coordinator, 77);
  config.size = offsetof(hawser_comm_config_t, min_size);
  hawser_comm_t* comm = nullptr;
  REQUIRE(hawser_comm_create(&config, &comm) == HAWSER_OK);
  REQUIRE(hawser_comm_join(comm, 10000) == HAWSER_OK);  // with min_size 77 it would wait
  // Newer, but nothing unknown is used.
  struct {
    hawser_view_t view;
    std::array<char, 32> more;
  } view = {HAWSER_VIEW_INIT, {}};
  view.view.size = sizeof(view);
  view.more.fill('x');
  REQUIRE(hawser_comm_view(comm, &view.view) == HAWSER_OK);
  CHECK(view.view.world_size == 1);
  CHECK(view.view.size == sizeof(view));
  CHECK(view.more[0] == 'x');
  // An older view: only what it has is written.
  hawser_view_t old = HAWSER_VIEW_INIT;
  old.size = offsetof(hawser_view_t, rank);
  old.rank = 1234;
  REQUIRE(hawser_comm_view(comm, &old) == HAWSER_OK);
  CHECK(old.number == view.view.number);
  CHECK(old.rank == 1234);
  struct {
    hawser_op_options_t options;
    std::array<char, 8> more;
  } options = {HAWSER_OP_OPTIONS_INIT, {}};
  options.options.size = sizeof(options);
  CHECK(hawser_barrier(comm, &options.options, nullptr) == HAWSER_OK);
  options.more[3] = 1;
  CHECK(hawser_barrier(comm, &options.options, nullptr) == HAWSER_UNSUPPORTED);
  CHECK(says("newer"));
  REQUIRE(hawser_comm_destroy(comm) == HAWSER_OK);
}

TEST_CASE("arguments of operations", "[api]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 1);
  hawser_comm_t* comm = comms[0].get();
  alignas(8) std::array<std::byte, 256> bytes{};
  auto* at = bytes.data();
  const auto reduce = [&](const void* send, void* recv, std::size_t count, int dtype, int redop) {
    return hawser_all_reduce(comm, send, recv, count, raw<hawser_dtype_t>(dtype), raw<hawser_redop_t>(redop), nullptr,
                             nullptr);
  };
  CHECK(reduce(nullptr, at, 1, HAWSER_F32, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(says("send is NULL"));
  CHECK(reduce(at, nullptr, 1, HAWSER_F32, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(reduce(at + 1, at + 128, 1, HAWSER_F32, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(says("aligned"));
  CHECK(reduce(at, at + 8, 4, HAWSER_F32, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(says("overlap"));
  CHECK(reduce(at + 8, at, 4, HAWSER_F32, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(reduce(at, at, 1, 12, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(says("dtype"));
  CHECK(reduce(at, at, 1, -1, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(reduce(at, at, 1, HAWSER_F32, 5) == HAWSER_INVALID_ARGUMENT);
  CHECK(says("redop"));
  CHECK(reduce(at, at, std::numeric_limits<std::size_t>::max() / 2, HAWSER_F64, HAWSER_SUM) == HAWSER_INVALID_ARGUMENT);
  CHECK(says("count"));
  CHECK(reduce(nullptr, nullptr, 0, HAWSER_F32, HAWSER_SUM) == HAWSER_OK);
  CHECK(reduce(at, at + 16, 4, HAWSER_F32, HAWSER_SUM) == HAWSER_OK);  // touching is not overlapping
  CHECK(hawser_broadcast(comm, at, at, 1, HAWSER_F32, 1, nullptr, nullptr) == HAWSER_INVALID_ARGUMENT);
  CHECK(says("root 1"));
  hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
  options.priority = 8;
  CHECK(hawser_barrier(comm, &options, nullptr) == HAWSER_INVALID_ARGUMENT);
  options = HAWSER_OP_OPTIONS_INIT;
  options.policy = 3;
  CHECK(hawser_barrier(comm, &options, nullptr) == HAWSER_INVALID_ARGUMENT);
  options = HAWSER_OP_OPTIONS_INIT;
  options.min_participants = 2;
  CHECK(hawser_barrier(comm, &options, nullptr) == HAWSER_TOO_FEW);
  CHECK(says("min_participants"));
  CHECK(hawser_comm_member(comm, 1, nullptr) == HAWSER_INVALID_ARGUMENT);
  hawser_member_t member = HAWSER_MEMBER_INIT;
  CHECK(hawser_comm_member(comm, 1, &member) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_barrier(comm, nullptr, nullptr) == HAWSER_OK);  // none of it has hurt
}

TEST_CASE("calls in the wrong order", "[api]") {
  const Coordinator coordinator;
  const hawser_comm_config_t config = config_for(coordinator, 1);
  Comm comm(config);
  hawser_view_t view = HAWSER_VIEW_INIT;
  CHECK(hawser_comm_view(comm.get(), &view) == HAWSER_NOT_MEMBER);
  CHECK(hawser_barrier(comm.get(), nullptr, nullptr) == HAWSER_NOT_MEMBER);
  CHECK(hawser_comm_admit(comm.get(), 1) == HAWSER_NOT_MEMBER);
  CHECK(hawser_comm_leave(comm.get(), 1) == HAWSER_NOT_MEMBER);
  REQUIRE(hawser_comm_join(comm.get(), 0) == HAWSER_OK);
  CHECK(hawser_comm_join(comm.get(), 0) == HAWSER_ALREADY_MEMBER);
  REQUIRE(hawser_comm_leave(comm.get(), 0) == HAWSER_OK);
  CHECK(hawser_barrier(comm.get(), nullptr, nullptr) == HAWSER_ABORTED);
  CHECK(hawser_comm_join(comm.get(), 0) == HAWSER_ABORTED);
  Comm other(config);
  REQUIRE(hawser_comm_join(other.get(), 0) == HAWSER_OK);
  REQUIRE(hawser_comm_abort(other.get()) == HAWSER_OK);
  CHECK(hawser_comm_abort(other.get()) == HAWSER_OK);
  CHECK(hawser_barrier(other.get(), nullptr, nullptr) == HAWSER_ABORTED);
  CHECK(hawser_comm_admit(other.get(), 1) == HAWSER_ABORTED);
  CHECK(hawser_comm_join(other.get(), 0) == HAWSER_ABORTED);
}

TEST_CASE("a coordinator that is not there, or is something else", "[api]") {
  const auto join = [](const std::string& addresses, std::uint32_t timeout_ms) {
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = addresses.c_str();
    const Comm comm(config);
    return hawser_comm_join(comm.get(), timeout_ms);
  };
  // A port that was free a moment ago.
  std::string closed;
  {
    const FakeService service("");
    closed = service.address();
  }
  CHECK(join(closed, 300) == HAWSER_NO_COORDINATOR);
  INFO(hawser_last_error());
  CHECK(says(closed));
  CHECK(join("name.invalid:4900", 5000) == HAWSER_BAD_ADDRESS);  // RFC 2606: never resolves
  CHECK(says("name.invalid"));
  const FakeService web("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
  CHECK(join(web.address(), 5000) == HAWSER_NOT_A_COORDINATOR);
  CHECK(says(web.address()));
  // The first that answers serves.
  const Coordinator coordinator;
  CHECK(join(closed + "," + coordinator.address(), 10000) == HAWSER_OK);
}

TEST_CASE("ports and descriptors that are taken", "[api]") {
  const Coordinator coordinator;
  hawser_coordinator_config_t second = HAWSER_COORDINATOR_CONFIG_INIT;
  second.listen = coordinator.address().c_str();
  hawser_coordinator_t* handle = nullptr;
  CHECK(hawser_coordinator_start(&second, &handle) == HAWSER_ADDRESS_IN_USE);
  CHECK(says(coordinator.address()));
  hawser_comm_config_t config = config_for(coordinator, 1);
  config.listen = coordinator.address().c_str();
  const Comm comm(config);
  CHECK(hawser_comm_join(comm.get(), 5000) == HAWSER_ADDRESS_IN_USE);
}

TEST_CASE("the last error belongs to the thread", "[api]") {
  CHECK(hawser_comm_abort(nullptr) == HAWSER_INVALID_HANDLE);
  CHECK(says("hawser_comm_abort"));
  std::thread([] { CHECK(std::string(hawser_last_error()).empty()); }).join();
  CHECK(says("hawser_comm_abort"));
}

TEST_CASE("too many open files: RESOURCE at every stage, and the next join works", "[api]") {
  const Coordinator coordinator;
  const hawser_comm_config_t config = config_for(coordinator, 1);
  const Comm comm(config);
  std::size_t starved = 0;
  bool joined = false;
  // One descriptor more each time, until it is enough: every open along the way fails once.
  for (rlim_t extra = 0; extra < 64 && !joined; ++extra) {
    const rlim_t used = hawser::test::DescriptorLimit::above_all();
    hawser::test::DescriptorLimit limit(used);
    limit.exhaust();  // no number below is free
    limit.set(used + extra);
    const hawser_status_t status = hawser_comm_join(comm.get(), 3000);
    CAPTURE(extra, hawser_status_name(status), hawser_last_error());
    joined = status == HAWSER_OK;
    if (joined) break;
    CHECK(status == HAWSER_RESOURCE);
    ++starved;
  }
  CHECK(joined);
  CHECK(starved > 3);
  CHECK(hawser_barrier(comm.get(), nullptr, nullptr) == HAWSER_OK);
}
