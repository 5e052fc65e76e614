// Members that know different codecs: a call with one that somebody lacks is refused at its caller, by name, before
// anything has started.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/communicator.hpp"
#include "runtime/coordinator_service.hpp"
#include "support/catch.hpp"

using namespace hawser;
using runtime::Communicator;

namespace {

constexpr std::int64_t patience_ms = 20000;

runtime::OpCall sum_of(std::vector<float>& data, codec::Codec with) {
  runtime::OpCall call;
  call.kind = runtime::OpKind::all_reduce;
  call.send = reinterpret_cast<const std::byte*>(data.data());
  call.recv = reinterpret_cast<std::byte*>(data.data());
  call.count = data.size();
  call.dtype = Dtype::f32;
  call.timeout_ms = patience_ms;
  call.coding.emplace();
  call.coding->format = codec::make_format(static_cast<std::uint32_t>(with), 0, 0).value();
  return call;
}

}  // namespace

TEST_CASE("a codec that a member does not know is refused by name", "[codecs]") {
  auto coordinator = runtime::CoordinatorService::start({});
  REQUIRE(coordinator.ok());
  std::vector<std::unique_ptr<Communicator>> peers;
  for (int i = 0; i < 2; ++i) {
    runtime::CommOptions options;
    REQUIRE(options.set_coordinators(coordinator.value()->address()).ok());
    options.min_size = 2;
    options.name = i == 0 ? "new" : "old";
    if (i == 1) options.codecs = std::uint64_t{1} << static_cast<unsigned>(codec::Codec::bf16);
    auto made = Communicator::create(options);
    REQUIRE(made.ok());
    peers.push_back(std::move(made.value()));
  }
  std::vector<Status> joined(2);
  std::thread other([&] { joined[1] = peers[1]->join(patience_ms); });
  joined[0] = peers[0]->join(patience_ms);
  other.join();
  REQUIRE(joined[0].ok());
  REQUIRE(joined[1].ok());

  std::vector<float> first(100, 1.0F);
  std::vector<float> second(100, 2.0F);
  const auto refused = peers[0]->engine().start(sum_of(first, codec::Codec::int8));
  REQUIRE(!refused.ok());
  CHECK(refused.status().code() == Code::UNSUPPORTED);
  CHECK(refused.status().text().find("(old) does not know the codec int8") != std::string::npos);

  // It has used no number: the next call meets that of the other member.
  auto a = peers[0]->engine().start(sum_of(first, codec::Codec::bf16));
  auto b = peers[1]->engine().start(sum_of(second, codec::Codec::bf16));
  REQUIRE((a.ok() && b.ok()));
  CHECK(peers[0]->engine().wait(*a.value(), -1).status.ok());
  CHECK(peers[1]->engine().wait(*b.value(), -1).status.ok());
  CHECK(first == std::vector<float>(100, 3.0F));
  CHECK(second == first);
  for (const auto& peer : peers) peer->close();
}
