// One history from beginning to end; see the header.
#include "sim/world.hpp"

#include <algorithm>

namespace hawser::sim {

// -------------------------------------------------------------------------------------------------------- coordinator

CoordinatorHost::CoordinatorHost(World& world, std::uint32_t run)
    : world_(world), run_(run), actor_(world.scheduler.add()), machine_([&] {
        protocol::CoordinatorConfig config;
        static_cast<Id128&>(config.run) = world.random.id();
        config.heartbeat_ms = world.settings.heartbeat_ms;
        config.peer_timeout_ms = world.settings.peer_timeout_ms;
        config.secret = world.random.id();
        return config;
      }()) {}

protocol::Env CoordinatorHost::env() { return {world_.scheduler.now() / 1000, world_.random.id()}; }

void CoordinatorHost::opened(Network::ConnId id) { event(protocol::Coordinator::Opened{id, "10.0.0.1"}); }
void CoordinatorHost::closed(Network::ConnId id, const std::string& why) {
  const Peer& peer = *world_.peers[world_.network.peer_of(id)];
  if (peer.is_member() && sealing_[peer.group()]) world_.counters.count(Sometimes::lost_while_sealed);
  event(protocol::Coordinator::Closed{id, why});
}
void CoordinatorHost::tick() { event(protocol::Coordinator::Tick{}); }

void CoordinatorHost::received(Network::ConnId id, const wire::Message& message) {
  const Peer& peer = *world_.peers[world_.network.peer_of(id)];
  if (std::holds_alternative<wire::Join>(message) && sealing_[peer.group()]) {
    world_.counters.count(Sometimes::join_while_sealed);
  }
  event(protocol::Coordinator::Received{id, message});
}

void CoordinatorHost::event(const protocol::Coordinator::Event& event) {
  if (!world_.scheduler.alive(actor_)) return;
  std::vector<protocol::Coordinator::Action> actions;
  machine_.step(event, env(), actions);
  for (auto& action : actions) {
    if (crash_in_ && (*crash_in_)-- == 0) {
      world_.counters.count(Sometimes::crash_between_actions);
      return world_.crash_coordinator();
    }
    if (auto* send = std::get_if<protocol::Coordinator::Send>(&action)) {
      const std::uint32_t group = world_.peers[world_.network.peer_of(send->conn)]->group();
      if (std::holds_alternative<wire::Seal>(send->message)) sealing_[group] = true;
      if (std::holds_alternative<wire::Install>(send->message)) sealing_[group] = false;
      world_.network.send_to_peer(send->conn, std::move(send->message));
    } else if (const auto* close = std::get_if<protocol::Coordinator::Close>(&action)) {
      world_.network.close_by_coordinator(close->conn);
    } else if (const auto* persist = std::get_if<protocol::Coordinator::Persist>(&action)) {
      const wire::View& view = persist->view;
      world_.trace.line(world_.scheduler.now(), "the coordinator decides on view {} of group {}: {} members",
                        view.number, persist->group, view.members.size());
      world_.checker.decided(run_, persist->group, view);
      if (view.epoch == view.number && view.generation == view.number) {
        world_.formed(run_, persist->group, view.number);
      }
      const Micros delay = world_.settings.persist == 0 ? 0 : world_.random.range(1, 2 * world_.settings.persist);
      world_.scheduler.after(delay, actor_, [this, group = persist->group, number = view.number] {
        this->event(protocol::Coordinator::Persisted{group, number});
      });
    } else if (const auto* note = std::get_if<protocol::Coordinator::Note>(&action)) {
      world_.trace.line(world_.scheduler.now(), "coordinator: {}", note->text);
      if (note->text.find("unexpected") != std::string::npos || note->text.find("in use") != std::string::npos) {
        violation("the coordinator takes offence at an honest peer: {}", note->text);
      }
    }
  }
  retime();
}

void CoordinatorHost::retime() {
  const auto due = machine_.next_deadline();
  const Micros when = due ? std::max(*due * 1000, world_.scheduler.now()) : INT64_MAX;
  if (when == tick_at_) return;
  tick_at_ = when;
  if (when == INT64_MAX) return;
  world_.scheduler.at(when, actor_, [this, when] {
    if (tick_at_ != when) return;
    tick_at_ = INT64_MAX;
    event(protocol::Coordinator::Tick{});
  });
}

// -------------------------------------------------------------------------------------------------------------- world

World::World(const Settings& s, Counters& c, bool print)
    : settings(s), counters(c), random(s.seed ^ 0x5eed), trace(print), network(*this), checker(*this), faults(*this) {}

bool World::coordinator_alive() const { return scheduler.alive(coordinators.back()->actor()); }

Slot& World::slot_of(const Peer& peer) {
  return slots[static_cast<std::size_t>(peer.group()) * settings.peers + peer.slot()];
}

void World::start_slot(Slot& slot, Micros delay) {
  scheduler.after(delay, nature, [this, &slot] {
    if (!slot.wanted || slot.peer) return;
    // Whoever comes later does not insist on company that may be gone.
    const bool first = scheduler.now() < settings.timeout();
    const auto index = static_cast<PeerIndex>(peers.size());
    peers.push_back(std::make_unique<Peer>(*this, index, slot.group, slot.number, first ? settings.min_size : 1));
    slot.peer = index;
    trace.line(scheduler.now(), "{} starts", peers.back()->name());
    peers.back()->begin();
  });
}

void World::crash(PeerIndex index, bool silently) {
  Peer& peer = *peers[index];
  if (!scheduler.alive(peer.actor())) return;
  trace.line(scheduler.now(), "{} dies{}", peer.name(), silently ? " silently" : "");
  peer.disturb();
  if (!peer.is_member() && checker.in_newest_view(peer)) counters.count(Sometimes::newcomer_lost);
  scheduler.kill(peer.actor());
  network.gone(index, peer.conn(), silently);
  Slot& slot = slot_of(peer);
  slot.peer.reset();
  slot.wanted = random.chance(0.7);
  if (slot.wanted) start_slot(slot, random.range(1, 2 * settings.timeout()));
}

void World::process_ended(Peer& peer, Code code) {
  scheduler.kill(peer.actor());
  network.gone(peer.index(), peer.conn(), false);
  Slot& slot = slot_of(peer);
  slot.peer.reset();
  slot.wanted = code != Code::OK || random.chance(0.5);
  if (slot.wanted) start_slot(slot, random.range(1, settings.timeout() / 2));
}

void World::crash_coordinator() {
  CoordinatorHost& host = *coordinators.back();
  trace.line(scheduler.now(), "the coordinator dies");
  for (const auto& peer : peers) peer->disturb();
  scheduler.kill(host.actor());
  network.coordinator_gone(static_cast<std::uint32_t>(coordinators.size() - 1));
  if (!random.chance(0.6)) return;
  scheduler.after(random.range(1, 4 * settings.timeout()), nature, [this] {
    trace.line(scheduler.now(), "another coordinator starts");
    for (const auto& peer : peers) peer->disturb();
    coordinators.push_back(std::make_unique<CoordinatorHost>(*this, static_cast<std::uint32_t>(coordinators.size())));
  });
}

void World::formed(std::uint32_t run, std::uint32_t group, std::uint64_t view) {
  auto lineage = std::make_shared<Lineage>();
  lineage->run = run;
  lineage->group = group;
  lineage->formed = view;
  lineage->program = std::make_shared<Program>(settings, settings.seed * 31 + group);
  if (view > 1) counters.count(Sometimes::reformed);
  lineages_.push_back(std::move(lineage));
}

std::shared_ptr<Lineage> World::lineage(std::uint32_t run, std::uint32_t group, std::uint64_t view) {
  for (auto it = lineages_.rbegin(); it != lineages_.rend(); ++it) {
    if ((*it)->run == run && (*it)->group == group && (*it)->formed <= view) return *it;
  }
  violation("view {} of group {} belongs to no lineage", view, group);
}

void World::data_started(Peer& peer, const wire::OpKey& key, std::uint64_t epoch, const wire::OpParams& params,
                         const std::vector<PeerId>& participants) {
  Attempt& attempt = attempts_[{OpId{peer.run(), peer.group(), key}, epoch}];
  attempt.started[peer.id()] = params;
  if (attempt.flowing) return;
  for (const PeerId& id : participants) {
    auto it = attempt.started.find(id);
    if (it == attempt.started.end() || it->second != params) return;
  }
  attempt.flowing = true;
  for (const PeerId& from : participants) {
    for (const PeerId& to : participants) {
      if (from != to) contribute(this->peer(from).index(), this->peer(to).index(), key, epoch);
    }
  }
}

// What one participant has to give reaches another: it must live long enough to send, and a connection must be there.
void World::contribute(PeerIndex from, PeerIndex to, const wire::OpKey& key, std::uint64_t epoch) {
  scheduler.after(random.range(0, 2 * settings.transfer), peers[from]->actor(), [this, from, to, key, epoch] {
    if (!peers[from]->contributes(key, epoch) || !scheduler.alive(peers[to]->actor())) return;
    if (!network.data_flows(from, to)) {
      scheduler.after(settings.timeout() / 20, peers[from]->actor(),
                      [this, from, to, key, epoch] { contribute(from, to, key, epoch); });
      return;
    }
    scheduler.after(random.range(1, 2 * settings.strand_delay), peers[to]->actor(),
                    [this, from, to, key, epoch] { peers[to]->contribution(key, epoch, peers[from]->id()); });
  });
}

void World::run_until(Micros until) {
  constexpr std::uint64_t events_max = 3000000;
  while (scheduler.step(until)) {
    if (scheduler.executed() > events_max) violation("the history does not come to rest: {} events", events_max);
  }
}

// Who is not yet where it belongs.
std::string World::unsettled() const {
  std::string text;
  for (const Slot& slot : slots) {
    if (!slot.wanted) continue;
    if (!slot.peer) {
      text += fmt::format("g{}s{} is empty; ", slot.group, slot.number);
    } else if (!peers[*slot.peer]->is_member() && coordinator_alive()) {
      text += peers[*slot.peer]->describe() + "; ";
    }
  }
  return text;
}

std::string World::unfinished() const {
  std::string text;
  for (const auto& peer : peers) {
    if (!scheduler.alive(peer->actor())) continue;
    if (!coordinator_alive() && peer->open_calls() == 0) continue;
    if (coordinators.size() > 1 && peer->open_calls() == 0) continue;
    if (!peer->is_finished()) text += peer->describe() + "; ";
  }
  return text;
}

void World::run() {
  coordinators.push_back(std::make_unique<CoordinatorHost>(*this, 0));
  for (std::uint32_t group = 0; group < settings.groups; ++group) {
    for (std::uint32_t number = 0; number < settings.peers; ++number) slots.push_back(Slot{group, number, {}, false});
  }
  if (settings.groups > 1) counters.count(Sometimes::other_group);
  for (Slot& slot : slots) {
    slot.wanted = slot.number < settings.peers_first;
    if (slot.wanted) start_slot(slot, random.range(0, settings.timeout() / 4));
  }
  faults.schedule();
  run_until(settings.fault_time);

  // Nothing bad happens any more: everyone who lives must become a member and stay one.
  trace.line(scheduler.now(), "QUIET");
  quiet = true;
  faults.stop();
  network.heal();
  for (Slot& slot : slots) {
    if (slot.wanted && !slot.peer) start_slot(slot, random.range(0, settings.timeout()));
  }
  const Micros patience = 40 * settings.timeout();
  const Micros settled_by = scheduler.now() + patience;
  const Micros step = settings.timeout() / 2;
  // Long enough for every pause to end and every silence to be noticed.
  run_until(scheduler.now() + 5 * settings.timeout());
  while (!unsettled().empty()) {
    if (scheduler.now() > settled_by) violation("not everyone who lives is a member: {}", unsettled());
    run_until(scheduler.now() + step);
  }

  // Everyone stops at the same place of the program, and then nothing may be open.
  trace.line(scheduler.now(), "LAST ROUND");
  for (const auto& lineage : lineages_) {
    std::size_t newest = 0;
    for (const auto& peer : peers) {
      if (peer->lineage() == lineage) newest = std::max(newest, peer->position());
    }
    lineage->limit = lineage->program->round_end(newest);
  }
  for (const auto& peer : peers) {
    if (scheduler.alive(peer->actor()) && peer->lineage()) {
      scheduler.after(0, peer->actor(), [p = peer.get()] { p->run_program(); });
    }
  }
  const Micros finished_by = scheduler.now() + patience;
  while (!unfinished().empty()) {
    if (scheduler.now() > finished_by) violation("somebody waits for ever: {}", unfinished());
    run_until(scheduler.now() + step);
  }
  for (const auto& peer : peers) {
    if (scheduler.alive(peer->actor())) checker.memory(*peer);
  }
}

}  // namespace hawser::sim
