// Shared state; see the header.
#include "runtime/shared_state.hpp"

#include <fmt/format.h>

#include <cstring>
#include <limits>

#include "kernels/kernels.hpp"

namespace hawser::runtime {
namespace {

Status busy() { return {Code::INVALID_ARGUMENT, "a sync of this state is under way in another thread"}; }

}  // namespace

Status SharedState::add(const std::string& name, std::byte* data, std::size_t count, Dtype dtype) {
  const std::lock_guard hold(mutex_);
  if (busy_) return busy();
  const std::uint64_t blocks = count / (protocol::sync_block_bytes / dtype_size(dtype)) + 1;
  if (layout_.blocks() + blocks > std::numeric_limits<std::uint32_t>::max()) {
    return {Code::RESOURCE, fmt::format("tensor {} makes the state larger than 2^32 blocks of 256 KiB", name)};
  }
  tensors_.push_back(data);
  try {
    Status status = layout_.add(name, dtype, count);
    if (!status.ok()) tensors_.pop_back();
    return status;
  } catch (...) {  // no memory: as it was
    tensors_.pop_back();
    throw;
  }
}

Status SharedState::move(const std::string& name, std::byte* data) {
  const std::lock_guard hold(mutex_);
  if (busy_) return busy();
  const auto index = layout_.find(name);
  if (!index) return {Code::INVALID_ARGUMENT, fmt::format("the state has no tensor named '{}'", name)};
  tensors_[*index] = data;
  return {};
}

Status SharedState::set_revision(std::uint64_t revision) {
  const std::lock_guard hold(mutex_);
  if (busy_) return busy();
  revision_ = revision;
  return {};
}

std::uint64_t SharedState::revision() const {
  const std::lock_guard hold(mutex_);
  return revision_;
}

Status SharedState::sync(Engine& engine, wire::SyncStrategy strategy, const OpCall& call, SyncReport& report) {
  protocol::Sync::Local local;
  local.strategy = strategy;
  OpCall made = call;
  made.kind = wire::OpKind::sync;
  return run(engine, std::move(local), std::move(made), report);
}

Status SharedState::check(Engine& engine, const OpCall& call, SyncReport& report) {
  protocol::Sync::Local local;
  local.check_only = true;
  OpCall made = call;
  made.kind = wire::OpKind::check;
  return run(engine, std::move(local), std::move(made), report);
}

Status SharedState::run(Engine& engine, protocol::Sync::Local local, OpCall call, SyncReport& report) {
  const std::int64_t begin = now_us();
  {
    const std::lock_guard hold(mutex_);
    if (busy_) return busy();
    busy_ = true;
  }
  struct Free {
    SharedState& state;
    ~Free() {
      const std::lock_guard hold(state.mutex_);
      state.busy_ = false;
    }
  } const free{*this};

  local.layout = &layout_;
  local.revision = revision_;
  local.newcomer = !record_ || member_ != engine.self();
  if (!local.newcomer) local.record = record_;
  local.leaves.reserve(layout_.blocks());
  for (std::uint64_t index = 0; index < layout_.blocks(); ++index) {
    const protocol::Block block = layout_.block(index);
    const auto hash = kernels::digest(tensors_[block.tensor] + block.offset, block.bytes, index);
    local.leaves.push_back({hash.high, hash.low});
  }
  report.hash_us = now_us() - begin;
  const auto run = std::make_shared<SyncRun>(layout_, tensors_, std::move(local));
  call.sync = run;
  auto started = engine.start(call);
  if (!started.ok()) return started.status();
  const OpReport ended = engine.wait(*started.value(), -1);

  const protocol::Sync& machine = run->machine;
  report.view = ended.view;
  report.participants = static_cast<std::uint32_t>(ended.participants.size());
  report.attempts = ended.attempts;
  report.blocks = layout_.blocks();
  report.sources = static_cast<std::uint32_t>(machine.counts().sources.size());
  report.blocks_received = machine.counts().blocks_received;
  report.bytes_received = machine.counts().bytes_received;
  report.bytes_sent = machine.counts().bytes_sent;
  if (const protocol::Decision* decision = machine.decision()) {
    report.decision = decision->by;
    report.behind = static_cast<std::uint32_t>(decision->behind);
    report.revision = decision->revision;
    report.root = decision->root;
  }
  report.time_us = now_us() - begin;
  if (!ended.status.ok()) return ended.status;
  const protocol::Decision* decision = machine.decision();
  if (decision == nullptr) return {Code::INTERNAL, "a sync was committed before this member had decided it"};
  for (const std::uint64_t block : machine.dirty()) {
    const auto staged = run->staged.find(block);
    const std::span<std::byte> place = run->place(block);
    if (staged == run->staged.end() || staged->second.size() != place.size()) {
      return {Code::INTERNAL, fmt::format("block {} of the shared state is missing after the commit", block)};
    }
  }
  for (const std::uint64_t block : machine.dirty()) {
    const std::span<std::byte> place = run->place(block);
    std::memcpy(place.data(), run->staged.at(block).data(), place.size());
  }
  const std::lock_guard hold(mutex_);
  revision_ = decision->revision;
  record_ = protocol::Sync::Record{decision->revision, decision->root};
  member_ = engine.self();
  report.tensors_changed = static_cast<std::uint32_t>(machine.tensors_changed());
  report.time_us = now_us() - begin;
  return {};
}

}  // namespace hawser::runtime
