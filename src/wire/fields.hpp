// What each struct of messages.hpp consists of on the wire: its fields in order, with their limits. The visitors are in
// archive.hpp. A field added, moved or given another limit is another wire format: see
// docs/protocol.md#versions-and-strangers.
#pragma once

#include <concepts>
#include <type_traits>

#include "wire/archive.hpp"
#include "wire/messages.hpp"

namespace hawser::wire {

// Writers visit a const struct, readers a mutable one: one description for both.
template <typename T, typename Struct>
concept Is = std::same_as<std::remove_const_t<T>, Struct>;

// --------------------------------------------------------------------------------------------------- building blocks

template <typename Archive, Is<PeerInfo> T>
void fields(Archive& a, T& v) {
  a.bits128(v.id);
  a.text(v.name, name_bytes_max);
  a.text(v.host, host_bytes_max);
  a.number(v.port);
  a.number(v.codecs);
}

template <typename Archive, Is<ViewMember> T>
void fields(Archive& a, T& v) {
  a.item(v.peer);
  a.number(v.joined);
}

template <typename Archive, Is<Term> T>
void fields(Archive& a, T& v) {
  a.number(v.count);
  a.number(v.instance);
}

template <typename Archive, Is<View> T>
void fields(Archive& a, T& v) {
  a.bits128(v.lineage);
  a.choice(v.rule, rule_count);
  a.number(v.number);
  a.number(v.epoch);
  a.number(v.generation);
  a.list(v.members, members_max);
}

template <typename Archive, Is<OpKey> T>
void fields(Archive& a, T& v) {
  a.number(v.generation);
  a.number(v.tag);
  a.number(v.sequence);
}

template <typename Archive, Is<OpParams> T>
void fields(Archive& a, T& v) {
  a.choice(v.kind, op_kind_count);
  a.choice(v.dtype, dtype_count);
  a.choice(v.redop, redop_count);
  a.boolean(v.strict);
  a.number(v.min_participants);
  a.number(v.count);
  a.bits128(v.root);
  a.boolean(v.coded);
  a.boolean(v.weighted);
  a.number(v.codec);
  a.number(v.rounding);
  a.number(v.block);
  a.boolean(v.uniform);
}

template <typename Archive, Is<OpState> T>
void fields(Archive& a, T& v) {
  a.item(v.key);
  a.item(v.params);
  a.choice(v.phase, op_phase_count);
  a.bits128(v.digest);
  a.choice(v.fault, fault_reason_count);
  a.text(v.text, text_bytes_max);
}

template <typename Archive, Is<Outcome> T>
void fields(Archive& a, T& v) {
  a.item(v.key);
  a.choice(v.verdict, verdict_count);
  a.choice(v.reason, fault_reason_count);
  a.text(v.text, text_bytes_max);
}

template <typename Archive, Is<Departure> T>
void fields(Archive& a, T& v) {
  a.bits128(v.id);
  a.text(v.name, name_bytes_max);
  a.boolean(v.left);
  a.text(v.text, text_bytes_max);
}

// ----------------------------------------------------------------------------- messages between peer and coordinator

template <typename Archive, Is<Hello> T>
void fields(Archive& a, T& v) {
  a.bits128(v.peer);
  a.number(v.group);
  a.number(v.min_size);
  a.text(v.name, name_bytes_max);
  a.bits128(v.lineage);
  a.number(v.view);
  a.item(v.promised);
  a.boolean(v.sealed);
  a.number(v.addresses);
  a.choice(v.asked, asked_count);
  a.number(v.passed);
}

template <typename Archive, Is<Welcome> T>
void fields(Archive& a, T& v) {
  a.bits128(v.run);
  a.number(v.heartbeat_ms);
  a.number(v.peer_timeout_ms);
  a.text(v.seen_host, host_bytes_max);
  a.boolean(v.loopback_only);
}

template <typename Archive, Is<Refuse> T>
void fields(Archive& a, T& v) {
  a.bits128(v.lineage);
  a.number(v.code);
  a.text(v.text, text_bytes_max);
}

template <typename Archive, Is<Join> T>
void fields(Archive& a, T& v) {
  a.text(v.host, host_bytes_max);
  a.number(v.port);
  a.number(v.codecs);
}

template <typename Archive, Is<Meet> T>
void fields(Archive& a, T& v) {
  a.item(v.peer);
  a.bits128(v.ticket);
  a.boolean(v.dial);
}

template <typename Archive, Is<Forget> T>
void fields(Archive& a, T& v) {
  a.bits128(v.peer);
}

template <typename Archive, Is<Connected> T>
void fields(Archive& a, T& v) {
  a.bits128(v.peer);
}

template <typename Archive, Is<AdmitQuery> T>
void fields(Archive& a, T& v) {
  a.number(v.round);
}

template <typename Archive, Is<AdmitPromise> T>
void fields(Archive& a, T& v) {
  a.number(v.round);
  a.number(v.passed);
}

template <typename Archive, Is<AdmitTarget> T>
void fields(Archive& a, T& v) {
  a.number(v.round);
  a.number(v.target);
}

template <typename Archive, Is<AtPoint> T>
void fields(Archive& a, T& v) {
  a.number(v.round);
}

template <typename Archive, Is<AdmitCancel> T>
void fields(Archive& a, T& v) {
  a.number(v.round);
}

template <typename Archive, Is<Leave> T>
void fields(Archive& a, T& v) {
  a.boolean(v.aborted);
}

template <typename Archive, Is<Progress> T>
void fields(Archive& a, T& v) {
  a.number(v.ops);
  a.number(v.bytes_sent);
  a.number(v.bytes_received);
  a.number(v.slow_ms);
  a.text(v.waits_for, text_bytes_max);
}

template <typename Archive, Is<Heartbeat> T>
void fields(Archive& a, T& v) {
  a.number(v.sequence);
  a.item(v.progress);
}

template <typename Archive, Is<Suspect> T>
void fields(Archive& a, T& v) {
  a.bits128(v.peer);
  a.text(v.text, text_bytes_max);
}

template <typename Archive, Is<OpFault> T>
void fields(Archive& a, T& v) {
  a.number(v.view);
  a.item(v.key);
  a.choice(v.reason, fault_reason_count);
  a.text(v.text, text_bytes_max);
}

template <typename Archive, Is<Install> T>
void fields(Archive& a, T& v) {
  a.item(v.term);
  a.item(v.view);
  a.boolean(v.sealed);
  a.number(v.admit_target);
  a.list(v.outcomes, seal_ops_max);
  a.list(v.departures, members_max);
}

template <typename Archive, Is<Seal> T>
void fields(Archive& a, T& v) {
  a.item(v.term);
  a.boolean(v.recover);
}

template <typename Archive, Is<SealReply> T>
void fields(Archive& a, T& v) {
  a.item(v.term);
  a.number(v.view);
  a.list(v.ops, seal_ops_max);
  a.list(v.accepted, 1);
  a.list(v.last, 1);
}

template <typename Archive, Is<Propose> T>
void fields(Archive& a, T& v) {
  a.item(v.install);
}

template <typename Archive, Is<Accept> T>
void fields(Archive& a, T& v) {
  a.item(v.term);
  a.number(v.view);
}

template <typename Archive, Is<Installed> T>
void fields(Archive& a, T& v) {
  a.number(v.view);
}

template <typename Archive, Is<LinkLost> T>
void fields(Archive& a, T& v) {
  a.bits128(v.peer);
}

template <typename Archive, Is<StatusQuery> T>
void fields(Archive& /*a*/, T& /*v*/) {}

template <typename Archive, Is<PeerStatus> T>
void fields(Archive& a, T& v) {
  a.number(v.group);
  a.item(v.info);
  a.choice(v.state, peer_state_count);
  a.number(v.rank);
  a.number(v.heard_ms);
  a.text(v.text, text_bytes_max);
  a.item(v.progress);
  a.item(v.before);
  a.number(v.between_ms);
}

template <typename Archive, Is<GroupStatus> T>
void fields(Archive& a, T& v) {
  a.number(v.group);
  a.bits128(v.lineage);
  a.choice(v.rule, rule_count);
  a.number(v.number);
  a.number(v.epoch);
  a.number(v.generation);
  a.boolean(v.leads);
  a.text(v.waits_for, text_bytes_max);
}

template <typename Archive, Is<StatusReport> T>
void fields(Archive& a, T& v) {
  a.bits128(v.run);
  a.text(v.standby_of, text_bytes_max);
  a.number(v.up_ms);
  a.number(v.heartbeat_ms);
  a.number(v.peer_timeout_ms);
  a.number(v.peers);
  a.list(v.groups, status_groups_max);
  a.list(v.list, members_max);
}

// ---------------------------------------------------------------------------------------- messages between two peers

template <typename Archive, Is<StrandHello> T>
void fields(Archive& a, T& v) {
  a.bits128(v.from);
  a.bits128(v.to);
  a.bits128(v.ticket);
  a.number(v.index);
}

template <typename Archive, Is<StrandAccept> T>
void fields(Archive& a, T& v) {
  a.number(v.index);
}

// -------------------------------------------------------------------------------------------- payloads of data frames

template <typename Archive, Is<Begin> T>
void fields(Archive& a, T& v) {
  a.item(v.params);
  a.weight(v.weight);
}

template <typename Archive, Is<Done> T>
void fields(Archive& a, T& v) {
  a.bits128(v.digest);
  a.list(v.committed, done_committed_max);
}

template <typename Archive, Is<Relay> T>
void fields(Archive& a, T& v) {
  a.bits128(v.from);
  a.bits128(v.to);
  a.number(v.serial);
  a.choice(v.what, relayed_count);
}

}  // namespace hawser::wire
