// A peer's machine, from its first connection to its end; and that no message in any phase upsets it.
#include <functional>
#include <string>
#include <vector>

#include "fixture.hpp"
#include "protocol/membership/member.hpp"
#include "support/catch.hpp"

namespace {

using namespace protocol_test;
using namespace hawser::protocol;

constexpr std::uint32_t heartbeat = 100;
constexpr std::uint32_t timeout = 600;
constexpr std::uint32_t addresses = 2;

RunId run(std::uint64_t number = 1) {
  RunId id;
  id.low = number;
  return id;
}

struct Fixture {
  template <typename Event>
  Fixture& step(Event event) {
    machine.step(Member::Event(std::move(event)), Env{now, {}}, actions);
    return *this;
  }
  Fixture& receive(wire::Message message) { return step(Member::ControlReceived{std::move(message)}); }
  Fixture& connect() { return step(Member::ControlOpened{}); }
  Fixture& welcome() { return connect().receive(wire::Welcome{run(), heartbeat, timeout, "10.0.0.1", false}); }
  Fixture& join(std::uint64_t admit_target = 0) {
    welcome().step(Member::Listening{"", 4000});
    wire::Install first = install(view(1, {1, 2, 3}), false);
    first.admit_target = admit_target;
    receive(first);
    REQUIRE(machine.is_member());
    // The call that the members of an older group made as they let this peer in.
    if (admit_target != 0) step(Member::AdmitCalled{});
    actions.clear();
    return *this;
  }
  template <typename T>
  std::vector<T> sent() const {
    std::vector<T> out;
    for (const auto& send : all<Member::SendControl>(actions)) {
      if (const T* message = std::get_if<T>(&send.message)) out.push_back(*message);
    }
    return out;
  }
  template <typename T>
  std::size_t count() const {
    return all<T>(actions).size();
  }

  Member machine{MemberConfig{peer(1), 3, 2, "p1", 0, addresses}};
  Member::Actions actions;
  Millis now = 1000;
};

}  // namespace

TEST_CASE("joining, step by step", "[protocol]") {
  Fixture f;
  CHECK(f.machine.waiting_for() == "no coordinator answers");
  CHECK(!f.machine.next_deadline());
  f.connect();
  REQUIRE(f.sent<wire::Hello>().size() == 1);
  wire::Hello expected = hello(1, 2, 3);
  expected.addresses = addresses;
  CHECK(f.sent<wire::Hello>()[0] == expected);
  CHECK(f.machine.waiting_for() == "the coordinator took the connection but did not answer");
  f.receive(wire::Welcome{run(), heartbeat, timeout, "10.0.0.1", true});
  REQUIRE(f.count<Member::Listen>() == 1);
  CHECK(all<Member::Listen>(f.actions)[0].loopback_only);
  CHECK(f.machine.waiting_for() == "this peer does not listen yet");
  CHECK(f.machine.peer_timeout_ms() == timeout);
  f.step(Member::Listening{"10.9.9.9", 4321});
  REQUIRE(f.sent<wire::Join>().size() == 1);
  CHECK(f.sent<wire::Join>()[0] == wire::Join{"10.9.9.9", 4321, 0});
  f.receive(wire::Meet{{peer(2), "p2", "10.0.0.2", 5}, {}, true});
  CHECK(f.count<Member::Meet>() == 1);
  CHECK(f.machine.waiting_for().find("no connection with peer p2 at 10.0.0.2:5") == 0);
  f.step(Member::Linked{peer(2)});
  CHECK(f.sent<wire::Connected>().size() == 1);
  CHECK(f.machine.waiting_for().find("connected with 1 other peers") == 0);
  f.receive(wire::Forget{peer(2)});
  CHECK(f.count<Member::Part>() == 1);
  f.actions.clear();
  f.receive(install(view(1, {1}), false));
  CHECK(f.count<Member::ViewInstalled>() == 1);
  CHECK(f.count<Member::Joined>() == 1);
  CHECK(f.machine.is_member());
}

TEST_CASE("a join that is refused ends", "[protocol]") {
  Fixture f;
  SECTION("refused") {
    f.connect().receive(wire::Refuse{f.machine.view().lineage, static_cast<std::uint32_t>(Code::REFUSED), "full"});
    REQUIRE(f.count<Member::Ended>() == 1);
    CHECK(all<Member::Ended>(f.actions)[0].code == Code::REFUSED);
    CHECK(all<Member::Ended>(f.actions)[0].text == "the coordinator refused this peer: full");
  }
  SECTION("refused with a code of the future") {
    f.connect().receive(wire::Refuse{{}, 77777, "?"});
    CHECK(all<Member::Ended>(f.actions).at(0).code == Code::REFUSED);
  }
  CHECK(f.machine.is_ended());
  f.actions.clear();
  f.connect();
  CHECK(f.actions.empty());  // nothing follows the end
}

TEST_CASE("a join goes on elsewhere when a coordinator is lost or leads nothing", "[protocol]") {
  Fixture f;
  SECTION("lost") { f.welcome().step(Member::ControlClosed{"reset"}); }
  SECTION("silent") {
    f.welcome();
    for (int i = 0; i < 7; ++i) {
      f.now += heartbeat;
      f.step(Member::Tick{});
    }
    CHECK(f.count<Member::CloseControl>() == 1);
  }
  SECTION("not the leader") {
    f.connect().receive(wire::Refuse{{}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), "ask another"});
    REQUIRE(f.count<Member::CloseControl>() == 1);
    CHECK(all<Member::CloseControl>(f.actions)[0].why == "ask another");
  }
  CHECK(!f.machine.is_ended());
  CHECK(!f.machine.next_deadline());
  f.actions.clear();
  f.welcome().step(Member::Listening{"", 4000});
  CHECK(f.sent<wire::Hello>().size() == 1);
  CHECK(f.sent<wire::Join>().size() == 1);
}

TEST_CASE("heartbeats", "[protocol]") {
  Fixture f;
  f.join();
  CHECK(f.machine.next_deadline() == f.now + heartbeat);
  f.step(Member::Tick{});
  CHECK(f.sent<wire::Heartbeat>().empty());
  f.now += heartbeat;
  f.step(Member::Tick{});
  CHECK(f.sent<wire::Heartbeat>().size() == 1);
  SECTION("a silent coordinator is given up, and the member lives on") {
    for (int i = 0; i < 6; ++i) {
      f.now += heartbeat;
      f.step(Member::Tick{});
    }
    CHECK(f.count<Member::CloseControl>() == 1);
    CHECK(f.machine.is_member());
    CHECK(!f.machine.has_coordinator());
    CHECK(!f.machine.next_deadline());
  }
  SECTION("own sleep is not the silence of others") {
    f.now += 10 * timeout;
    f.step(Member::Tick{});
    CHECK(f.count<Member::CloseControl>() == 0);
    CHECK(f.machine.has_coordinator());
  }
}

TEST_CASE("a member that lost its connection learns what became of it", "[protocol]") {
  Fixture f;
  f.join();
  const auto key = f.machine.start(0, sum(), f.actions);
  REQUIRE(key.ok());
  f.step(Member::ControlClosed{"reset"});
  CHECK(f.machine.is_member());
  CHECK(!f.machine.has_coordinator());
  f.actions.clear();
  f.connect();
  REQUIRE(f.sent<wire::Hello>().size() == 1);
  CHECK(f.sent<wire::Hello>()[0].view == 1);
  CHECK(f.sent<wire::Hello>()[0].lineage == f.machine.view().lineage);
  f.actions.clear();
  SECTION("expelled from its run") {
    f.receive(wire::Refuse{f.machine.view().lineage, static_cast<std::uint32_t>(Code::EXPELLED), "you were removed"});
    REQUIRE(all<OpFailed>(f.actions).size() == 1);
    CHECK(all<OpFailed>(f.actions)[0].code == Code::EXPELLED);
    CHECK(all<Member::Ended>(f.actions).at(0).code == Code::EXPELLED);
  }
  SECTION("a coordinator that leads another lineage has no say") {
    f.receive(wire::Refuse{{}, static_cast<std::uint32_t>(Code::EXPELLED), "who are you"});
    CHECK(f.count<Member::CloseControl>() == 1);
    CHECK(f.machine.is_member());
    CHECK(!f.machine.has_coordinator());
    f.actions.clear();  // found by the simulator: nothing may be sent now
    f.machine.vote(key.value(), wire::FaultReason::timeout, "late", f.actions);
    f.step(Member::Unreachable{peer(2), "gone"});
    CHECK(f.actions.empty());
  }
  SECTION("all coordinators lead other groups") {  // found by the simulator
    const auto other = [&](std::uint64_t failures, std::uint64_t lineage) {
      f.step(Member::ControlOpened{wire::Asked::all, failures});
      wire::Refuse refuse{{}, static_cast<std::uint32_t>(Code::EXPELLED), "another group"};
      refuse.lineage.low = lineage;
      f.receive(refuse);
    };
    other(0, 77);
    CHECK(f.machine.is_member());
    CHECK(f.count<Member::CloseControl>() == 1);
    SECTION("one after the other: this one is led nowhere") {
      other(1, 78);
      REQUIRE(all<Member::Ended>(f.actions).size() == 1);
      CHECK(all<Member::Ended>(f.actions)[0].code == Code::EXPELLED);
      CHECK(all<OpFailed>(f.actions).at(0).code == Code::EXPELLED);
    }
    SECTION("but one of them did not answer") {
      other(2, 77);
      CHECK(f.machine.is_member());
      other(3, 78);
      CHECK(f.machine.is_ended());
    }
    SECTION("but one of them leads nothing") {
      f.step(Member::ControlOpened{wire::Asked::all, 1});
      f.receive(wire::Refuse{{}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), "no majority"});
      other(2, 77);
      CHECK(f.machine.is_member());
    }
    SECTION("but one has taken it in meanwhile") {
      f.step(Member::ControlOpened{wire::Asked::all, 1});
      f.receive(wire::Welcome{run(), heartbeat, timeout, "10.0.0.1", false}).step(Member::ControlClosed{"reset"});
      other(1, 78);
      CHECK(f.machine.is_member());
    }
  }
  SECTION("one that says nothing is given up") {  // found by the simulator
    const Millis connected = f.now;
    while (f.count<Member::CloseControl>() == 0) {
      REQUIRE(f.machine.next_deadline());
      f.now = *f.machine.next_deadline();
      f.step(Member::Tick{});
      REQUIRE(f.now <= connected + timeout);
    }
    CHECK(f.now == connected + timeout);
    CHECK(f.sent<wire::Heartbeat>().empty());  // not before it was welcomed
  }
}

TEST_CASE("leaving while coordinators are away", "[protocol]") {
  Fixture f;
  SECTION("several are known: one may answer soon") {
    f.join();
    const bool said = GENERATE(false, true);
    if (said) {
      f.step(Member::LeaveCalled{});
      CHECK(f.sent<wire::Leave>().size() == 1);
      f.step(Member::ControlClosed{"reset"});
    } else {
      f.step(Member::ControlClosed{"reset"}).step(Member::LeaveCalled{});
      CHECK(f.sent<wire::Leave>().empty());
    }
    REQUIRE(!f.machine.is_ended());
    REQUIRE(f.machine.next_deadline() == f.now + timeout);
    f.actions.clear();
    SECTION("none does") {
      f.now += timeout - 1;
      f.step(Member::Tick{});
      CHECK(!f.machine.is_ended());
      f.now += 1;
      f.step(Member::Tick{});
      CHECK(all<Member::Ended>(f.actions).at(0).code == Code::TIMEOUT);
    }
    SECTION("one does, and says so") {
      f.now += timeout / 2;
      f.welcome();
      CHECK(f.sent<wire::Leave>().size() == 1);
      wire::Install next = install(view(2, {2, 3}, 2), true);
      next.departures.push_back({peer(1), "p1", true, "left"});
      f.receive(next);
      CHECK(all<Member::Ended>(f.actions).at(0).code == Code::OK);
    }
    SECTION("one does, and knows that it has left") {
      f.connect().receive(
          wire::Refuse{f.machine.view().lineage, static_cast<std::uint32_t>(Code::EXPELLED), "removed"});
      CHECK(all<Member::Ended>(f.actions).at(0).code == Code::OK);
    }
    SECTION("one after the other has no majority") {
      for (int i = 0; i < 3 && !f.machine.is_ended(); ++i) {
        f.now += timeout / 2;
        f.welcome().receive(wire::Refuse{{}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), "no majority"});
      }
      CHECK(all<Member::Ended>(f.actions).at(0).code == Code::TIMEOUT);
    }
  }
  SECTION("one is known, and is gone") {
    f.machine = Member{MemberConfig{peer(1), 3, 2, "p1", 0, 1}};
    f.join();
    if (GENERATE(false, true)) {
      f.step(Member::LeaveCalled{}).step(Member::ControlClosed{"reset"});
    } else {
      f.step(Member::ControlClosed{"reset"}).step(Member::LeaveCalled{});
    }
    CHECK(all<Member::Ended>(f.actions).at(0).code == Code::OK);
  }
}

TEST_CASE("admission points", "[protocol]") {
  Fixture f;
  f.join();
  SECTION("nobody waits: no message") {
    f.step(Member::AdmitCalled{});
    CHECK(f.actions.size() == 1);
    CHECK(f.count<Member::Admitted>() == 1);
  }
  SECTION("somebody waits") {
    f.step(Member::AdmitCalled{});
    f.actions.clear();
    f.receive(wire::AdmitQuery{4});
    REQUIRE(f.sent<wire::AdmitPromise>().size() == 1);
    CHECK(f.sent<wire::AdmitPromise>()[0] == wire::AdmitPromise{4, 1});
    f.step(Member::AdmitCalled{});
    CHECK(f.count<Member::Admitted>() == 0);  // promised
    f.receive(wire::AdmitTarget{3, 2});       // of another round
    CHECK(f.sent<wire::AtPoint>().empty());
    f.receive(wire::AdmitTarget{4, 3});  // others are one ahead
    CHECK(f.count<Member::Admitted>() == 1);
    f.actions.clear();
    f.step(Member::AdmitCalled{});
    CHECK(f.count<Member::Admitted>() == 0);
    CHECK(f.sent<wire::AtPoint>().size() == 1);
    SECTION("and is let in") {
      wire::Install next = install(view(2, {1, 2, 3, 4}, 1, 2), false);
      next.admit_target = 3;
      f.receive(next);
      CHECK(f.count<Member::Admitted>() == 1);
    }
    SECTION("and goes away") {
      f.receive(wire::AdmitCancel{3});
      CHECK(f.count<Member::Admitted>() == 0);
      f.receive(wire::AdmitCancel{4});
      CHECK(f.count<Member::Admitted>() == 1);
    }
    SECTION("and the coordinator goes away, which may have let it in") {
      f.step(Member::ControlClosed{"reset"});
      CHECK(f.count<Member::Admitted>() == 0);
      SECTION("and comes back, and has not") {
        f.welcome().receive(wire::AdmitCancel{0});
        CHECK(f.count<Member::Admitted>() == 1);
      }
      SECTION("and comes back, and has") {
        wire::Install next = install(view(2, {1, 2, 3, 4}, 1, 2), false);
        next.admit_target = 3;
        f.welcome().receive(next);
        CHECK(f.count<Member::Admitted>() == 1);
      }
      SECTION("and does not come back before the call gives up: the next one stands there, too") {
        f.step(Member::AdmitGivenUp{}).step(Member::AdmitCalled{});
        CHECK(f.count<Member::Admitted>() == 0);
        f.welcome().receive(wire::AdmitCancel{0});
        CHECK(f.count<Member::Admitted>() == 1);
      }
    }
    SECTION("and the coordinator goes away before this peer stood there") {
      f.receive(wire::AdmitQuery{5});
      f.step(Member::ControlClosed{"reset"});
      CHECK(f.count<Member::Admitted>() == 1);
    }
    SECTION("and is let in after the call has given up") {
      f.step(Member::AdmitGivenUp{});
      wire::Install next = install(view(2, {1, 2, 3, 4}, 1, 2), false);
      next.admit_target = 3;
      f.receive(next);
      CHECK(f.count<Member::Admitted>() == 0);
      f.actions.clear();
      f.step(Member::AdmitCalled{});
      CHECK(f.count<Member::Admitted>() == 1);
      CHECK(f.actions.size() == 1);
    }
    SECTION("and a loss comes between") {
      wire::Install loss = install(view(2, {1, 2}, 2));
      loss.departures.push_back({peer(3), "p3", false, "dead"});
      f.receive(loss);
      CHECK(f.count<Member::Admitted>() == 0);  // still stands there
      f.actions.clear();
      f.receive(wire::AdmitQuery{5});
      CHECK(f.sent<wire::AdmitPromise>().at(0).passed == 2);
      f.receive(wire::AdmitTarget{5, 3});
      CHECK(f.sent<wire::AtPoint>().at(0).round == 5);
    }
  }
}

TEST_CASE("a newcomer's first call is the point at which it was let in", "[protocol]") {
  Fixture f;
  f.join(7);
  f.receive(wire::AdmitQuery{1});
  CHECK(f.sent<wire::AdmitPromise>().at(0).passed == 7);
  f.step(Member::AdmitCalled{});
  CHECK(f.count<Member::Admitted>() == 0);
}

TEST_CASE("leaving, aborting, being removed", "[protocol]") {
  Fixture f;
  f.join();
  wire::Install without = install(view(2, {2, 3}, 2));
  SECTION("leaving") {
    f.step(Member::LeaveCalled{});
    CHECK(f.sent<wire::Leave>().size() == 1);
    without.departures.push_back({peer(1), "p1", true, "left"});
    f.receive(without);
    CHECK(all<Member::Ended>(f.actions).at(0).code == Code::OK);
  }
  SECTION("aborting") {
    REQUIRE(f.machine.start(0, sum(), f.actions).ok());
    f.step(Member::AbortCalled{});
    CHECK(all<OpFailed>(f.actions).at(0).code == Code::ABORTED);
    CHECK(all<Member::Ended>(f.actions).at(0).code == Code::ABORTED);
  }
  SECTION("being removed") {
    without.departures.push_back({peer(1), "p1", false, "no heartbeat for 600 ms"});
    f.receive(without);
    const auto ended = all<Member::Ended>(f.actions).at(0);
    CHECK(ended.code == Code::EXPELLED);
    CHECK(ended.text == "this peer was removed from the group: no heartbeat for 600 ms");
  }
  SECTION("being removed, nobody says why") {
    f.receive(without);
    CHECK(all<Member::Ended>(f.actions).at(0).code == Code::EXPELLED);
  }
  CHECK(f.machine.is_ended());
}

TEST_CASE("an old view is no news", "[protocol]") {
  Fixture f;
  f.join();
  f.receive(install(view(1, {2, 3}), true));
  f.receive(install(view(0, {}), true));
  CHECK(f.actions.empty());
  CHECK(f.machine.is_member());
}

TEST_CASE("no message and no event upsets a member in any phase", "[protocol]") {
  const std::vector<std::function<void(Fixture&)>> phases = {
      [](Fixture&) {},
      [](Fixture& f) { f.connect(); },
      [](Fixture& f) { f.welcome(); },
      [](Fixture& f) {
        f.welcome().step(Member::Listening{"", 1});
      },
      [](Fixture& f) { f.join(); },
      [](Fixture& f) {
        f.join().receive(wire::Seal{9, false});
      },
      [](Fixture& f) { f.join().receive(wire::AdmitQuery{1}).step(Member::AdmitCalled{}); },
      [](Fixture& f) { f.join().step(Member::LeaveCalled{}); },
      [](Fixture& f) { f.join().step(Member::ControlClosed{"reset"}); },
      [](Fixture& f) { f.join().step(Member::AbortCalled{}); },
  };
  const std::vector<Member::Event> events = {Member::ControlOpened{},
                                             Member::ControlClosed{"reset"},
                                             Member::Listening{"", 1},
                                             Member::Linked{peer(2)},
                                             Member::Unreachable{peer(2), "gone"},
                                             Member::AdmitCalled{},
                                             Member::AdmitGivenUp{},
                                             Member::LeaveCalled{},
                                             Member::AbortCalled{},
                                             Member::Tick{}};
  const auto check = [](Fixture& f) {
    // Sane: nothing follows the end, and what is sent has a connection to go out on.
    const std::size_t ends = f.count<Member::Ended>();
    CHECK(ends <= 1);
    if (ends == 1) {
      CHECK(std::holds_alternative<Member::Ended>(f.actions.back()));
      CHECK(f.machine.is_ended());
      CHECK(!f.machine.next_deadline());
    }
  };
  for (std::size_t phase = 0; phase < phases.size(); ++phase) {
    for (const wire::Message& message : one_of_each()) {
      INFO("phase " << phase << ", message " << wire::message_name(message));
      Fixture f;
      phases[phase](f);
      f.actions.clear();
      f.receive(message);
      f.receive(message);
      check(f);
    }
    for (const Member::Event& event : events) {
      INFO("phase " << phase << ", event " << event.index());
      Fixture f;
      phases[phase](f);
      f.actions.clear();
      f.step(event);
      f.step(event);
      check(f);
    }
  }
}

TEST_CASE("nobody is let in at a point that this member has passed", "[protocol]") {
  Fixture f;
  f.join(3).step(Member::AdmitCalled{});  // passes point 4
  f.connect();
  CHECK(f.sent<wire::Hello>().back().passed == 4);
  wire::Install next = install(view(2, {1, 2, 3, 4}, 1, 2), false);
  SECTION("as by a record in a log that nobody had heard of") {
    next.admit_target = 4;
    f.receive(next);
    REQUIRE(f.count<Member::Ended>() == 1);
    CHECK(all<Member::Ended>(f.actions)[0].code == Code::EXPELLED);
    CHECK(f.count<Member::ViewInstalled>() == 0);
  }
  SECTION("the next one is fine") {
    next.admit_target = 5;
    f.receive(next);
    CHECK(f.machine.view().number == 2);
  }
}
