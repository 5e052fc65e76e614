// One history from beginning to end; see the header.
#include "sim/world.hpp"

#include <algorithm>

namespace hawser::sim {

// -------------------------------------------------------------------------------------------------------- coordinator

CoordinatorHost::CoordinatorHost(World& world, std::uint32_t index, std::uint32_t address)
    : world_(world), index_(index), address_(address), actor_(world.scheduler.add()) {}

void CoordinatorHost::begin() {
  if (world_.settings.group_rule() == wire::Rule::arbiter) return campaign();
  std::map<std::uint32_t, wire::Install> newest;
  for (const auto& [group, install] : world_.addresses[address_].log) newest[group] = install;
  std::vector<Machine::Restored> stored;
  for (const auto& [group, install] : newest) stored.push_back({group, install});
  if (!stored.empty()) world_.counters.count(Sometimes::restored);
  lead(stored);
}

void CoordinatorHost::lead(const std::vector<Machine::Restored>& stored) {
  const Settings& s = world_.settings;
  protocol::CoordinatorConfig config;
  static_cast<Id128&>(config.run) = world_.random.id();
  config.heartbeat_ms = s.heartbeat_ms;
  config.peer_timeout_ms = s.peer_timeout_ms;
  config.secret = world_.random.id();
  config.arbiter = s.group_rule() == wire::Rule::arbiter;
  if (s.coordinators > 1 && s.standbys && address_ > 0) config.standby_of = "the first";
  machine_.emplace(config);
  since_ = world_.scheduler.now();
  ++machines_;
  sealing_.clear();
  accepts_.clear();
  wanted_.clear();
  for (const Machine::Restored& group : stored) event(group);
  for (const Network::ConnId id : conns_) event(Machine::Opened{id, "10.0.0.1"});
}

// Asks the store for the leadership again and again, and to keep it.
void CoordinatorHost::campaign() {
  if (!world_.scheduler.alive(actor_)) return;
  const Micros now = world_.scheduler.now();
  Arbiter& arbiter = world_.arbiter;
  if (arbiter.leader == index_) {
    arbiter.until = now + world_.settings.timeout();
  } else {
    if (machine_) depose();
    if (!arbiter.leader || now > arbiter.until) {
      arbiter.leader = index_;
      arbiter.until = now + world_.settings.timeout();
      world_.trace.line(now, "coordinator {} leads", index_);
      std::vector<Machine::Restored> stored;
      for (const auto& [group, install] : arbiter.views) stored.push_back({group, install});
      lead(stored);
    }
  }
  world_.scheduler.after(world_.random.range(1, world_.settings.timeout() / 4), actor_, [this] { campaign(); });
}

void CoordinatorHost::depose() {
  world_.trace.line(world_.scheduler.now(), "coordinator {} leads no more", index_);
  world_.counters.count(Sometimes::deposed);
  machine_.reset();
  ++machines_;
  tick_at_ = INT64_MAX;
  for (const Network::ConnId id : conns_) world_.network.close_by_coordinator(id);
  conns_.clear();
}

protocol::Env CoordinatorHost::env() { return {world_.scheduler.now() / 1000, world_.random.id()}; }

void CoordinatorHost::opened(Network::ConnId id) {
  conns_.insert(id);
  event(Machine::Opened{id, "10.0.0.1"});
}

void CoordinatorHost::closed(Network::ConnId id, const std::string& why) {
  if (conns_.erase(id) == 0) return;
  const Peer& peer = *world_.peers[world_.network.peer_of(id)];
  if (peer.is_member() && sealing_[peer.group()]) world_.counters.count(Sometimes::lost_while_sealed);
  event(Machine::Closed{id, why});
}

void CoordinatorHost::tick() { event(Machine::Tick{}); }

void CoordinatorHost::received(Network::ConnId id, const wire::Message& message) {
  if (!conns_.contains(id)) return;
  const Peer& peer = *world_.peers[world_.network.peer_of(id)];
  if (!machine_) {
    world_.network.send_to_peer(
        id, wire::Refuse{{}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), "another coordinator leads"});
    world_.network.close_by_coordinator(id);
    conns_.erase(id);
    return;
  }
  world_.faults.at_message(*this, message);
  if (std::holds_alternative<wire::Join>(message) && sealing_[peer.group()]) {
    world_.counters.count(Sometimes::join_while_sealed);
  }
  if (const auto* reply = std::get_if<wire::SealReply>(&message)) {
    if (!reply->accepted.empty()) world_.counters.count(Sometimes::accepted_reported);
  }
  event(Machine::Received{id, message});
  if (std::holds_alternative<wire::Accept>(message)) {
    auto& accepts = accepts_[peer.group()];
    accepts.insert(peer.id());
    world_.faults.at_accept(*this, peer.group(), accepts.size());
  }
}

void CoordinatorHost::event(const Machine::Event& event) {
  if (!world_.scheduler.alive(actor_) || !machine_) return;
  std::vector<Machine::Action> actions;
  machine_->step(event, env(), actions);
  // A view may be decided upon of which nobody is there to hear.
  for (auto it = wanted_.begin(); it != wanted_.end();) {
    const wire::View* view = machine_->view(it->first);
    const bool current = view != nullptr && *view == it->second.view;
    if (current && view->members.empty()) world_.checker.announced(index_, it->first, it->second);
    it = current ? wanted_.erase(it) : std::next(it);
  }
  for (auto& action : actions) {
    if (crash_in_ && (*crash_in_)-- == 0) {
      world_.counters.count(Sometimes::crash_between_actions);
      return world_.faults.coordinator_dies(*this);
    }
    if (!perform(action)) return;
  }
  retime();
}

bool CoordinatorHost::perform(Machine::Action& action) {
  if (auto* send = std::get_if<Machine::Send>(&action)) {
    this->send(*send);
  } else if (const auto* close = std::get_if<Machine::Close>(&action)) {
    world_.network.close_by_coordinator(close->conn);
    conns_.erase(close->conn);
  } else if (const auto* persist = std::get_if<Machine::Persist>(&action)) {
    this->persist(*persist);
  } else if (const auto* note = std::get_if<Machine::Note>(&action)) {
    world_.trace.line(world_.scheduler.now(), "coordinator {}: {}", index_, note->text);
    if (note->text.find("unexpected") != std::string::npos || note->text.find("in use") != std::string::npos) {
      violation("the coordinator takes offence at an honest peer: {}", note->text);
    }
    if (note->text.starts_with("removing rank")) {
      const std::size_t name = note->text.find('(') + 1;
      world_.checker.judged(*machine_, note->text.substr(name, note->text.find(')') - name));
    }
    if (note->text.find("traffic goes through others") != std::string::npos) {
      world_.counters.count(Sometimes::pair_served);
    }
    if (note->text.find("took over view") != std::string::npos) world_.counters.count(Sometimes::recovered);
  }
  return world_.scheduler.alive(actor_) && machine_;
}

void CoordinatorHost::send(Machine::Send& send) {
  const Peer& peer = *world_.peers[world_.network.peer_of(send.conn)];
  const std::uint32_t group = peer.group();
  if (std::holds_alternative<wire::Seal>(send.message)) sealing_[group] = true;
  if (const auto* install = std::get_if<wire::Install>(&send.message)) {
    if (install->sealed) sealing_[group] = false;
    world_.checker.announced(index_, group, *install);
    std::size_t leaders = 0;
    for (const auto& host : world_.coordinators) {
      if (world_.scheduler.alive(host->actor()) && host->machine() != nullptr && host->machine()->leads(group)) {
        ++leaders;
      }
    }
    if (leaders > 1) world_.counters.count(Sometimes::two_coordinators);
  }
  if (const auto* propose = std::get_if<wire::Propose>(&send.message)) {
    world_.checker.proposed(group, propose->install);
  }
  if (const auto* refuse = std::get_if<wire::Refuse>(&send.message)) {
    if (refuse->text.find("no majority") != std::string::npos) world_.counters.count(Sometimes::minority);
  }
  world_.faults.at_message(*this, send.message);
  world_.network.send_to_peer(send.conn, std::move(send.message));
}

void CoordinatorHost::persist(const Machine::Persist& persist) {
  const Settings& s = world_.settings;
  const wire::View& view = persist.install.view;
  Address& address = world_.addresses[address_];
  const Micros now = world_.scheduler.now();
  world_.trace.line(now, "coordinator {} wants view {} of group {}: {} members, {} outcomes, term {}.{:x}", index_,
                    view.number, persist.group, view.members.size(), persist.install.outcomes.size(),
                    persist.install.term.count, persist.install.term.instance & 0xffff);
  world_.checker.ordered(persist.install);
  accepts_[persist.group].clear();
  wanted_[persist.group] = persist.install;
  Random& random = world_.random;
  const bool arbiter = s.group_rule() == wire::Rule::arbiter;
  const bool stored = s.log || arbiter;
  Micros delay = stored && s.persist != 0 ? random.range(1, 2 * s.persist) : 0;
  if (stored && delay == 0) delay = 1;
  const std::uint64_t machine = machines_;
  if (s.log && now < address.log_fails_until) {
    world_.scheduler.after(delay, actor_, [this, machine, group = persist.group, install = persist.install] {
      if (machine != machines_) return;
      world_.counters.count(Sometimes::persist_failed);
      if (install.sealed) world_.counters.count(Sometimes::persist_failed_in_change);
      if (world_.random.chance(0.5)) {
        world_.addresses[address_].left_behind = {group, install};
        // Before anything else is written, as often as not: of interest is a newcomer's view, which is given up.
        if (!install.sealed && world_.random.chance(0.7)) {
          const Micros soon = world_.random.range(1, 2 * world_.settings.timeout());
          world_.scheduler.after(soon, actor_, [this, machine] {
            if (machine == machines_) world_.faults.coordinator_dies(*this);
          });
        }
      }
      event(Machine::PersistFailed{group, install.view.number, "the disk is full"});
    });
    return;
  }
  if (crash_at_persist_) {
    crash_at_persist_ = false;
    world_.counters.count(Sometimes::crash_at_persist);
    if (random.chance(0.5)) persisted(persist.group, persist.install);  // it is on the disk, but nobody heard so
    return world_.faults.coordinator_dies(*this);
  }
  // Without a store the answer comes before anything else.
  if (!stored) {
    return world_.scheduler.after(0, actor_, [this, machine, group = persist.group, number = view.number] {
      if (machine == machines_) event(Machine::Persisted{group, number});
    });
  }
  world_.scheduler.after(delay, actor_, [this, machine, group = persist.group, install = persist.install] {
    if (machine != machines_) return;
    if (world_.settings.group_rule() == wire::Rule::arbiter && world_.arbiter.leader != index_) return depose();
    persisted(group, install);
    event(Machine::Persisted{group, install.view.number});
  });
}

void CoordinatorHost::persisted(std::uint32_t group, const wire::Install& install) {
  if (world_.settings.group_rule() == wire::Rule::arbiter) {
    if (world_.arbiter.leader == index_) world_.arbiter.views[group] = install;
  } else if (world_.settings.log) {
    Address& address = world_.addresses[address_];
    address.left_behind.reset();  // the next record takes its place
    address.log.emplace_back(group, install);
    if (address_ == 0) world_.checker.logged(install);
  }
}

void CoordinatorHost::retime() {
  const auto due = machine_->next_deadline();
  const Micros when = due ? std::max(*due * 1000, world_.scheduler.now()) : INT64_MAX;
  if (when == tick_at_) return;
  tick_at_ = when;
  if (when == INT64_MAX) return;
  world_.scheduler.at(when, actor_, [this, when] {
    if (tick_at_ != when) return;
    tick_at_ = INT64_MAX;
    event(Machine::Tick{});
  });
}

bool CoordinatorHost::leads_any() const {
  for (std::uint32_t group = 0; machine_ && group < world_.settings.groups; ++group) {
    if (machine_->leads(group)) return true;
  }
  return false;
}

// -------------------------------------------------------------------------------------------------------------- world

World::World(const Settings& s, Counters& c, bool print)
    : settings(s), counters(c), random(s.seed ^ 0x5eed), trace(print), network(*this), checker(*this), faults(*this) {}

bool World::any_coordinator() const {
  return std::any_of(addresses.begin(), addresses.end(), [&](const Address& a) { return a.host.has_value(); });
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
    if (network.is_cut_off(place_of(*peers.back()))) peers.back()->disturb();
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
  peer.disturb();
  scheduler.kill(peer.actor());
  network.gone(peer.index(), peer.conn(), false);
  Slot& slot = slot_of(peer);
  slot.peer.reset();
  slot.wanted = code != Code::OK || random.chance(0.5);
  if (slot.wanted) start_slot(slot, random.range(1, settings.timeout() / 2));
}

void World::start_coordinator(std::uint32_t address) {
  const auto index = static_cast<std::uint32_t>(coordinators.size());
  trace.line(scheduler.now(), "coordinator {} starts at address {}", index, address);
  coordinators.push_back(std::make_unique<CoordinatorHost>(*this, index, address));
  addresses[address].host = index;
  network.coordinator_back(address);
  coordinators.back()->begin();
}

void World::crash_coordinator(std::uint32_t address) {
  if (!addresses[address].host) return;
  const std::uint32_t index = *addresses[address].host;
  trace.line(scheduler.now(), "coordinator {} dies", index);
  addresses[address].host.reset();
  scheduler.kill(coordinators[index]->actor());
  network.coordinator_gone(index);
  for (const auto& peer : peers) peer->coordinator_lost();
}

void World::restart_coordinator(std::uint32_t address, Memory memory, Micros delay) {
  Address& place = addresses[address];
  auto& log = place.log;
  if (place.left_behind) {
    counters.count(Sometimes::failed_record_found);
    log.push_back(*std::exchange(place.left_behind, std::nullopt));
    checker.found_again(log.back().second);
  }
  const std::size_t before = log.size();
  if (memory == Memory::none) log.clear();
  if (memory == Memory::older) log.resize(log.size() - std::min<std::size_t>(log.size(), 1 + random.index(3)));
  if (address == 0 && log.size() != before) checker.log_lost();
  const bool forgets = settings.group_rule() == wire::Rule::alone && (!settings.log || log.size() != before);
  if (forgets) {
    counters.count(Sometimes::memory_lost);
    checker.memory_lost(memory == Memory::older);
    for (const auto& peer : peers) peer->disturb();  // some other group may be formed before its members come back
  }
  place.restarting = true;
  scheduler.after(delay, nature, [this, address] {
    addresses[address].restarting = false;
    if (!addresses[address].host) start_coordinator(address);
  });
}

void World::formed(LineageIndex lineage, std::uint32_t group, std::uint64_t view) {
  for (const auto& known : formations_) {
    if (known->lineage == lineage && known->formed == view) return;
  }
  auto formation = std::make_shared<Formation>();
  formation->lineage = lineage;
  formation->group = group;
  formation->formed = view;
  formation->program = std::make_shared<Program>(settings, settings.seed * 31 + group);
  if (settled) formation->limit = formation->program->round_end(0);
  if (view > 1) counters.count(Sometimes::reformed);
  formations_.push_back(std::move(formation));
}

bool World::has_formation(LineageIndex lineage, std::uint64_t view) const {
  return std::any_of(formations_.begin(), formations_.end(),
                     [&](const auto& known) { return known->lineage == lineage && known->formed <= view; });
}

std::shared_ptr<Formation> World::formation(LineageIndex lineage, std::uint64_t view) {
  std::shared_ptr<Formation> best;
  for (const auto& known : formations_) {
    if (known->lineage != lineage || known->formed > view) continue;
    if (!best || known->formed > best->formed) best = known;
  }
  if (!best) violation("view {} belongs to no formation", view);
  return best;
}

bool World::is_helpless(std::uint32_t group) const {
  if (settings.group_rule() == wire::Rule::quorum && checker.group_lacks_majority(group)) return true;
  if (settings.group_rule() == wire::Rule::alone && checker.group_is_stranded(group)) return true;
  return is_occupied(group);
}

// A coordinator needs a majority for what it knows: the group may have ended without its knowledge, or it has learnt
// the view from members and needs them once more.
bool World::is_occupied(std::uint32_t group) const {
  return std::any_of(addresses.begin(), addresses.end(), [&](const Address& address) {
    if (!address.host || coordinators[*address.host]->machine() == nullptr) return false;
    const protocol::Coordinator& machine = *coordinators[*address.host]->machine();
    const wire::View* view = machine.view(group);
    return view != nullptr && view->number != 0 && !machine.leads(group) && !checker.has_majority(*view);
  });
}

bool World::is_excused(std::uint32_t group) const {
  return !any_coordinator() || is_helpless(group) || checker.is_outside(group);
}

const wire::View* World::led_view(const Peer& peer) const {
  for (const Address& address : addresses) {
    if (!address.host || coordinators[*address.host]->machine() == nullptr) continue;
    const protocol::Coordinator& machine = *coordinators[*address.host]->machine();
    if (!machine.leads(peer.group())) continue;
    const wire::View* view = machine.view(peer.group());
    if (view->lineage == peer.machine().view().lineage) return view;
  }
  return nullptr;
}

// What has become of other members of the group, those of another lineage, is no excuse.
bool World::is_excused(const Peer& peer) const {
  if (!peer.is_member()) return is_excused(peer.group());
  if (!any_coordinator() || checker.is_outside(peer.group())) return true;
  if (settings.group_rule() == wire::Rule::quorum && checker.lacks_majority(peer.lineage())) return true;
  if (settings.group_rule() == wire::Rule::alone && checker.is_stranded(peer.lineage())) return true;
  return led_view(peer) == nullptr && is_occupied(peer.group());
}

void World::data_started(Peer& peer, const wire::OpKey& key, std::uint64_t epoch, const wire::OpParams& params,
                         const std::vector<PeerId>& participants) {
  Attempt& attempt = attempts_[{OpId{peer.lineage(), key}, epoch}];
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
      // Where there is no strand it waits for one among the other frames, and may go by way of a third.
      if (!network.is_up(from, to) && network.send(from, to, Frame{Frame::Kind::data, epoch, key, {}, {}})) return;
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
    if (!slot.wanted || (slot.peer ? is_excused(*peers[*slot.peer]) : is_excused(slot.group))) continue;
    if (!slot.peer) {
      text += fmt::format("g{}s{} is empty; ", slot.group, slot.number);
      continue;
    }
    const Peer& peer = *peers[*slot.peer];
    if (!peer.is_member()) {
      text += peer.describe() + "; ";
      continue;
    }
    const auto& members = peer.machine().view().members;
    const bool whole = std::all_of(members.begin(), members.end(),
                                   [&](const auto& m) { return scheduler.alive(this->peer(m.peer.id).actor()); });
    if (!whole) text += fmt::format("the view of {} has members that are dead; ", peer.name());
    if (const wire::View* led = led_view(peer); led != nullptr && !led->contains(peer.id())) {
      text += fmt::format("{} does not know that it was removed; ", peer.name());
    }
  }
  return text;
}

std::string World::unfinished() const {
  std::string text;
  for (const auto& peer : peers) {
    if (!scheduler.alive(peer->actor())) continue;
    // What is left of a lineage without its majority can only wait, also where others have formed the group anew.
    if (is_excused(*peer) && peer->open_calls() == 0) continue;
    // When the rest of such a group gives up another one may be formed, whose members already stand at the end.
    if (!peer->is_member() && unsettled_.contains(peer->group())) continue;
    if (!peer->is_finished()) text += peer->describe() + "; ";
  }
  return text;
}

// Nothing bad happens any more.
void World::become_quiet() {
  trace.line(scheduler.now(), "QUIET");
  quiet = true;
  faults.stop();
  network.heal();
  for (std::uint32_t address = 0; address < addresses.size(); ++address) {
    Address& place = addresses[address];
    place.log_fails_until = 0;
    if (!place.host && !place.restarting && !place.given_up) {
      restart_coordinator(address, settings.log ? Memory::intact : Memory::none, random.range(0, settings.timeout()));
    }
  }
  for (Slot& slot : slots) {
    if (slot.wanted && !slot.peer) start_slot(slot, random.range(0, settings.timeout()));
  }
}

void World::run() {
  addresses.resize(settings.coordinators);
  for (std::uint32_t group = 0; group < settings.groups; ++group) {
    for (std::uint32_t number = 0; number < settings.peers; ++number) slots.push_back(Slot{group, number, {}, false});
  }
  for (std::uint32_t address = 0; address < settings.coordinators; ++address) start_coordinator(address);
  if (settings.groups > 1) counters.count(Sometimes::other_group);
  for (Slot& slot : slots) {
    slot.wanted = slot.number < settings.peers_first;
    if (slot.wanted) start_slot(slot, random.range(0, settings.timeout() / 4));
  }
  faults.schedule();
  run_until(settings.fault_time);

  // Everyone who lives must become a member and stay one.
  become_quiet();
  // Where a word takes a tenth of the timeout members are often sent on before all have answered.
  const bool slow = 20 * settings.control_delay > settings.timeout();
  const Micros patience = (slow ? 80 : 40) * settings.timeout();
  const Micros settled_by = scheduler.now() + patience;
  const Micros step = settings.timeout() / 2;
  // Long enough for every pause to end and every silence to be noticed.
  run_until(scheduler.now() + 6 * settings.timeout());
  while (!unsettled().empty()) {
    if (scheduler.now() > settled_by) violation("not everyone who lives is a member: {}", unsettled());
    run_until(scheduler.now() + step);
  }

  // Everyone stops at the same place of the program, and then nothing may be open.
  trace.line(scheduler.now(), "LAST ROUND");
  settled = true;
  settled_at = scheduler.now();
  for (std::uint32_t group = 0; group < settings.groups; ++group) {
    if (is_excused(group)) unsettled_.insert(group);
  }
  for (const auto& formation : formations_) {
    std::size_t newest = 0;
    for (const auto& peer : peers) {
      if (peer->formation() == formation) newest = std::max(newest, peer->position());
    }
    formation->limit = formation->program->round_end(newest);
  }
  for (const auto& peer : peers) {
    if (scheduler.alive(peer->actor()) && peer->formation()) {
      scheduler.after(0, peer->actor(), [p = peer.get()] { p->run_program(); });
    }
  }
  const Micros finished_by = scheduler.now() + patience;
  while (!unfinished().empty()) {
    if (scheduler.now() > finished_by) violation("somebody waits for ever: {}", unfinished());
    run_until(scheduler.now() + step);
  }
  for (const auto& peer : peers) {
    if (!scheduler.alive(peer->actor())) continue;
    checker.memory(*peer);
    const auto& members = peer->machine().view().members;
    if (std::any_of(members.begin(), members.end(), [&](const auto& member) {
          const Peer& other = this->peer(member.peer.id);
          return &other != peer.get() && scheduler.alive(other.actor()) && !network.is_up(peer->index(), other.index());
        })) {
      counters.count(Sometimes::served_for_good);
    }
  }
  for (std::uint32_t group = 0; group < settings.groups; ++group) {
    if (is_helpless(group)) counters.count(Sometimes::majority_gone);
    if (checker.is_outside(group)) counters.count(Sometimes::outside);
  }
}

}  // namespace hawser::sim
