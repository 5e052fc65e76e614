// The store in etcd against a real etcd, and through a proxy that loses answers and delays requests. Where etcd is not
// installed, what needs it is skipped.
#include <arpa/inet.h>
#include <httplib.h>
#undef REFUSED  // of <arpa/nameser_compat.h>, which comes with it

#include <atomic>
#include <csignal>
#include <future>
#include <optional>
#include <random>
#include <thread>

#include "io/random.hpp"
#include "io/uv/event_loop.hpp"
#include "runtime/etcd/gateway.hpp"
#include "runtime/store_thread.hpp"
#include "runtime/view_store.hpp"
#include "support/catch.hpp"
#include "support/etcd_server.hpp"
#include "support/inbox.hpp"

using namespace hawser;
using runtime::StoreThread;
using runtime::ViewStore;
using test::EtcdServer;
using Bytes = std::vector<std::uint8_t>;
using Values = ViewStore::Values;
using namespace std::chrono_literals;

namespace {

bool etcd_is_there() {
  signal(SIGPIPE, SIG_IGN);  // as on the thread of a store
  if (!EtcdServer::program().empty()) return true;
  WARN("etcd is not installed: skipped");
  return false;
}

constexpr const char* leader_key = R"({"key":"dGVzdC9sZWFkZXI="})";  // base64 of "test/leader"

std::unique_ptr<ViewStore> make_store(const std::vector<std::string>& endpoints, std::uint32_t ttl_s,
                                      const std::string& prefix = "test/") {
  auto store = runtime::make_etcd_store({.endpoints = endpoints, .prefix = prefix, .ttl_s = ttl_s});
  INFO(store.status().text());
  REQUIRE(store.ok());
  return std::move(store.value());
}

Values acquired(ViewStore& store) {
  auto values = store.acquire();
  INFO(values.status().text());
  REQUIRE(values.ok());
  return std::move(values.value());
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Bytes noise(std::size_t size) {
  Bytes bytes(size);
  std::minstd_rand random(static_cast<unsigned>(size) + 1);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// In front of etcd. What it does with a request is decided by a function of path and body.
class Proxy {
 public:
  enum class Do { pass, lose_answer, hold, stream_error };
  using Rule = std::function<Do(const std::string& path, const std::string& body)>;

  explicit Proxy(const EtcdServer& etcd) : etcd_(etcd) {
    server_.Post(".*", [this](const httplib::Request& request, httplib::Response& response) {
      Do what = Do::pass;
      {
        const std::lock_guard lock(mutex_);
        if (rule_) what = rule_(request.path, request.body);
        if (what == Do::hold) held_.push_back({request.path, request.body});
      }
      if (what == Do::stream_error) {
        response.set_content(R"({"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}})", "json");
        return;
      }
      response.status = 503;
      if (what == Do::hold) return;
      const auto answer = etcd_.post(request.path, request.body);
      if (what == Do::lose_answer || !answer.ok()) return;
      response.status = 200;
      response.set_content(answer.value(), "application/json");
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~Proxy() {
    server_.stop();
    thread_.join();
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  [[nodiscard]] std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }
  void rule(Rule rule) {
    const std::lock_guard lock(mutex_);
    rule_ = std::move(rule);
  }
  // Lets through what was held; what etcd said.
  std::vector<std::string> release() {
    std::vector<std::pair<std::string, std::string>> requests;
    {
      const std::lock_guard lock(mutex_);
      requests.swap(held_);
    }
    std::vector<std::string> said;
    for (const auto& [path, body] : requests) {
      const auto answer = etcd_.post(path, body);
      said.push_back(answer.ok() ? answer.value() : answer.status().text());
    }
    return said;
  }

 private:
  const EtcdServer& etcd_;
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  std::mutex mutex_;  // guards the rest
  Rule rule_;
  std::vector<std::pair<std::string, std::string>> held_;
};

// The n-th transaction, counted from here.
Proxy::Rule transaction(int n, Proxy::Do what) {
  return [n, what, seen = std::make_shared<int>(0)](const std::string& path, const std::string&) {
    return path == "/v3/kv/txn" && ++*seen == n ? what : Proxy::Do::pass;
  };
}

// Accepts connections by the kernel alone: nobody ever reads or answers.
class SilentServer {
 public:
  SilentServer() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);  // NOLINT: as the calls want it
    if (fd_ < 0 || bind(fd_, generic, size) != 0 || listen(fd_, 16) != 0 || getsockname(fd_, generic, &size) != 0) {
      throw std::runtime_error("listen");
    }
    port_ = ntohs(address.sin_port);
  }
  ~SilentServer() { close(fd_); }
  SilentServer(const SilentServer&) = delete;
  SilentServer& operator=(const SilentServer&) = delete;
  [[nodiscard]] std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }
  // How many have connected since it was asked last.
  [[nodiscard]] int connections() const {
    int count = 0;
    for (int fd = 0; (fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; ++count) close(fd);
    return count;
  }

 private:
  int fd_ = -1;
  std::uint16_t port_ = 0;
};

// A store on its thread, with a loop as the coordinator has it.
class Owner {
 public:
  explicit Owner(std::unique_ptr<ViewStore> store) {
    auto started = io::EventLoop::start("test-loop");
    REQUIRE(started.ok());
    loop_ = std::move(started.value());
    loop_->call([&] {
      auto thread = StoreThread::start(
          std::move(store), [this](StoreThread::Task task) { loop_->post(std::move(task)); },
          [this](Status why) { lost.put(std::move(why)); });
      if (thread.ok()) thread_ = std::move(thread.value());
    });
    REQUIRE(thread_ != nullptr);
  }
  ~Owner() { end(); }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  void end() {
    loop_->call([this] { thread_.reset(); });
  }
  void begin_acquire() {
    loop_->call([&] { thread_->acquire([this](Result<Values> values) { acquisitions.put(std::move(values)); }); });
  }
  Status put(std::uint64_t key, Bytes value) {
    loop_->call(
        [&] { thread_->put(key, std::move(value), [this](Status status) { answers_.put(std::move(status)); }); });
    return answers_.take().value_or(Status(Code::TIMEOUT, "no answer"));
  }

  test::Inbox<Result<Values>> acquisitions;
  test::Inbox<Status> lost;

 private:
  test::Inbox<Status> answers_;
  std::unique_ptr<io::EventLoop> loop_;
  std::unique_ptr<StoreThread> thread_;
};

}  // namespace

// --------------------------------------------------------------------------------------------------------------
// options

TEST_CASE("endpoints of etcd as people write them") {
  const auto parsed = [](const std::string& text) {
    const auto endpoint = runtime::parse_etcd_endpoint(text);
    return endpoint.ok()
               ? endpoint.value().host + " " + std::to_string(endpoint.value().port) + " " + endpoint.value().authority
               : std::string(code_name(endpoint.status().code()));
  };
  CHECK(parsed("http://10.1.2.3:2379") == "10.1.2.3 2379 10.1.2.3:2379");
  CHECK(parsed("http://10.1.2.3:2379/") == "10.1.2.3 2379 10.1.2.3:2379");
  CHECK(parsed("etcd.example:1") == "etcd.example 1 etcd.example:1");
  CHECK(parsed("etcd") == "etcd 2379 etcd:2379");
  CHECK(parsed("http://[::1]:65535") == "::1 65535 [::1]:65535");
  CHECK(parsed("[fe80::1]") == "fe80::1 2379 [fe80::1]:2379");
  for (const char* wrong : {"",       "http://",   ":2379",    "h:0",   "h:65536",
                            "h:x",    "h:",        "h:1x",     "h:-1",  "h:1/path",
                            "h:1?q",  "ftp://h:1", "user@h:1", "::1",   "[::1",
                            "[::1]x", "[]:1",      "a b:1",    "h\n:1", "http://h:1,http://i:1"}) {
    INFO(wrong);
    CHECK(parsed(wrong) == "INVALID_ARGUMENT");
  }
  CHECK(parsed("https://h:1") == "UNSUPPORTED");
}

TEST_CASE("options that cannot work are refused by name") {
  const auto refused = [](const runtime::EtcdOptions& options) {
    const Status status = runtime::make_etcd_store(options).status();
    CHECK(status.code() == Code::INVALID_ARGUMENT);
    return status.text();
  };
  CHECK(contains(refused({}), "no etcd endpoint"));
  CHECK(contains(refused({.endpoints = {"a:1", "a:b"}}), "\"a:b\""));
  CHECK(contains(refused({.endpoints = {"a:1"}, .ttl_s = 2}), "2 s"));
  CHECK(contains(refused({.endpoints = {"a:1"}, .ttl_s = 3601}), "3601 s"));
  CHECK(contains(refused({.endpoints = {"a:1"}, .prefix = "a\nb"}), "prefix"));
  CHECK(make_store({"a:1", "http://b:2"}, 3, "p")->describe() == "etcd at a:1, b:2, prefix p/");
}

TEST_CASE("a store that was not acquired writes nothing") {
  const auto store = make_store({"127.0.0.1:1"}, 3);
  const Status status = store->put(1, Bytes{1});
  CHECK(status.code() == Code::REFUSED);
  CHECK(contains(status.text(), "not acquired"));
  CHECK(!store->upkeep().ok());
}

TEST_CASE("what answers but is not etcd is named") {
  httplib::Server server;
  const int port = server.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { server.listen_after_bind(); });
  while (!server.is_running()) std::this_thread::yield();
  const std::string endpoint = "127.0.0.1:" + std::to_string(port);
  const Status nothing = make_store({endpoint}, 60)->acquire().status();
  CHECK(nothing.code() == Code::UNSUPPORTED);
  CHECK(contains(nothing.text(), endpoint));
  CHECK(contains(nothing.text(), "not the gateway of etcd"));
  std::atomic<int> kind{0};
  server.Post(".*", [&](const httplib::Request&, httplib::Response& response) {
    response.set_content(kind == 0   ? "hello"
                         : kind == 1 ? "[1]"
                         : kind == 2 ? "{}"
                                     : R"({"ID":"7","TTL":"1"})",
                         "text");
  });
  for (; kind < 4; ++kind) {
    INFO("kind " << kind);
    CHECK(make_store({endpoint}, 60)->acquire().status().code() == Code::UNSUPPORTED);
  }
  server.stop();
  thread.join();
}

// ------------------------------------------------------------------------------------------------------------- every
// day

TEST_CASE("what was put is there for the next owner, who need not wait for a lease to run out") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Values expected;
  const auto begin = std::chrono::steady_clock::now();
  {
    const auto store = make_store({etcd.endpoint()}, 60);
    CHECK(acquired(*store).empty());
    for (std::size_t size = 0; size < 70; ++size) {
      const std::uint64_t key = size % 3 == 0 ? ~std::uint64_t{size} : size % 5;
      expected[key] = noise(size);
      REQUIRE(store->put(key, expected[key]).ok());
    }
    CHECK(acquired(*store) == expected);  // it is ours already
    REQUIRE(store->put(4, Bytes{4}).ok());
    expected[4] = {4};
  }
  const auto store = make_store({etcd.endpoint()}, 60);
  CHECK(acquired(*store) == expected);
  CHECK(store->put(4, Bytes{5}).ok());
  CHECK(std::chrono::steady_clock::now() - begin < 30s);
}

TEST_CASE("stores with different prefixes have nothing to do with one another") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  std::vector<std::unique_ptr<ViewStore>> stores;
  std::uint8_t number = 0;
  for (const char* prefix : {"a", "a/b", "ab", "a/value", "a/value/value", "\xc3\xa4", ""}) {
    stores.push_back(make_store({etcd.endpoint()}, 60, prefix));
    CHECK(acquired(*stores.back()).empty());
    REQUIRE(stores.back()->put(1, Bytes{++number}).ok());
  }
  for (std::size_t i = 0; i < stores.size(); ++i) {
    CHECK(acquired(*stores[i]) == Values{{1, {static_cast<std::uint8_t>(i + 1)}}});
  }
}

TEST_CASE("large values: as far as etcd takes them, and what to do about the rest") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Values expected;
  {
    const auto store = make_store({etcd.endpoint()}, 60);
    acquired(*store);
    for (std::uint64_t key = 0; key < 6; ++key) {
      expected[key] = noise((1U << 20U) + key);
      const Status status = store->put(key, expected[key]);
      INFO(status.text());
      REQUIRE(status.ok());
    }
    for (const std::size_t size : {std::size_t{1600} << 10, std::size_t{4} << 20}) {
      const Status status = store->put(1, noise(size));
      INFO(status.text());
      CHECK(status.code() == Code::RESOURCE);
      CHECK(contains(status.text(), "1.5 MiB"));
      CHECK(contains(status.text(), "--max-request-bytes"));
    }
    expected[9] = {9};
    CHECK(store->put(9, expected[9]).ok());
  }
  CHECK(acquired(*make_store({etcd.endpoint()}, 60)) == expected);
}

TEST_CASE("endpoints that are dead or silent are passed over") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  const SilentServer silent;
  const auto store =
      make_store({"127.0.0.1:" + std::to_string(test::free_port()), silent.endpoint(), etcd.endpoint()}, 60);
  acquired(*store);
  CHECK(silent.connections() == 1);
  CHECK(store->put(1, Bytes{1}).ok());
  CHECK(silent.connections() == 0);  // the one that answered last is asked first
}

TEST_CASE("etcd by its IPv6 address") {
  if (!etcd_is_there()) return;
  const int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 loopback = {};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool available = probe >= 0 && bind(probe, reinterpret_cast<sockaddr*>(&loopback), sizeof(loopback)) == 0;
  if (probe >= 0) close(probe);
  if (!available) {
    WARN("no IPv6 on this machine: skipped");
    return;
  }
  const EtcdServer etcd(true);
  const auto store = make_store({etcd.endpoint6()}, 60);
  acquired(*store);
  CHECK(store->put(1, Bytes{1}).ok());
}

TEST_CASE("an etcd that wants a user name is an error at once") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  REQUIRE(etcd.post("/v3/auth/user/add", R"({"name":"root","password":"p"})").ok());
  REQUIRE(etcd.post("/v3/auth/role/add", R"({"name":"root"})").ok());
  REQUIRE(etcd.post("/v3/auth/user/grant", R"({"user":"root","role":"root"})").ok());
  REQUIRE(etcd.post("/v3/auth/enable", "{}").ok());
  const Status status = make_store({etcd.endpoint()}, 60)->acquire().status();
  INFO(status.text());
  CHECK(status.code() == Code::REFUSED);
  CHECK(contains(status.text(), etcd.endpoint()));
}

TEST_CASE("a database that is full refuses puts, and works when there is room again") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  const auto store = make_store({etcd.endpoint()}, 60);
  acquired(*store);
  REQUIRE(store->put(1, Bytes{1}).ok());
  const std::string member = R"({"action":"ACTIVATE","memberID":"0","alarm":"NOSPACE"})";
  REQUIRE(etcd.post("/v3/maintenance/alarm", member).ok());
  const Status full = store->put(1, Bytes{2});
  INFO(full.text());
  CHECK(full.code() == Code::RESOURCE);
  CHECK(contains(full.text(), "space"));
  CHECK(store->upkeep().ok());
  REQUIRE(etcd.post("/v3/maintenance/alarm", R"({"action":"DEACTIVATE","memberID":"0","alarm":"NOSPACE"})").ok());
  CHECK(store->put(1, Bytes{3}).ok());
  CHECK(acquired(*store) == Values{{1, {3}}});
}

// ---------------------------------------------------------------------------------------------------- who may write

TEST_CASE("a second store waits, until it is told not to or the first is gone") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  auto first = make_store({etcd.endpoint()}, 60);
  acquired(*first);
  REQUIRE(first->put(1, Bytes{1}).ok());

  auto impatient = make_store({etcd.endpoint()}, 60);
  auto waiting = std::async(std::launch::async, [&] { return impatient->acquire(); });
  CHECK(waiting.wait_for(300ms) == std::future_status::timeout);
  impatient->cancel();
  REQUIRE(waiting.wait_for(test::patience) == std::future_status::ready);
  CHECK(waiting.get().status().code() == Code::CANCELLED);
  CHECK(impatient->acquire().status().code() == Code::CANCELLED);  // also later

  auto second = make_store({etcd.endpoint()}, 60);
  waiting = std::async(std::launch::async, [&] { return second->acquire(); });
  CHECK(waiting.wait_for(300ms) == std::future_status::timeout);
  REQUIRE(first->put(1, Bytes{2}).ok());
  first.reset();
  REQUIRE(waiting.wait_for(test::patience) == std::future_status::ready);
  const auto values = waiting.get();
  REQUIRE(values.ok());
  CHECK(values.value() == Values{{1, {2}}});
  CHECK(second->put(1, Bytes{3}).ok());
}

TEST_CASE("a store whose lease is not renewed is another's, and refuses by itself") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  const auto first = make_store({etcd.endpoint()}, 3);
  acquired(*first);
  REQUIRE(first->put(1, Bytes{1}).ok());
  const auto second = make_store({etcd.endpoint()}, 60);
  CHECK(acquired(*second) == Values{{1, {1}}});  // after 3 s
  REQUIRE(second->put(1, Bytes{2}).ok());
  const Status refused = first->put(1, Bytes{9});
  CHECK(refused.code() == Code::REFUSED);
  CHECK(contains(refused.text(), "no longer ours"));
  CHECK(!first->upkeep().ok());
  CHECK(acquired(*second) == Values{{1, {2}}});
}

TEST_CASE("etcd itself refuses a writer that was deposed and does not know it") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  const auto first = make_store({etcd.endpoint()}, 60);
  acquired(*first);
  REQUIRE(first->put(1, Bytes{1}).ok());
  // By the first's own clock all is well, but an operator has taken the key away.
  REQUIRE(etcd.post("/v3/kv/deleterange", leader_key).ok());
  SECTION("while another leads") {
    const auto second = make_store({etcd.endpoint()}, 60);
    CHECK(acquired(*second) == Values{{1, {1}}});
    CHECK(first->put(1, Bytes{9}).code() == Code::REFUSED);
    CHECK(first->put(2, Bytes{9}).code() == Code::REFUSED);
    REQUIRE(second->put(1, Bytes{2}).ok());
    CHECK(first->put(1, Bytes{9}).code() == Code::REFUSED);
    CHECK(acquired(*second) == Values{{1, {2}}});
  }
  SECTION("while nobody leads") {
    CHECK(first->put(1, Bytes{9}).code() == Code::REFUSED);
    CHECK(acquired(*first) == Values{{1, {1}}});  // it may try again
    CHECK(first->put(1, Bytes{3}).ok());
  }
}

TEST_CASE("the process of the owner is killed: another takes over when its lease has run out") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  int ready[2] = {-1, -1};
  REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    auto store = runtime::make_etcd_store({.endpoints = {etcd.endpoint()}, .prefix = "test/", .ttl_s = 3});
    const char done = store.ok() && store.value()->acquire().ok() && store.value()->put(1, Bytes{7}).ok() ? '+' : '-';
    if (write(ready[1], &done, 1) != 1) _exit(1);
    for (;;) pause();
  }
  char done = 0;
  REQUIRE(read(ready[0], &done, 1) == 1);
  CHECK(done == '+');
  REQUIRE(kill(child, SIGKILL) == 0);
  REQUIRE(waitpid(child, nullptr, 0) == child);
  close(ready[0]);
  close(ready[1]);
  const auto store = make_store({etcd.endpoint()}, 60);
  CHECK(acquired(*store) == Values{{1, {7}}});
  CHECK(store->put(1, Bytes{8}).ok());
}

TEST_CASE("a process that was stopped for longer than its lease writes nothing when it goes on") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  int reports[2] = {-1, -1};
  REQUIRE(pipe2(reports, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    // Puts one value after the other until one is refused; 'p' for each put, then the first letter of what ended it.
    auto store = runtime::make_etcd_store({.endpoints = {etcd.endpoint()}, .prefix = "test/", .ttl_s = 3});
    test::Inbox<Result<Values>> got;
    test::Inbox<Status> lost;
    test::Inbox<Status> stored;
    auto loop = io::EventLoop::start("child");
    std::unique_ptr<StoreThread> thread;
    loop.value()->call([&] {
      thread =
          std::move(StoreThread::start(
                        std::move(store.value()), [&](StoreThread::Task task) { loop.value()->post(std::move(task)); },
                        [&](Status why) { lost.put(std::move(why)); })
                        .value());
      thread->acquire([&](Result<Values> values) { got.put(std::move(values)); });
    });
    if (!got.take().value().ok()) _exit(1);
    for (std::uint8_t i = 1;; ++i) {
      loop.value()->call([&] { thread->put(1, {i}, [&](Status status) { stored.put(std::move(status)); }); });
      const Status status = stored.take().value();
      if (status.code() == Code::RESOURCE) continue;  // a slow disk under etcd
      const char letter = status.ok() ? 'p' : 'r';
      if (write(reports[1], &letter, 1) != 1) _exit(2);
      if (letter == 'r') break;
      std::this_thread::sleep_for(5ms);
    }
    const char letter = lost.take() ? 'l' : 'n';
    if (write(reports[1], &letter, 1) != 1) _exit(3);
    _exit(0);
  }
  close(reports[1]);
  char letter = 0;
  for (int puts = 0; puts < 50; ++puts) {
    REQUIRE(read(reports[0], &letter, 1) == 1);
    REQUIRE(letter == 'p');
  }
  REQUIRE(kill(child, SIGSTOP) == 0);
  const auto store = make_store({etcd.endpoint()}, 60);
  const Values values = acquired(*store);
  REQUIRE(values.count(1) == 1);
  REQUIRE(store->put(1, Bytes{200, 200}).ok());
  REQUIRE(kill(child, SIGCONT) == 0);
  std::string rest;
  while (read(reports[0], &letter, 1) == 1) rest += letter;
  // At most the put that was in the middle when it was stopped had been done and is reported now.
  CHECK(rest.size() <= 4);
  CHECK(rest.substr(rest.size() - std::min<std::size_t>(rest.size(), 2)) == "rl");
  CHECK(acquired(*store) == Values{{1, {200, 200}}});
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  close(reports[0]);
}

TEST_CASE("many stores, one after the other: nobody misses what the one before has put") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  constexpr std::uint8_t owners = 12;
  std::atomic<int> inside{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint8_t i = 0; i < owners; ++i) {
    threads.emplace_back([&] {
      auto store = runtime::make_etcd_store({.endpoints = {etcd.endpoint()}, .prefix = "test/", .ttl_s = 60});
      const auto values = store.value()->acquire();
      if (!values.ok() || ++inside != 1) ++wrong;
      const std::uint8_t before = values.ok() && !values.value().empty() ? values.value().at(1).at(0) : 0;
      const Bytes next = {static_cast<std::uint8_t>(before + 1)};
      if (!store.value()->put(1, next).ok()) ++wrong;
      --inside;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(acquired(*make_store({etcd.endpoint()}, 60)) == Values{{1, {owners}}});
}

// ------------------------------------------------------------------------------------------- answers lost, requests
// late

TEST_CASE("the answer to the claim gets lost: the key is recognized as ours") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Proxy proxy(etcd);
  const auto store = make_store({proxy.endpoint()}, 60);
  std::atomic<int> leases{0};
  proxy.rule([&, lose = transaction(1, Proxy::Do::lose_answer)](const std::string& path, const std::string& body) {
    if (path == "/v3/lease/grant") ++leases;
    return lose(path, body);
  });
  acquired(*store);
  CHECK(leases == 1);
  CHECK(store->put(1, Bytes{1}).ok());
}

TEST_CASE("the key is taken away between claim and reading: what was read counts for nothing") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Proxy proxy(etcd);
  const auto store = make_store({proxy.endpoint()}, 60);
  proxy.rule([&, count = 0](const std::string& path, const std::string&) mutable {
    if (path == "/v3/kv/txn" && ++count == 2 && !etcd.post("/v3/kv/deleterange", leader_key).ok()) count = 0;
    return Proxy::Do::pass;
  });
  acquired(*store);
  CHECK(store->put(1, Bytes{1}).ok());
}

TEST_CASE("the answer about the values gets lost: it is asked again") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Proxy proxy(etcd);
  const auto store = make_store({proxy.endpoint()}, 60);
  proxy.rule(transaction(2, Proxy::Do::lose_answer));
  acquired(*store);
  CHECK(store->put(1, Bytes{1}).ok());
}

TEST_CASE("the answer to a put gets lost: it may be repeated, or another put follow") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Proxy proxy(etcd);
  const auto store = make_store({proxy.endpoint()}, 60);
  acquired(*store);
  for (std::uint8_t i = 0; i < 4; ++i) {
    INFO("round " << static_cast<int>(i));
    proxy.rule(transaction(1, Proxy::Do::lose_answer));
    CHECK(store->put(1, Bytes{i, 1}).code() == Code::RESOURCE);
    const Bytes next = {i, static_cast<std::uint8_t>(i % 2 == 0 ? 1 : 2)};  // the same again, or another
    CHECK(store->put(1, next).ok());
    CHECK(acquired(*store) == Values{{1, next}});
  }
}

TEST_CASE("a put that was given up comes late: it does not undo the one after it") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Proxy proxy(etcd);
  auto store = make_store({proxy.endpoint()}, 60);
  acquired(*store);
  const bool exists = GENERATE(false, true);
  if (exists) REQUIRE(store->put(1, Bytes{0}).ok());
  proxy.rule(transaction(1, Proxy::Do::hold));
  CHECK(store->put(1, Bytes{1}).code() == Code::RESOURCE);
  SECTION("of the same owner") {
    REQUIRE(store->put(1, Bytes{2}).ok());
    const auto said = proxy.release();
    REQUIRE(said.size() == 1);
    CHECK(!contains(said[0], "\"succeeded\":true"));
    CHECK(acquired(*store) == Values{{1, {2}}});
    CHECK(store->put(1, Bytes{3}).ok());
  }
  SECTION("of the next owner") {
    store.reset();
    const auto next = make_store({etcd.endpoint()}, 60);
    const Values before = acquired(*next);
    CHECK(before == (exists ? Values{{1, {0}}} : Values{}));
    const auto said = proxy.release();
    REQUIRE(said.size() == 1);
    CHECK(!contains(said[0], "\"succeeded\":true"));
    CHECK(acquired(*next) == before);
  }
  SECTION("before the one after it, which still comes last") {
    const auto said = proxy.release();
    REQUIRE(said.size() == 1);
    CHECK(contains(said[0], "\"succeeded\":true"));
    REQUIRE(store->put(1, Bytes{2}).ok());
    CHECK(acquired(*store) == Values{{1, {2}}});
  }
}

// ---------------------------------------------------------------------------------------------------------- etcd is
// away

TEST_CASE("etcd is killed and comes back within the lease: puts are refused meanwhile, and work again") {
  if (!etcd_is_there()) return;
  EtcdServer etcd;
  Owner owner(make_store({etcd.endpoint()}, 60));
  owner.begin_acquire();
  REQUIRE(owner.acquisitions.take().value().ok());
  REQUIRE(owner.put(1, {1}).ok());
  etcd.kill();
  const Status away = owner.put(1, {2});
  CHECK(away.code() == Code::RESOURCE);
  CHECK(contains(away.text(), etcd.endpoint()));
  etcd.restart();
  const Status back = owner.put(1, {3});
  INFO(back.text());
  CHECK(back.ok());
  CHECK(owner.lost.size() == 0);
  owner.end();
  CHECK(acquired(*make_store({etcd.endpoint()}, 60)) == Values{{1, {3}}});
}

TEST_CASE("etcd is away for longer than the lease allows: lost, once, and it can be acquired again") {
  if (!etcd_is_there()) return;
  EtcdServer etcd;
  Owner owner(make_store({etcd.endpoint()}, 6));
  owner.begin_acquire();
  REQUIRE(owner.acquisitions.take().value().ok());
  REQUIRE(owner.put(1, {1}).ok());
  const bool killed = GENERATE(true, false);
  if (killed) {
    etcd.kill();
  } else {
    etcd.stop_clock();  // connections are still accepted, by the kernel
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto lost = owner.lost.take();
  REQUIRE(lost);
  INFO(lost->text());
  CHECK(lost->code() == Code::REFUSED);
  CHECK(std::chrono::steady_clock::now() - begin < 6s);  // before anybody else can lead
  CHECK(owner.put(1, {2}).code() == Code::REFUSED);
  owner.begin_acquire();
  if (killed) {
    etcd.restart();
  } else {
    etcd.start_clock();
  }
  const auto again = owner.acquisitions.take();
  REQUIRE(again);
  INFO(again->status().text());
  REQUIRE(again->ok());
  CHECK(again->value() == Values{{1, {1}}});
  CHECK(owner.put(1, {3}).ok());
  CHECK(owner.lost.size() == 0);
}

TEST_CASE("a lease is renewed for as long as its owner lives, also while it only waits") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Owner owner(make_store({etcd.endpoint()}, 4));
  owner.begin_acquire();
  REQUIRE(owner.acquisitions.take().value().ok());
  const auto second = make_store({etcd.endpoint()}, 4);
  auto waiting = std::async(std::launch::async, [&] { return second->acquire(); });
  // The time itself is what is tested: more than two leases.
  CHECK(waiting.wait_for(9s) == std::future_status::timeout);
  CHECK(owner.lost.size() == 0);
  CHECK(owner.put(1, {1}).ok());
  owner.end();
  REQUIRE(waiting.wait_for(test::patience) == std::future_status::ready);
  CHECK(waiting.get().ok());
}

TEST_CASE("a renewal that etcd answers with an error in the stream is tried again") {
  if (!etcd_is_there()) return;
  const EtcdServer etcd;
  Proxy proxy(etcd);
  test::Inbox<int> renewals;
  proxy.rule([&, count = 0](const std::string& path, const std::string&) mutable {
    if (path != "/v3/lease/keepalive") return Proxy::Do::pass;
    renewals.put(++count);
    return count <= 2 ? Proxy::Do::stream_error : Proxy::Do::pass;
  });
  Owner owner(make_store({proxy.endpoint()}, 3));
  owner.begin_acquire();
  REQUIRE(owner.acquisitions.take().value().ok());
  for (int count = 1; count <= 4; ++count) CHECK(renewals.take() == std::optional<int>(count));
  CHECK(owner.put(1, {1}).ok());
  CHECK(owner.lost.size() == 0);
}

TEST_CASE("an etcd that comes later is waited for, and waiting ends when the owner does") {
  if (!etcd_is_there()) return;
  EtcdServer etcd;
  const SilentServer silent;
  etcd.kill();
  {
    Owner owner(make_store({etcd.endpoint()}, 60));
    owner.begin_acquire();
    CHECK(!owner.acquisitions.take(300ms));
    etcd.restart();
    const auto values = owner.acquisitions.take();
    REQUIRE(values);
    CHECK(values->ok());
  }
  Owner waits(make_store({silent.endpoint()}, 60));
  waits.begin_acquire();
  CHECK(!waits.acquisitions.take(300ms));  // in the middle of a request that may take 5 s
  const auto begin = std::chrono::steady_clock::now();
  waits.end();
  CHECK(std::chrono::steady_clock::now() - begin < 4s);
}
