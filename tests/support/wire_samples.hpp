// Messages for tests: one written-out sample of every type and shape (the golden files hold their bytes), and visitors
// of the `fields` functions that fill any message at random or to its limits.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wire/fields.hpp"
#include "wire/messages.hpp"

namespace hawser::wire_test {

struct Sample {
  std::string name;
  wire::Message message;
};

inline PeerId peer_id(std::uint64_t low) { return PeerId{{0x0123456789abcdefULL, low}}; }

inline std::vector<Sample> samples() {
  const RunId run{{0xa0a1a2a3a4a5a6a7ULL, 0xa8a9aaabacadaeafULL}};
  const LineageId lineage{{0xb0b1b2b3b4b5b6b7ULL, 0xb8b9babbbcbdbebfULL}};
  const Ticket ticket{{0xf0f1f2f3f4f5f6f7ULL, 0xf8f9fafbfcfdfeffULL}};
  const wire::PeerInfo ada{peer_id(1), "ada", "192.0.2.7", 40001, 0x3f};
  const wire::PeerInfo zoe{peer_id(2), "zo\xc3\xab", "2001:db8::2", 40002, 0x21};
  const wire::OpKey key{3, 7, 11};
  const wire::OpParams reduce{
      wire::OpKind::all_reduce, Dtype::bf16, Redop::avg, 1, 2, 1'000'003, PeerId{}, 1, 1, 3, 1, 256};
  const wire::OpParams broadcast{wire::OpKind::broadcast, Dtype::f64, Redop::sum, 0, 0, 5, peer_id(2), 0, 0, 0, 0, 0};
  const wire::Digest128 digest{0x1112131415161718ULL, 0x191a1b1c1d1e1f10ULL};
  const wire::Progress slow{100, 1 << 22, 1 << 23, 1500,
                            "barrier, untagged call 3: rank 1 (zo\xc3\xab) has not entered it"};
  const wire::Install admitted{{8, 77}, {8, 7, 8, {{ada, 1}}, lineage, wire::Rule::alone}, false, 101, {}, {}};
  const wire::Install proposal{{9, 78}, {9, 7, 9, {{ada, 1}, {zoe, 9}}, lineage, wire::Rule::quorum}, false, 102, {},
                               {}};
  return {
      {"Hello", wire::Hello{peer_id(1), 5, 2, "ada", lineage, 9, {8, 77}, true, 2, wire::Asked::some, 100}},
      {"Hello-first", wire::Hello{peer_id(1), 0, 1, "", {}, 0, {}, false, 1, wire::Asked::all}},
      {"Welcome", wire::Welcome{run, 250, 2000, "192.0.2.7", true}},
      {"Refuse", wire::Refuse{lineage, 52, "speak version 1, please"}},
      {"Join", wire::Join{"192.0.2.7", 40001, 0x3f}},
      {"Join-as-seen", wire::Join{"", 40001, 0x3f}},
      {"Meet", wire::Meet{zoe, ticket, true}},
      {"Forget", wire::Forget{peer_id(2)}},
      {"Connected", wire::Connected{peer_id(2)}},
      {"AdmitQuery", wire::AdmitQuery{4}},
      {"AdmitPromise", wire::AdmitPromise{4, 100}},
      {"AdmitTarget", wire::AdmitTarget{4, 101}},
      {"AtPoint", wire::AtPoint{4}},
      {"AdmitCancel", wire::AdmitCancel{4}},
      {"Leave", wire::Leave{false}},
      {"Leave-aborted", wire::Leave{true}},
      {"Heartbeat", wire::Heartbeat{0x0102030405060708ULL}},
      {"Heartbeat-slow", wire::Heartbeat{9, slow}},
      {"Suspect", wire::Suspect{peer_id(2), "connection reset by zo\xc3\xab"}},
      {"OpFault", wire::OpFault{6, key, wire::FaultReason::mismatch, "ada has 4 elements, zo\xc3\xab has 5"}},
      {"Seal", wire::Seal{{8, 77}, false}},
      {"Seal-recover", wire::Seal{{9, 78}, true}},
      {"SealReply",
       wire::SealReply{{8, 77},
                       6,
                       {{key, reduce, wire::OpPhase::done, digest, wire::FaultReason::none, ""},
                        {{3, 0, 12}, broadcast, wire::OpPhase::open, {}, wire::FaultReason::timeout, "after 5 s"}},
                       {},
                       {}}},
      {"SealReply-idle", wire::SealReply{{8, 77}, 6, {}, {}, {}}},
      {"SealReply-recover", wire::SealReply{{9, 78}, 8, {}, {proposal}, {admitted}}},
      {"Install", wire::Install{{8, 77},
                                {7, 7, 3, {{ada, 1}, {zoe, 3}}, lineage, wire::Rule::quorum},
                                true,
                                0,
                                {{key, wire::Verdict::commit, wire::FaultReason::none, ""},
                                 {{3, 0, 12}, wire::Verdict::abort, wire::FaultReason::timeout, "after 5 s"},
                                 {{3, 0, 13}, wire::Verdict::rerun, wire::FaultReason::none, ""}},
                                {{peer_id(3), "max", false, "its connection closed"}, {peer_id(4), "eve", true, ""}}}},
      {"Install-admit", admitted},
      {"StrandHello", wire::StrandHello{peer_id(1), peer_id(2), ticket, 64}},
      {"StrandAccept", wire::StrandAccept{64}},
      {"Propose", wire::Propose{proposal}},
      {"Accept", wire::Accept{{9, 78}, 9}},
      {"Installed", wire::Installed{9}},
      {"LinkLost", wire::LinkLost{peer_id(2)}},
      {"StatusQuery", wire::StatusQuery{}},
      {"StatusReport",
       wire::StatusReport{run,
                          "192.0.2.1:4900",
                          61000,
                          250,
                          2000,
                          2,
                          {{5, lineage, wire::Rule::quorum, 8, 7, 8, true, "the answer of rank 0 (ada) to a Seal"}},
                          {{5, ada, wire::PeerState::member, 0, 40, "", slow, {90, 1 << 20, 1 << 21, 0, ""}, 250},
                           {5, zoe, wire::PeerState::waiting, 0, 10, "a connection with ada", {}, {}, 0}}}},
  };
}

using Random = std::mt19937_64;

// Fills a value at random within its limits; short strings and lists are likelier than long ones, limits themselves
// occur.
class RandomFill {
 public:
  explicit RandomFill(Random& random) : random_(random) {}

  template <std::unsigned_integral T>
  void number(T& value) {
    const std::uint64_t any = random_();
    constexpr std::array<std::uint64_t, 4> corners = {0, 1, ~std::uint64_t{0}, std::uint64_t{1} << 63};
    value = static_cast<T>(any % 4 == 0 ? corners[random_() % corners.size()] : random_() >> (any >> 8) % 64);
  }
  template <typename T>
  void boolean(T& value) {
    value = static_cast<T>(random_() % 2);
  }
  template <typename T>
  void choice(T& value, std::size_t count) {
    value = static_cast<T>(random_() % count);
  }
  void weight(double& value) {
    value = random_() % 4 == 0 ? wire::weight_left_out : static_cast<double>(random_() % 1000) / 8;
  }
  template <typename T>
  void bits128(T& value) {
    number(value.high);
    number(value.low);
  }
  void text(std::string& value, std::size_t bytes_max) {
    // One of every length in bytes, and the corners of the table in base/text.cpp.
    constexpr std::array<std::string_view, 14> characters = {"a",
                                                             "~",
                                                             " ",
                                                             "\xc2\x80",
                                                             "\xdf\xbf",
                                                             "\xe0\xa0\x80",
                                                             "\xec\xbf\xbf",
                                                             "\xed\x9f\xbf",
                                                             "\xee\x80\x80",
                                                             "\xef\xbf\xbf",
                                                             "\xf0\x90\x80\x80",
                                                             "\xf3\xbf\xbf\xbf",
                                                             "\xf4\x80\x80\x80",
                                                             "\xf4\x8f\xbf\xbf"};
    value.clear();
    const std::size_t wanted = length(bytes_max);
    while (value.size() < wanted) {
      const std::string_view next = characters[random_() % characters.size()];
      value += value.size() + next.size() <= wanted ? next : "x";
    }
  }
  template <typename T>
  void item(T& value) {
    fields(*this, value);
  }
  template <typename T>
  void list(std::vector<T>& values, std::size_t count_max) {
    values.resize(random_() % 16 == 0 ? length(count_max) : random_() % std::min<std::size_t>(4, count_max + 1));
    for (T& value : values) item(value);
  }

 private:
  std::size_t length(std::size_t limit) {
    switch (random_() % 8) {
      case 0:
        return limit;
      case 1:
        return random_() % (limit + 1);
      case 2:
        return 0;
      default:
        return std::min<std::size_t>(limit, random_() % 24);
    }
  }

  Random& random_;
};

// Fills a value to its limits.
class LongestFill {
 public:
  template <std::unsigned_integral T>
  void number(T& value) {
    value = static_cast<T>(~T{0});
  }
  template <typename T>
  void boolean(T& value) {
    value = T{1};
  }
  template <typename T>
  void choice(T& value, std::size_t count) {
    value = static_cast<T>(count - 1);
  }
  void weight(double& value) { value = std::numeric_limits<double>::max(); }
  template <typename T>
  void bits128(T& value) {
    value.high = value.low = ~std::uint64_t{0};
  }
  void text(std::string& value, std::size_t bytes_max) { value.assign(bytes_max, 'x'); }
  template <typename T>
  void item(T& value) {
    fields(*this, value);
  }
  template <typename T>
  void list(std::vector<T>& values, std::size_t count_max) {
    values.resize(count_max);
    for (T& value : values) item(value);
  }
};

inline constexpr std::size_t message_count = std::variant_size_v<wire::Message>;

// The message of type number index + 1, filled by `fill`.
template <typename Fill, std::size_t... indices>
wire::Message filled(std::size_t index, Fill&& fill, std::index_sequence<indices...>) {
  wire::Message message;
  const auto one = [&]<std::size_t i>() {
    if (i != index) return;
    std::variant_alternative_t<i, wire::Message> value;
    fill.item(value);
    message = std::move(value);
  };
  (one.template operator()<indices>(), ...);
  return message;
}
template <typename Fill>
wire::Message filled(std::size_t index, Fill&& fill) {
  return filled(index, fill, std::make_index_sequence<message_count>());
}

}  // namespace hawser::wire_test
