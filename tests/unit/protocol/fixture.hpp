// Short ways to make what the machines of the protocol are fed with, and to find things in what they answer.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <variant>
#include <vector>

#include "wire/messages.hpp"

namespace protocol_test {

using namespace hawser;

inline PeerId peer(std::uint64_t number) {
  PeerId id;
  id.high = 0xfeed;
  id.low = number;
  return id;
}

inline wire::ViewMember member(std::uint64_t number, std::uint64_t joined = 1) {
  return {{peer(number), "p" + std::to_string(number), "10.0.0.1", 4000}, joined};
}

// Members by number, all there since generation 1.
inline wire::View view(std::uint64_t number, std::initializer_list<std::uint64_t> members, std::uint64_t epoch = 1,
                       std::uint64_t generation = 1) {
  wire::View out;
  out.number = number;
  out.epoch = epoch;
  out.generation = generation;
  out.lineage.low = 5;
  for (const std::uint64_t id : members) out.members.push_back(member(id));
  return out;
}

inline wire::Install install(wire::View view, bool sealed = true, std::vector<wire::Outcome> outcomes = {}) {
  wire::Install out;
  out.term = view.number;
  out.view = std::move(view);
  out.sealed = sealed;
  out.outcomes = std::move(outcomes);
  return out;
}

inline wire::OpParams sum(std::uint64_t count = 8) {
  wire::OpParams params;
  params.kind = wire::OpKind::all_reduce;
  params.dtype = Dtype::f32;
  params.count = count;
  return params;
}

inline wire::OpParams strict_sum() {
  wire::OpParams params = sum();
  params.strict = 1;
  return params;
}

inline wire::OpParams broadcast(std::uint64_t root) {
  wire::OpParams params;
  params.kind = wire::OpKind::broadcast;
  params.count = 8;
  params.root = peer(root);
  return params;
}

inline wire::Digest128 digest(std::uint64_t value = 7) { return {value, value}; }
inline wire::Done done(std::uint64_t value = 7, std::vector<wire::OpKey> committed = {}) {
  return {digest(value), std::move(committed)};
}

inline wire::OpState state(const wire::OpKey& key, const wire::OpParams& params, wire::OpPhase phase,
                           wire::FaultReason fault = wire::FaultReason::none, const std::string& text = "",
                           std::uint64_t value = 7) {
  return {key, params, phase, phase == wire::OpPhase::open ? wire::Digest128{} : digest(value), fault, text};
}

// All alternatives of one type in a list of variants.
template <typename T, typename Variant>
std::vector<T> all(const std::vector<Variant>& actions) {
  std::vector<T> out;
  for (const Variant& action : actions) {
    if (const T* found = std::get_if<T>(&action)) out.push_back(*found);
  }
  return out;
}

// The first Hello of a peer.
inline wire::Hello hello(std::uint64_t number, std::uint32_t min_size = 1, std::uint32_t group = 0) {
  wire::Hello out;
  out.peer = peer(number);
  out.group = group;
  out.min_size = min_size;
  out.name = "p" + std::to_string(number);
  return out;
}

// One message of each type, filled with numbers that mean nothing in particular.
inline std::vector<wire::Message> one_of_each() {
  const wire::OpKey key{1, 0, 0};
  wire::SealReply reply{1, 1, {state(key, sum(), wire::OpPhase::open)}, {}, {}};
  wire::Install view_change = install(view(2, {1, 2}));
  return {hello(1),
          wire::Welcome{{}, 1000, 6000, "10.0.0.1", false},
          wire::Refuse{{}, 53, "no"},
          wire::Join{"", 4000, 0},
          wire::Meet{{peer(9), "p9", "10.0.0.9", 4000}, {}, true},
          wire::Forget{peer(9)},
          wire::Connected{peer(2)},
          wire::AdmitQuery{1},
          wire::AdmitPromise{1, 0},
          wire::AdmitTarget{1, 1},
          wire::AtPoint{1},
          wire::AdmitCancel{1},
          wire::Leave{false},
          wire::Heartbeat{1},
          wire::Suspect{peer(2), "gone"},
          wire::OpFault{1, key, wire::FaultReason::timeout, "late"},
          wire::Seal{1, false},
          reply,
          view_change,
          wire::StrandHello{peer(1), peer(2), {}, 0},
          wire::StrandAccept{0},
          wire::Propose{install(view(2, {1, 2}))},
          wire::Accept{1, 2},
          wire::LinkLost{peer(2)},
          wire::Installed{2}};
}

}  // namespace protocol_test
