// The parent of `hawser stress`: the coordinator (its own, or children), the peers, the faults, the verdict. One
// thread, one poll loop over the children's pipes and pidfds, a signalfd for Ctrl-C and a timeout for whatever is due
// next.
//
// Faults are drawn from the seed: who, and when within 0.5 to 1.5 times the period asked for. A fault that would leave
// fewer than two healthy members (one, when the run began with two) waits until there are more. Peers that were killed
// or have left are replaced once the survivors have recovered, unless --join-every brings newcomers anyway. Where views
// take the word of a majority (standbys, or a coordinator without a log), a fault also waits while it and those that
// the others have not absorbed yet would take half of the members away.
//
// What a fault explains is no error. A peer that was stopped, starved or cut off answers for nothing until it had time
// to learn what became of it; while ways are cut, or a peer is lost and no coordinator is there to say so, calls may
// end at their deadlines. A coordinator that is away explains nothing by itself.
//
// Recovery is the time from a kill until the last of the survivors has committed an operation without the victim. Kills
// during which a peer was stopped are left out of it, since waiting for a stopped peer is not recovering from a lost
// one.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "child.hpp"
#include "command.hpp"
#include "reference.hpp"
#include "stress.hpp"
#include "stress_cluster.hpp"
#include "stress_judge.hpp"
#include "stress_kill_points.hpp"
#include "stress_report.hpp"
#include "text.hpp"

namespace tool {
namespace {

constexpr std::uint64_t start_limit_ms = 60000;  // until all first peers are members
constexpr std::size_t complaints_shown = 20;     // of each kind; the rest are counted
constexpr std::uint64_t rounds_between_newcomers = 1000000;
constexpr std::uint64_t starve_period_ns = 100 * ns_per_ms;
constexpr std::uint64_t arm_limit_ns = 4000 * ns_per_ms;  // to come to a kill point

// ------------------------------------------------------------ the peers

enum class Phase {
  joining,  // started, or expelled and joining anew
  member,
  leaving,  // asked to leave
};

struct PeerProcess {
  std::uint32_t number = 0;  // unique in the run
  Child child;
  Descriptor reports;
  ReportStream stream;
  PeerPlace place;
  Phase phase = Phase::joining;
  bool is_newcomer = false;  // not one of the first
  bool has_committed = false;
  bool is_killed = false;  // its end by SIGKILL is ours
  bool is_stopped = false;
  bool is_starved = false;
  bool is_armed = false;    // will kill itself
  bool is_cut_off = false;  // ways from or to it are cut
  std::uint32_t id = 0;     // short id as member
  std::uint64_t resume_ns = never;
  std::uint64_t excused_until_ns = 0;     // what a peer does that was stopped, it need not answer for
  std::set<std::uint32_t> together = {};  // short ids: who took part in the last sync, so with whom it works

  // The call it is in, for the watchdog; none: it computes between calls.
  ReportCall call = ReportCall::none;
  std::uint64_t call_began_ns = 0;       // or when the last one returned
  std::uint64_t last_call_began_ns = 0;  // also after it has returned
  std::uint32_t call_deadline_ms = 0;
  std::uint64_t round = 0;
  std::uint32_t op = 0;

  [[nodiscard]] bool is_healthy() const {
    return phase == Phase::member && !is_stopped && !is_killed && !is_starved && !is_armed && !is_cut_off;
  }
  // Its place in the view may be about to change.
  [[nodiscard]] bool is_unsettled(std::uint64_t now) const {
    return !is_killed && (is_stopped || is_starved || is_armed || is_cut_off || phase == Phase::leaving ||
                          (excused_until_ns > now && phase == Phase::member));
  }
};

struct Kill {
  std::uint64_t time_ns = 0;
  std::uint32_t victim = 0;         // short id
  std::set<std::uint32_t> waiting;  // numbers of survivors that have not committed since
  double longest_ms = 0;
  bool is_measured = true;
};

struct Counters {
  std::uint64_t results = 0;
  std::uint64_t wrong = 0;
  std::uint64_t hangs = 0;
  std::uint64_t disagreements = 0;
  std::uint64_t crashes = 0;
  std::uint64_t errors = 0;
  std::uint64_t kills = 0;
  std::uint64_t stops = 0;
  std::uint64_t joins = 0;
  std::uint64_t leaves = 0;
  std::uint64_t coordinator_kills = 0;
  std::uint64_t coordinator_stops = 0;
  std::uint64_t strand_kills = 0;
  std::uint64_t cuts = 0;
  std::uint64_t starvations = 0;
  std::uint64_t expulsions = 0;
  std::uint64_t expulsions_unexplained = 0;
  std::uint64_t explained = 0;
  std::uint64_t repeats = 0;
  std::uint64_t reruns = 0;
  std::uint64_t reruns_unexplained = 0;
};

// When one sort of fault happens next.
struct Schedule {
  double every_s = 0;
  std::uint64_t due_ns = never;
};

// Ways between hosts of the network that are cut at the moment.
struct Cut {
  std::vector<std::pair<std::size_t, std::size_t>> ways;
  std::uint64_t heal_ns = never;
};

// One peer that gets little time on the processor: it is stopped and let go on in turn.
struct Starvation {
  PeerProcess* peer = nullptr;
  std::uint64_t end_ns = never;
  std::uint64_t next_ns = never;
  bool is_running = true;
};

// The process that was told to kill itself.
struct Armed {
  const KillPoint* point = nullptr;
  PeerProcess* peer = nullptr;  // or none: a coordinator
  CoordinatorProcess* coordinator = nullptr;
  std::uint64_t limit_ns = never;
};

ClusterNeeds needs_of(const StressOptions& options) {
  ClusterNeeds needs;
  const bool at_coordinator = std::any_of(options.kill_at.begin(), options.kill_at.end(), [](const KillAt& one) {
    const KillPoint* point = find_kill_point(one.name);
    return point != nullptr && point->role == KillRole::coordinator;
  });
  needs.network = options.cut_every > 0;
  needs.kill_files = !options.kill_at.empty();
  needs.processes = needs.network || at_coordinator || options.standbys > 0 || options.coordinator_kill_every > 0 ||
                    options.coordinator_stop_every > 0 || !options.coordinator_log.empty();
  needs.peers_max = std::min<std::size_t>(2 * std::size_t{options.spawn} + 2, stress_peers_max);
  return needs;
}

class SignalDescriptor {
 public:
  SignalDescriptor() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = Descriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_.is_open()) throw Failure(exit_resource, "no descriptor for signals");
  }
  [[nodiscard]] int get() const { return fd_.get(); }
  void drain() const {
    signalfd_siginfo info{};
    while (read(fd_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    }
  }

 private:
  Descriptor fd_;
};

class Supervisor {
 public:
  explicit Supervisor(const StressOptions& options)
      : options_(options),
        kills_{options.kill_every},
        stops_{options.stop_every},
        joins_{options.join_every},
        leaves_{options.leave_every},
        coordinator_kills_{options.coordinator_kill_every},
        coordinator_stops_{options.coordinator_stop_every},
        strand_kills_{options.strand_kill_every},
        cuts_{options.cut_every},
        starvations_{options.starve_every} {}

  int run() {
    start();
    while (!peers_.empty() || !is_ending_) {
      if (is_broken_) break;
      poll_once();
      act();
    }
    progress(true);
    print_summary();
    return verdict();
  }

 private:
  // ------------------------------------------------------------ start
  void start() {
    started_ns_ = monotonic_ns();
    note(fmt::format("seed {}, coordinator at {}", options_.seed, cluster_.addresses()));
    for (std::uint32_t i = 0; i < options_.spawn; ++i) start_peer(options_.spawn);
  }

  void start_peer(std::uint32_t min_size) {
    Pipe pipe = make_pipe();
    ChildRequest request;
    request.arguments = {"stress"};
    const auto add = [&](const char* name, const auto& value) {
      request.arguments.emplace_back(name);
      request.arguments.push_back(fmt::to_string(value));
    };
    add("--child", next_number_);
    add("--parent", getpid());
    add("--coordinator", cluster_.addresses());
    add("--min-size", min_size);
    add("--first-round", first_round());
    add("--seed", options_.seed);
    add("--max-bytes", options_.max_bytes);
    add("--op-timeout-ms", options_.op_timeout_ms);
    add("--strands", options_.strands);
    add("--io-threads", options_.io_threads);
    add("--transport", options_.transport);
    add("--cancel-percent", options_.cancel_percent);
    add("--corrupt-round", options_.corrupt_round);
    if (options_.placement != Placement::any)
      add("--placement", options_.placement == Placement::in_place ? "in-place" : "out-of-place");
    request.report_end = pipe.write_end.get();
    request.stdout_is_stderr = true;
    request.holds_sigterm = true;
    const PeerPlace place = cluster_.take_place();
    if (is_newcomer_due_) Cluster::arm(place.kill_file, armed_->point->name, passage_);
    auto peer = std::make_unique<PeerProcess>(
        PeerProcess{next_number_, cluster_.start_peer(request, place), std::move(pipe.read_end), {}, place});
    if (is_newcomer_due_) {
      peer->is_armed = true;
      armed_->peer = peer.get();
    }
    peer->is_newcomer = have_all_joined_;
    peer->call_began_ns = monotonic_ns();
    ++next_number_;
    peers_.push_back(std::move(peer));
  }

  // A newcomer whose group dies before it has told it its number goes on from here: with rounds that nobody had.
  std::uint64_t first_round() {
    if (!have_all_joined_) return 0;
    first_round_ = std::max(first_round_, judge_.last_round()) + rounds_between_newcomers;
    return first_round_;
  }

  // ------------------------------------------------------------ poll
  void poll_once() {
    std::vector<pollfd> polled;
    polled.push_back({signals_.get(), POLLIN, 0});
    for (const auto& peer : peers_) {
      polled.push_back({peer->reports.get(), POLLIN, 0});
      polled.push_back({peer->child.pidfd(), POLLIN, 0});
    }
    for (const CoordinatorProcess& one : cluster_.coordinators())
      polled.push_back({one.child ? one.child->pidfd() : -1, POLLIN, 0});
    const std::uint64_t now = monotonic_ns();
    const std::uint64_t due = next_due();
    const std::uint64_t wait_ms =
        due <= now ? 0 : std::min<std::uint64_t>((due - now + ns_per_ms - 1) / ns_per_ms, 1000);
    if (poll(polled.data(), polled.size(), static_cast<int>(wait_ms)) < 0 && errno != EINTR) {
      throw Failure(exit_resource, "poll failed");
    }
    if ((polled.front().revents & POLLIN) != 0) {
      signals_.drain();
      // The second time, or while a hung process is kept, there is nothing left to wait for.
      if (is_ending_ || is_frozen_) is_broken_ = true;
      note("interrupted");
      end_run();
    }
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      if (polled[1 + 2 * i].revents != 0) read_reports(*peers_[i]);
    }
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      if (polled[2 + 2 * i].revents == 0) continue;
      if (const auto status = peers_[i]->child.reap()) {
        read_reports(*peers_[i]);  // what was written before the end
        on_end(*peers_[i], *status);
        cluster_.give_place_back(peers_[i]->place);
      }
    }
    for (CoordinatorProcess& one : cluster_.coordinators()) {
      if (!one.child) continue;
      if (const auto status = one.child->reap()) on_coordinator_end(one, *status);
    }
    std::erase_if(peers_, [](const auto& peer) { return peer->child.has_ended(); });
  }

  void read_reports(PeerProcess& peer) {
    std::array<std::byte, 65536> buffer;
    while (true) {
      const ssize_t got = read(peer.reports.get(), buffer.data(), buffer.size());
      if (got <= 0) break;
      peer.stream.append(buffer.data(), static_cast<std::size_t>(got));
      bool is_broken = false;
      while (const auto report = peer.stream.next(is_broken)) on_report(peer, *report);
      if (is_broken) {
        complain("crash", counters_.crashes, fmt::format("peer {} sends no valid reports", peer.number));
        peer.is_killed = true;
        peer.child.send_signal(SIGKILL);
        break;
      }
      if (static_cast<std::size_t>(got) < buffer.size()) break;
    }
  }

  void on_end(PeerProcess& peer, int status) {
    forget_in_kills(peer, false);
    if (starvation_ && starvation_->peer == &peer) starvation_.reset();
    if (peer.is_armed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return on_point_hit(peer);
    if (armed_ && armed_->peer == &peer) armed_.reset();
    if (peer.is_killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return;
    if (peer.phase == Phase::leaving && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      if (!is_ending_) ++counters_.leaves;
      return;
    }
    complain(
        "crash", counters_.crashes,
        fmt::format("peer {} (pid {}) {} in {}", peer.number, peer.child.pid(), describe_end(status), where(peer)));
    if (!have_all_joined_) {
      is_broken_ = true;
      if (WIFEXITED(status) && WEXITSTATUS(status) == exit_no_coordinator) start_failure_ = exit_no_coordinator;
    }
  }

  // ------------------------------------------------------------ reports
  void on_report(PeerProcess& peer, const Report& report) {
    peer.round = report.round;
    peer.op = report.op;
    switch (report.kind) {
      case ReportKind::begin:
        peer.call = report.call;
        peer.call_began_ns = peer.last_call_began_ns = report.time_ns;
        peer.call_deadline_ms = report.deadline_ms;
        return;
      case ReportKind::end:
        on_returned(peer, report);
        return;
      case ReportKind::result:
        on_returned(peer, report);
        on_result(peer, report);
        return;
      case ReportKind::repeat:
        on_returned(peer, report);
        ++counters_.repeats;
        return;
      case ReportKind::joined:
        peer.id = report.participants[0];
        if (peer.phase == Phase::joining) peer.phase = Phase::member;
        if (have_all_joined_) ++counters_.joins;
        return;
      case ReportKind::expelled:
        ++counters_.expulsions;
        if (!is_excused(peer, report.time_ns)) {
          ++counters_.expulsions_unexplained;
          note(fmt::format("peer {} was expelled, and no fault of this run explains it", peer.number));
        }
        if (peer.phase == Phase::member) peer.phase = Phase::joining;
        forget_in_kills(peer, false);
        return;
      case ReportKind::error:
        if (is_explained(peer, report)) {
          if (++counters_.explained <= complaints_shown && !options_.quiet)
            note(fmt::format("explained by a fault: peer {} in {}: {}", peer.number, where(peer), report.text.data()));
          return;
        }
        ++errors_by_status_[hawser_status_name(static_cast<hawser_status_t>(report.status))];
        complain("error", counters_.errors,
                 fmt::format("peer {} in {}: {}", peer.number, where(peer), report.text.data()));
        return;
      case ReportKind::damage:
        counters_.wrong += report.wrong - 1;  // complain counts one
        complain("wrong", counters_.wrong,
                 fmt::format("peer {} in {}: {}", peer.number, where(peer), report.text.data()));
        return;
    }
  }

  void on_returned(PeerProcess& peer, const Report& report) {
    peer.call = ReportCall::none;
    peer.call_began_ns = report.time_ns;
    const std::uint64_t limit_us = (std::uint64_t{report.deadline_ms} + slack_ms()) * 1000;
    if (report.duration_us > limit_us && !is_excused(peer, report.time_ns)) {
      complain("hang", counters_.hangs,
               fmt::format("peer {} was {} ms in {}, whose deadline is {} ms", peer.number, report.duration_us / 1000,
                           where(peer), report.deadline_ms));
    }
  }

  void on_result(PeerProcess& peer, const Report& report) {
    ++counters_.results;
    // Leaves cost the others reruns: those of the end are not what the run is about.
    if (report.attempts > 1 && !is_ending_) {
      counters_.reruns += report.attempts - 1;
      if (is_rerun_for_nothing(peer, report)) ++counters_.reruns_unexplained;
    }
    if (report.call == ReportCall::sync) {
      peer.has_committed = true;
      const auto members = report.members();
      peer.together = {members.begin(), members.end()};
    }
    Outcome outcome;
    outcome.peer = peer.number;
    outcome.round = report.round;
    outcome.op = report.op;
    outcome.status = static_cast<hawser_status_t>(report.status);
    outcome.digest = report.digest;
    outcome.identity_digest = report.identity_digest;
    outcome.participants.assign(report.members().begin(), report.members().end());
    if (report.call == ReportCall::sync) {
      outcome.id = peer.id;
      outcome.ended_ns = report.time_ns;
      outcome.began_ns = report.time_ns - report.duration_us * 1000;
    }
    if (const auto contradiction = judge_.add(outcome))
      complain("disagreement", counters_.disagreements, *contradiction);
    if (outcome.status == HAWSER_OK) on_committed(peer, report);
  }

  // ------------------------------------------------------------ recoveries
  // An operation begins again without those who are gone; one that all took part in who did before began again for
  // nothing. Somebody who comes and goes before the first sync is missed by nobody here, so what follows soon after
  // that is left out.
  [[nodiscard]] bool is_rerun_for_nothing(const PeerProcess& peer, const Report& report) const {
    if (report.participant_count == 0 || peer.together.empty() || report.time_ns <= fleeting_until_ns_) return false;
    const auto members = report.members();
    return std::all_of(peer.together.begin(), peer.together.end(), [&](std::uint32_t id) {
      return std::find(members.begin(), members.end(), id) != members.end();
    });
  }

  // A peer is about to be taken away.
  void note_fleeting(const PeerProcess& peer) {
    if (!peer.has_committed) fleeting_until_ns_ = std::max(fleeting_until_ns_, monotonic_ns() + timeouts_ns(3));
  }

  void on_committed(PeerProcess& peer, const Report& report) {
    last_commit_ns_ = std::max(last_commit_ns_, report.time_ns);
    if (report.participant_count == 0) return;  // a sync of shared state does not say who took part
    for (Kill& kill : pending_kills_) {
      const auto members = report.members();
      if (std::find(members.begin(), members.end(), kill.victim) != members.end()) continue;
      if (report.time_ns < kill.time_ns || kill.waiting.erase(peer.number) == 0) continue;
      kill.longest_ms = std::max(kill.longest_ms, static_cast<double>(report.time_ns - kill.time_ns) / 1e6);
    }
    settle_kills();
  }

  void forget_in_kills(const PeerProcess& peer, bool spoils) {
    for (Kill& kill : pending_kills_) {
      kill.waiting.erase(peer.number);
      if (spoils) kill.is_measured = false;
    }
    settle_kills();
  }

  void settle_kills() {
    std::erase_if(pending_kills_, [&](const Kill& kill) {
      if (!kill.waiting.empty()) return false;
      if (kill.is_measured && kill.longest_ms > 0) recoveries_ms_.push_back(kill.longest_ms);
      return true;
    });
  }

  // ------------------------------------------------------------ actions
  void act() {
    if (is_frozen_) return;
    const std::uint64_t now = monotonic_ns();
    if (!have_all_joined_) wait_for_start(now);
    watch(now);
    if (is_frozen_) return;
    resume_stopped(now);
    mind_coordinators(now);
    mind_cut(now);
    mind_starvation(now);
    mind_armed(now);
    if (is_disturbed()) last_disturbed_ns_ = disturbed_ns_ = now;
    if (is_coordinator_away()) last_away_ns_ = now;
    if (have_all_joined_ && !is_ending_) {
      if (now >= time_to_end_ns()) {
        end_run();
      } else if (now < end_ns_) {
        cause_faults(now);
        replace_lost();
      }
    }
    if (now >= progress_ns_) progress(false);
  }

  void wait_for_start(std::uint64_t now) {
    const auto is_member = [](const auto& peer) { return peer->phase == Phase::member; };
    if (!is_ending_ && peers_.size() == options_.spawn && std::all_of(peers_.begin(), peers_.end(), is_member)) {
      have_all_joined_ = true;
      end_ns_ = now + static_cast<std::uint64_t>(options_.seconds * 1e9);
      for (Schedule* schedule : all_schedules()) schedule_next(*schedule, now);
      return;
    }
    if (now - started_ns_ > start_limit_ms * ns_per_ms && !is_ending_) {
      note(fmt::format("the {} first peers did not all become members in {} s", options_.spawn, start_limit_ms / 1000));
      start_failure_ = exit_no_coordinator;
      is_broken_ = true;
    }
  }

  // Calls that outlast their deadline, and children that make none.
  void watch(std::uint64_t now) {
    for (const auto& peer : peers_) {
      if (peer->is_stopped || peer->is_killed || peer->is_starved) continue;
      const std::uint64_t limit_ms = std::uint64_t{peer->call_deadline_ms} * (peer->call != ReportCall::none) +
                                     slack_ms() + (peer->round == 0 ? start_limit_ms : 0);
      if (now < peer->call_began_ns || now - peer->call_began_ns <= limit_ms * ns_per_ms) continue;
      complain("hang", counters_.hangs,
               fmt::format("peer {} (pid {}) has been silent for {} ms in {}", peer->number, peer->child.pid(),
                           (now - peer->call_began_ns) / ns_per_ms, where(*peer)));
      if (options_.keep_hung) {
        is_frozen_ = true;
        note(
            fmt::format("everything stays as it is for a debugger: gdb -p {}; Ctrl-C ends the run", peer->child.pid()));
        return;
      }
      kill_now(*peer);
    }
    watch_progress(now);
  }

  // Calls that each keep their deadline and yet get nothing done, as members do that wait for one another in different
  // calls.
  void watch_progress(std::uint64_t now) {
    // Members at an admission point stand there until a coordinator lets them go.
    if (!have_all_joined_ || healthy().empty() || starvation_ || cut_ || is_coordinator_away()) {
      last_commit_ns_ = now;
      return;
    }
    const std::uint64_t limit_ms = std::uint64_t{3} * options_.peer_timeout_ms + options_.hang_bound_ms;
    if (now < last_commit_ns_ || now - last_commit_ns_ <= limit_ms * ns_per_ms) return;
    last_commit_ns_ = now;
    std::string places;
    for (const auto& peer : peers_) {
      places += fmt::format("{}peer {} (pid {}) {}", places.empty() ? "" : "; ", peer->number, peer->child.pid(),
                            where(*peer));
    }
    complain("hang", counters_.hangs, fmt::format("nothing has been committed for {} ms: {}", limit_ms, places));
    if (!options_.keep_hung) return;
    is_frozen_ = true;
    note("everything stays as it is for a debugger; Ctrl-C ends the run");
  }

  void kill_now(PeerProcess& peer) {
    peer.is_killed = true;
    forget_in_kills(peer, false);
    peer.child.send_signal(SIGKILL);
  }

  void resume_stopped(std::uint64_t now) {
    for (const auto& peer : peers_) {
      if (peer->is_stopped && now >= peer->resume_ns) resume(*peer);
    }
  }

  void resume(PeerProcess& peer) {
    peer.is_stopped = false;
    peer.resume_ns = never;
    peer.call_began_ns = monotonic_ns();
    excuse(peer);
    peer.child.send_signal(SIGCONT);
  }

  [[nodiscard]] std::vector<PeerProcess*> healthy() const {
    std::vector<PeerProcess*> list;
    for (const auto& peer : peers_) {
      if (peer->is_healthy()) list.push_back(peer.get());
    }
    return list;
  }

  // A peer that may be taken away, or nothing while too few would be left.
  PeerProcess* draw_victim() {
    const std::vector<PeerProcess*> candidates = healthy();
    // The armed one is no candidate and yet there, as far as that matters.
    const std::size_t present = candidates.size() + (armed_ && armed_->peer != nullptr && !takes_majority() ? 1 : 0);
    const std::size_t stay = options_.spawn <= 2 ? 1 : 2;
    if (candidates.empty() || present <= stay) return nullptr;
    const std::size_t lost = unsettled() + 1;
    if (takes_majority() && 2 * lost >= candidates.size() + lost - 1) return nullptr;
    return candidates[draw() % candidates.size()];
  }

  void cause_faults(std::uint64_t now) {
    if (now >= kills_.due_ns) {
      if (PeerProcess* victim = draw_victim()) {
        schedule_next(kills_, now);
        kill_victim(*victim);
      }
    }
    if (now >= stops_.due_ns) {
      if (PeerProcess* victim = draw_victim()) {
        schedule_next(stops_, now);
        stop_victim(*victim);
      }
    }
    if (now >= leaves_.due_ns) {
      if (PeerProcess* victim = draw_victim()) {
        schedule_next(leaves_, now);
        forget_in_kills(*victim, false);
        ask_to_leave(*victim);
      }
    }
    if (now >= joins_.due_ns) {
      schedule_next(joins_, now);
      if (peers_.size() < most_peers()) start_peer(1);
    }
    cause_other_faults(now);
  }

  void cause_other_faults(std::uint64_t now) {
    if (now >= coordinator_kills_.due_ns) {
      if (CoordinatorProcess* victim = draw_coordinator()) {
        schedule_next(coordinator_kills_, now);
        kill_coordinator(*victim);
      }
    }
    if (now >= coordinator_stops_.due_ns) {
      if (CoordinatorProcess* victim = draw_coordinator()) {
        schedule_next(coordinator_stops_, now);
        ++counters_.coordinator_stops;
        victim->is_stopped = true;
        victim->resume_ns = now + timeouts_ns(3 * draw_unit());
        victim->child->send_signal(SIGSTOP);
      }
    }
    if (now >= strand_kills_.due_ns) {
      schedule_next(strand_kills_, now);
      kill_strand();
    }
    if (now >= cuts_.due_ns && !cut_) {
      schedule_next(cuts_, now);
      make_cut();
    }
    if (now >= starvations_.due_ns && !starvation_) {
      if (PeerProcess* victim = draw_victim()) {
        schedule_next(starvations_, now);
        ++counters_.starvations;
        victim->is_starved = true;
        victim->excused_until_ns = never;
        forget_in_kills(*victim, true);
        starvation_ = Starvation{victim, now + timeouts_ns(1 + 2 * draw_unit()), now, true};
      }
    }
    if (!armed_ && now >= next_arm_ns_) arm_next(now);
  }

  // ------------------------------------------------------------ coordinators
  CoordinatorProcess* draw_coordinator() {
    std::vector<CoordinatorProcess*> candidates;
    for (CoordinatorProcess& one : cluster_.coordinators()) {
      if (one.is_up() && !(armed_ && armed_->coordinator == &one)) candidates.push_back(&one);
    }
    return candidates.empty() ? nullptr : candidates[draw() % candidates.size()];
  }

  static void kill_coordinator(CoordinatorProcess& victim) {
    victim.is_killed = true;
    victim.child->send_signal(SIGKILL);
  }

  // It comes back on its port after a while.
  void on_coordinator_end(CoordinatorProcess& one, int status) {
    const bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    const bool is_armed = armed_ && armed_->coordinator == &one;
    if (!was_killed || (!one.is_killed && !is_armed)) {
      complain("crash", counters_.crashes,
               fmt::format("the coordinator at {} (pid {}) {}", one.address, one.child->pid(), describe_end(status)));
    }
    ++counters_.coordinator_kills;
    if (is_armed) {
      if (was_killed) ++hits_[std::string(armed_->point->name)];
      Cluster::disarm(one.kill_file);
      settle_arming(was_killed);
    }
    one.child.reset();
    one.is_stopped = false;
    one.resume_ns = never;
    const double longest_s = is_armed ? 0.2 : 1.5;
    one.restart_ns = monotonic_ns() + static_cast<std::uint64_t>(longest_s * draw_unit() * 1e9);
  }

  void mind_coordinators(std::uint64_t now) {
    for (CoordinatorProcess& one : cluster_.coordinators()) {
      if (one.is_stopped && one.child && now >= one.resume_ns) {
        one.is_stopped = false;
        one.resume_ns = never;
        one.child->send_signal(SIGCONT);
      }
      if (!one.child && (now >= one.restart_ns || is_ending_)) cluster_.start_coordinator(one);
    }
  }

  [[nodiscard]] bool is_coordinator_away() const {
    const auto& all = cluster_.coordinators();
    return std::any_of(all.begin(), all.end(), [](const CoordinatorProcess& one) { return !one.is_up(); });
  }

  // ------------------------------------------------------------ connections
  void kill_strand() {
    const auto drawn = [this] { return static_cast<std::size_t>(draw()); };
    std::optional<std::string> closed;
    if (const Network* network = cluster_.network()) {
      const std::vector<PeerProcess*> candidates = healthy();
      if (candidates.empty()) return;
      const PeerProcess& victim = *candidates[draw() % candidates.size()];
      closed = close_connection(
          *network, victim.place.slot, victim.child.pid(),
          [this](const std::string& address) { return cluster_.is_peer_address(address); }, drawn);
    } else {
      std::set<pid_t> processes;
      for (const auto& peer : peers_) processes.insert(peer->child.pid());
      closed = close_connection(processes, drawn);
    }
    if (closed) ++counters_.strand_kills;
  }

  // A third each: between a peer and a coordinator (or all of them), between two peers, between two halves. In one
  // direction or both.
  void make_cut() {
    Cut cut;
    std::vector<PeerProcess*> affected;
    const std::uint64_t direction = draw() % 3;
    const auto add = [&](std::size_t one, std::size_t other) {
      if (direction != 1) cut.ways.emplace_back(one, other);
      if (direction != 0) cut.ways.emplace_back(other, one);
    };
    const auto& coordinators = cluster_.coordinators();
    // Who were removed by a coordinator that then forgets it could make a majority of the older view.
    const bool may_halve = options_.standbys > 0 || options_.coordinator_log != "none";
    const std::uint64_t kind = draw() % (may_halve ? 3 : 2);
    if (kind == 2) {
      affected = healthy();
      std::array<std::vector<std::size_t>, 2> halves;
      for (const auto& peer : peers_) halves[draw() % 2].push_back(peer->place.slot);
      for (const CoordinatorProcess& one : coordinators) halves[draw() % 2].push_back(one.host);
      for (const std::size_t one : halves[0]) {
        for (const std::size_t other : halves[1]) add(one, other);
      }
    } else if (PeerProcess* const victim = draw_victim(); victim != nullptr && kind == 1) {
      const std::vector<PeerProcess*> candidates = healthy();
      if (candidates.size() < 2) return;
      PeerProcess* other = victim;
      while (other == victim) other = candidates[draw() % candidates.size()];
      affected = {victim, other};
      add(victim->place.slot, other->place.slot);
    } else if (victim != nullptr) {
      affected = {victim};
      const std::size_t which = draw() % (coordinators.size() + 1);
      for (std::size_t i = 0; i < coordinators.size(); ++i) {
        if (which == i || which == coordinators.size()) add(victim->place.slot, coordinators[i].host);
      }
    }
    if (cut.ways.empty() || affected.empty()) return;
    ++counters_.cuts;
    for (PeerProcess* peer : affected) {
      peer->is_cut_off = true;
      peer->excused_until_ns = never;
      forget_in_kills(*peer, true);
    }
    for (const auto& [from, to] : cut.ways) cluster_.network()->cut(from, to);
    cluster_.network()->apply();
    cut.heal_ns = monotonic_ns() + timeouts_ns(0.1 + 2.9 * draw_unit());
    cut_ = std::move(cut);
  }

  void mind_cut(std::uint64_t now) {
    if (!cut_ || now < cut_->heal_ns) return;
    for (const auto& [from, to] : cut_->ways) cluster_.network()->heal(from, to);
    cluster_.network()->apply();
    cut_.reset();
    for (const auto& peer : peers_) {
      if (!peer->is_cut_off) continue;
      peer->is_cut_off = false;
      excuse(*peer);
    }
  }

  // ------------------------------------------------------------ starving
  void mind_starvation(std::uint64_t now) {
    if (!starvation_) return;
    PeerProcess& peer = *starvation_->peer;
    if (now >= starvation_->end_ns) {
      starvation_.reset();
      peer.is_starved = false;
      peer.call_began_ns = now;
      excuse(peer);
      peer.child.send_signal(SIGCONT);
      return;
    }
    if (now < starvation_->next_ns) return;
    starvation_->is_running = !starvation_->is_running;
    const std::uint64_t run_ns = starve_period_ns * options_.cpu_quota / 100;
    starvation_->next_ns = now + (starvation_->is_running ? run_ns : starve_period_ns - run_ns);
    peer.child.send_signal(starvation_->is_running ? SIGCONT : SIGSTOP);
  }

  // ------------------------------------------------------------ kill points
  // The next of the list is given to a process, when one can be had.
  void arm_next(std::uint64_t now) {
    if (options_.kill_at.empty() || !pending_kills_.empty() || have_met_all()) return;
    const KillAt& wanted = options_.kill_at[next_point_ % options_.kill_at.size()];
    const KillPoint& point = *find_kill_point(wanted.name);
    Armed armed;
    armed.point = &point;
    armed.limit_ns = now + arm_limit_ns;
    passage_ = wanted.passage != 0 ? wanted.passage : 1 + static_cast<std::uint32_t>(draw() % point.passages_max);
    switch (point.role) {
      case KillRole::newcomer:
        if (peers_.size() >= most_peers()) return;
        armed_ = armed;
        is_newcomer_due_ = true;
        start_peer(1);
        is_newcomer_due_ = false;
        return;
      case KillRole::coordinator:
        armed.coordinator = draw_coordinator();
        if (armed.coordinator == nullptr) return;
        Cluster::arm(armed.coordinator->kill_file, point.name, passage_);
        break;
      case KillRole::member:
        armed.peer = draw_victim();
        if (armed.peer == nullptr) return;
        armed.peer->is_armed = true;
        forget_in_kills(*armed.peer, false);
        Cluster::arm(armed.peer->place.kill_file, point.name, passage_);
        break;
    }
    armed_ = armed;
  }

  [[nodiscard]] bool have_met_all() const {
    return options_.kill_at_times != 0 && next_point_ >= options_.kill_at.size() * std::size_t{options_.kill_at_times};
  }

  void on_point_hit(PeerProcess& peer) {
    peer.is_killed = true;
    ++counters_.kills;
    ++hits_[std::string(armed_->point->name)];
    note_fleeting(peer);
    if (peer.id != 0) await_recovery(peer, monotonic_ns());
    settle_arming(true);
  }

  void settle_arming(bool was_hit) {
    armed_.reset();
    if (!was_hit) return;
    ++next_point_;
    next_arm_ns_ = monotonic_ns() + 20 * ns_per_ms;
    if (have_met_all()) end_ns_ = monotonic_ns() + timeouts_ns(0.5);
  }

  // Not every place is come to soon: the process is killed here and now, since it cannot be told otherwise, and another
  // one is taken.
  void mind_armed(std::uint64_t now) {
    if (!armed_ || now < armed_->limit_ns || is_ending_) return;
    ++unreached_[std::string(armed_->point->name)];
    const Armed armed = *std::exchange(armed_, std::nullopt);
    if (armed.peer == nullptr) {
      Cluster::disarm(armed.coordinator->kill_file);
      if (armed.coordinator->child) kill_coordinator(*armed.coordinator);
      return;
    }
    armed.peer->is_armed = false;
    if (armed.peer->id != 0) {
      kill_victim(*armed.peer);
    } else {
      kill_now(*armed.peer);
    }
  }

  // ------------------------------------------------------------ excuses
  void excuse(PeerProcess& peer) const {
    // By then it knows whether it was removed meanwhile.
    peer.excused_until_ns = monotonic_ns() + timeouts_ns(2);
  }

  // What it does is explained by a fault of its own. A call of then may return later.
  [[nodiscard]] static bool is_excused(const PeerProcess& peer, std::uint64_t time_ns) {
    return time_ns <= peer.excused_until_ns || peer.last_call_began_ns <= peer.excused_until_ns;
  }

  // Nothing may be decided at the moment, and why that is so is known.
  [[nodiscard]] bool is_disturbed() const { return cut_.has_value() || (is_coordinator_away() && unsettled() > 0); }

  bool is_explained(const PeerProcess& peer, const Report& report) {
    if (is_excused(peer, report.time_ns)) return true;
    const auto status = static_cast<hawser_status_t>(report.status);
    // Cancelled with no coordinator there to end it for all: it stays open at the others, as after a loss, until one
    // comes. Who has cancelled it may be the last to say so, being in an earlier call.
    const bool was_away = last_away_ns_ != 0 && report.time_ns <= last_away_ns_ + timeouts_ns(2);
    const bool by_this = status == HAWSER_NO_COORDINATOR && report.was_cancelled != 0;
    const bool by_another =
        status == HAWSER_TIMEOUT &&
        std::string_view(report.text.data()).find("cancelled while no coordinator was there") != std::string_view::npos;
    if (was_away && (by_this || by_another)) {
      last_disturbed_ns_ = disturbed_ns_ = std::max(disturbed_ns_, report.time_ns);
      return true;
    }
    const bool is_deadline = status == HAWSER_NO_COORDINATOR || status == HAWSER_TIMEOUT;
    // Members that gave different operations up differ about the next one, too.
    if (!is_deadline && status != HAWSER_MISMATCH) return false;
    if (disturbed_ns_ == 0 || peer.last_call_began_ns > disturbed_ns_ + timeouts_ns(3)) return false;
    // Others may still be in a call of that time, until its deadline.
    const std::uint64_t end_ns = last_disturbed_ns_ + options_.op_timeout_ms * ns_per_ms;
    disturbed_ns_ = std::max(disturbed_ns_, std::min(report.time_ns, end_ns));
    return true;
  }

  [[nodiscard]] bool takes_majority() const { return options_.standbys > 0 || options_.coordinator_log == "none"; }

  // Members that are lost, or may be, and that the others' view may still name.
  [[nodiscard]] std::size_t unsettled() const {
    const std::uint64_t now = monotonic_ns();
    const auto count =
        std::count_if(peers_.begin(), peers_.end(), [&](const auto& peer) { return peer->is_unsettled(now); });
    return pending_kills_.size() + static_cast<std::size_t>(count);
  }

  // What calls may take beyond their deadlines: where there may be nobody to decide, two peer timeouts more.
  [[nodiscard]] std::uint64_t slack_ms() const {
    const bool may_be_undecided = !cluster_.coordinators().empty();
    return options_.hang_bound_ms + (may_be_undecided ? std::uint64_t{2} * options_.peer_timeout_ms : 0);
  }

  [[nodiscard]] std::uint64_t timeouts_ns(double count) const {
    return static_cast<std::uint64_t>(count * options_.peer_timeout_ms * 1e6);
  }

  void kill_victim(PeerProcess& victim) {
    ++counters_.kills;
    note_fleeting(victim);
    const std::uint64_t now = monotonic_ns();
    victim.is_killed = true;
    victim.child.send_signal(SIGKILL);
    await_recovery(victim, now);
  }

  void await_recovery(const PeerProcess& victim, std::uint64_t time_ns) {
    Kill kill;
    kill.time_ns = time_ns;
    kill.victim = victim.id;
    for (const PeerProcess* peer : healthy()) kill.waiting.insert(peer->number);
    kill.waiting.erase(victim.number);
    kill.is_measured = !is_coordinator_away() && !cut_ && !starvation_ &&
                       std::none_of(peers_.begin(), peers_.end(), [](const auto& peer) { return peer->is_stopped; });
    forget_in_kills(victim, false);
    if (!kill.waiting.empty()) pending_kills_.push_back(std::move(kill));
  }

  // Half of the stops are too short to be noticed, half long enough for the peer to be removed.
  void stop_victim(PeerProcess& victim) {
    ++counters_.stops;
    const double timeouts = draw() % 2 == 0 ? 0.1 + 0.3 * draw_unit() : 1.5 + draw_unit();
    victim.is_stopped = true;
    victim.excused_until_ns = never;
    victim.resume_ns = monotonic_ns() + timeouts_ns(timeouts);
    victim.child.send_signal(SIGSTOP);
    forget_in_kills(victim, true);
  }

  void ask_to_leave(PeerProcess& peer) {
    note_fleeting(peer);
    peer.phase = Phase::leaving;
    peer.child.send_signal(SIGTERM);
  }

  void replace_lost() {
    if (joins_.every_s > 0 || !pending_kills_.empty()) return;
    const auto present = std::count_if(peers_.begin(), peers_.end(), [](const auto& peer) {
      return !peer->is_killed && peer->phase != Phase::leaving;
    });
    for (auto i = static_cast<std::uint32_t>(present); i < options_.spawn; ++i) start_peer(1);
  }

  [[nodiscard]] std::size_t most_peers() const {
    return std::min<std::size_t>(2 * std::size_t{options_.spawn}, stress_peers_max - 2);
  }

  // Whoever leaves while it has no coordinator is remembered by none, and one without a log would wait for it.
  [[nodiscard]] std::uint64_t time_to_end_ns() const { return std::max(end_ns_, last_away_ns_ + timeouts_ns(2)); }

  // Everybody leaves, each after its round; calls in progress keep their deadlines and stay watched.
  void end_run() {
    if (is_ending_) return;
    is_ending_ = true;
    pending_kills_.clear();
    if (starvation_) starvation_->end_ns = 0;
    if (cut_) cut_->heal_ns = 0;
    for (CoordinatorProcess& one : cluster_.coordinators()) {
      if (one.is_stopped) one.resume_ns = 0;
    }
    const std::uint64_t now = monotonic_ns();
    mind_starvation(now);
    mind_cut(now);
    mind_coordinators(now);
    for (const auto& peer : peers_) {
      if (peer->is_stopped) resume(*peer);
      if (!peer->is_killed) ask_to_leave(*peer);
    }
  }

  // ------------------------------------------------------------ times
  std::uint64_t draw() { return mix(options_.seed ^ 0x6661756c74U, ++draws_); }
  double draw_unit() { return static_cast<double>(draw() >> 11) * 0x1p-53; }

  void schedule_next(Schedule& schedule, std::uint64_t now) {
    if (schedule.every_s <= 0) return;
    schedule.due_ns = now + static_cast<std::uint64_t>(schedule.every_s * (0.5 + draw_unit()) * 1e9);
  }

  // Faults that wait for healthier times are looked at again after each report and at least every 20 ms.
  [[nodiscard]] std::uint64_t next_due() const {
    if (is_frozen_) return never;
    const std::uint64_t now = monotonic_ns();
    std::uint64_t due = progress_ns_;
    if (have_all_joined_ && !is_ending_) {
      due = std::min(due, now < end_ns_ ? end_ns_ : time_to_end_ns());
      for (const Schedule* schedule : all_schedules()) {
        due = std::min(due, schedule->due_ns <= now ? now + 20 * ns_per_ms : schedule->due_ns);
      }
      if (!armed_ && !options_.kill_at.empty()) due = std::min(due, now + 20 * ns_per_ms);
    }
    for (const auto& peer : peers_) due = std::min(due, peer->resume_ns);
    for (const CoordinatorProcess& one : cluster_.coordinators()) due = std::min({due, one.resume_ns, one.restart_ns});
    if (armed_) due = std::min(due, armed_->limit_ns);
    if (cut_) due = std::min(due, cut_->heal_ns);
    if (starvation_) due = std::min({due, starvation_->next_ns, starvation_->end_ns});
    return due;
  }

  [[nodiscard]] std::array<const Schedule*, 9> all_schedules() const {
    return {&kills_,        &stops_, &joins_,      &leaves_, &coordinator_kills_, &coordinator_stops_,
            &strand_kills_, &cuts_,  &starvations_};
  }
  [[nodiscard]] std::array<Schedule*, 9> all_schedules() {
    return {&kills_,        &stops_, &joins_,      &leaves_, &coordinator_kills_, &coordinator_stops_,
            &strand_kills_, &cuts_,  &starvations_};
  }

  // ------------------------------------------------------------ output
  [[nodiscard]] static std::string where(const PeerProcess& peer) {
    return fmt::format("round {} operation {} ({})", peer.round, peer.op, report_call_name(peer.call));
  }

  void note(const std::string& text) {
    clear_line();
    fmt::print(stderr, "hawser stress: {}\n", text);
  }

  void complain(const char* kind, std::uint64_t& counter, const std::string& text) {
    ++counter;
    const std::size_t shown = ++complaints_[kind];
    if (shown <= complaints_shown) note(fmt::format("{}: {}", kind, text));
    if (shown == complaints_shown) note(fmt::format("{}: more of this kind are counted only", kind));
  }

  void clear_line() {
    if (!line_shown_) return;
    fmt::print(stderr, "\r\x1b[K");
    line_shown_ = false;
  }

  void progress(bool is_last) {
    const std::uint64_t now = monotonic_ns();
    const bool on_terminal = isatty(STDERR_FILENO) != 0;
    progress_ns_ = now + (on_terminal ? 500 : 2000) * ns_per_ms;
    if (options_.quiet) return;
    clear_line();
    if (is_last) return;
    fmt::print(stderr,
               "{}{:6.1f} s  peers {}  ops {}  wrong {}  hangs {}  disagreements {}  errors {}  kills {}  stops {}  "
               "joins {}  leaves {}{}{}",
               on_terminal ? "\r" : "", static_cast<double>(now - started_ns_) / 1e9, peers_.size(), judge_.committed(),
               counters_.wrong, counters_.hangs, counters_.disagreements, counters_.errors + counters_.crashes,
               counters_.kills, counters_.stops, counters_.joins, counters_.leaves, other_counts(),
               on_terminal ? "\x1b[K" : "\n");
    line_shown_ = on_terminal;
    std::fflush(stderr);
  }

  [[nodiscard]] std::string other_counts() const {
    std::string text;
    const auto add = [&](const char* name, std::uint64_t count) {
      if (count > 0) text += fmt::format("  {} {}", name, count);
    };
    add("coordinator kills", counters_.coordinator_kills);
    add("coordinator stops", counters_.coordinator_stops);
    add("strands", counters_.strand_kills);
    add("cuts", counters_.cuts);
    add("starved", counters_.starvations);
    return text;
  }

  [[nodiscard]] nlohmann::ordered_json summary() const {
    const auto percent = [&](double value) {
      const auto result = percentile(recoveries_ms_, value);
      return result ? nlohmann::ordered_json(*result) : nlohmann::ordered_json();
    };
    nlohmann::ordered_json summary;
    summary["ops"] = judge_.committed();
    summary["wrong"] = counters_.wrong;
    summary["hangs"] = counters_.hangs;
    summary["disagreements"] = counters_.disagreements;
    summary["kills"] = counters_.kills;
    summary["stops"] = counters_.stops;
    summary["joins"] = counters_.joins;
    summary["leaves"] = counters_.leaves;
    summary["coordinator_kills"] = counters_.coordinator_kills;
    summary["recovery_ms_p50"] = percent(50);
    summary["recovery_ms_p99"] = percent(99);
    summary["recovery_ms_max"] = percent(100);
    summary["seed"] = options_.seed;
    summary["results"] = counters_.results;
    summary["reruns"] = counters_.reruns;
    summary["reruns_unexplained"] = counters_.reruns_unexplained;
    summary["repeats"] = counters_.repeats;
    summary["coordinator_stops"] = counters_.coordinator_stops;
    summary["strand_kills"] = counters_.strand_kills;
    summary["cuts"] = counters_.cuts;
    summary["starvations"] = counters_.starvations;
    summary["expulsions"] = counters_.expulsions;
    summary["expulsions_unexplained"] = counters_.expulsions_unexplained;
    summary["explained"] = counters_.explained;
    if (!options_.kill_at.empty()) {
      summary["kill_points"] = nlohmann::ordered_json::object();
      for (const auto& [name, count] : hits_) summary["kill_points"][name] = count;
      summary["kill_points_unreached"] = nlohmann::ordered_json::object();
      for (const auto& [name, count] : unreached_) summary["kill_points_unreached"][name] = count;
    }
    summary["crashes"] = counters_.crashes;
    summary["errors"] = counters_.errors;
    summary["errors_by_status"] = nlohmann::ordered_json::object();
    for (const auto& [name, count] : errors_by_status_) summary["errors_by_status"][name] = count;
    summary["seconds"] = static_cast<double>(monotonic_ns() - started_ns_) / 1e9;
    summary["spawn"] = options_.spawn;
    summary["ok"] = verdict() == exit_ok;
    return summary;
  }

  void print_summary() const {
    const nlohmann::ordered_json values = summary();
    if (options_.json) {
      fmt::print("{}\n", values.dump());
    } else {
      for (const auto& [name, value] : values.items()) {
        fmt::print("{:<18} {}\n", name,
                   value.is_number_float() ? fmt::format("{:.1f}", value.get<double>())
                   : value.is_null()       ? "-"
                                           : value.dump());
      }
    }
    std::fflush(stdout);
    if (verdict() != exit_ok) {
      fmt::print(stderr,
                 "hawser stress: failed; the same program again: hawser stress --spawn {} --seconds {} --seed {}{}\n",
                 options_.spawn, options_.seconds, options_.seed, other_options());
    }
  }

  [[nodiscard]] std::string other_options() const {
    std::string text;
    const StressOptions usual;
    const auto add = [&](const char* name, auto value, auto usual_value) {
      if (value > usual_value || value < usual_value) text += fmt::format(" {} {}", name, value);
    };
    add("--kill-every", options_.kill_every, usual.kill_every);
    add("--stop-every", options_.stop_every, usual.stop_every);
    add("--join-every", options_.join_every, usual.join_every);
    add("--leave-every", options_.leave_every, usual.leave_every);
    add("--coordinator-kill-every", options_.coordinator_kill_every, usual.coordinator_kill_every);
    add("--coordinator-stop-every", options_.coordinator_stop_every, usual.coordinator_stop_every);
    add("--coordinator-log", options_.coordinator_log, usual.coordinator_log);
    add("--standbys", options_.standbys, usual.standbys);
    add("--strand-kill-every", options_.strand_kill_every, usual.strand_kill_every);
    add("--cut-every", options_.cut_every, usual.cut_every);
    add("--starve-every", options_.starve_every, usual.starve_every);
    add("--cpu-quota", options_.cpu_quota, usual.cpu_quota);
    for (const KillAt& one : options_.kill_at) {
      text += fmt::format(" --kill-at {}", one.name);
      if (one.passage != 0) text += fmt::format(":{}", one.passage);
    }
    add("--kill-at-times", options_.kill_at_times, usual.kill_at_times);
    if (options_.placement != Placement::any)
      text += options_.placement == Placement::in_place ? " --placement in-place" : " --placement out-of-place";
    add("--max-bytes", options_.max_bytes, usual.max_bytes);
    add("--peer-timeout-ms", options_.peer_timeout_ms, usual.peer_timeout_ms);
    add("--op-timeout-ms", options_.op_timeout_ms, usual.op_timeout_ms);
    add("--cancel-percent", options_.cancel_percent, usual.cancel_percent);
    add("--strands", options_.strands, usual.strands);
    add("--io-threads", options_.io_threads, usual.io_threads);
    add("--transport", options_.transport, usual.transport);
    return text;
  }

  [[nodiscard]] int verdict() const {
    if (start_failure_ != exit_ok) return start_failure_;
    const bool is_clean = counters_.wrong == 0 && counters_.hangs == 0 && counters_.disagreements == 0 &&
                          counters_.crashes == 0 && counters_.errors == 0 && judge_.committed() > 0 && !is_broken_;
    return is_clean ? exit_ok : exit_failed;
  }

  const StressOptions& options_;
  SignalDescriptor signals_;
  Cluster cluster_{options_, needs_of(options_)};
  std::vector<std::unique_ptr<PeerProcess>> peers_;  // that have not ended
  std::uint32_t next_number_ = 0;
  Judge judge_;
  Counters counters_;
  std::map<std::string, std::uint64_t> errors_by_status_;
  std::map<std::string, std::size_t> complaints_;
  std::list<Kill> pending_kills_;
  std::vector<double> recoveries_ms_;
  Schedule kills_, stops_, joins_, leaves_, coordinator_kills_, coordinator_stops_, strand_kills_, cuts_, starvations_;
  std::optional<Cut> cut_;
  std::optional<Starvation> starvation_;
  std::optional<Armed> armed_;
  std::size_t next_point_ = 0;  // of the kill points asked for, counted through all turns
  std::uint32_t passage_ = 1;   // at which the armed process dies
  std::uint64_t next_arm_ns_ = 0;
  bool is_newcomer_due_ = false;  // the peer that is being started is the armed one
  std::map<std::string, std::uint64_t> hits_;
  std::map<std::string, std::uint64_t> unreached_;
  std::uint64_t last_disturbed_ns_ = 0;  // when nothing could be decided, the last time
  std::uint64_t disturbed_ns_ = 0;       // ... and a call could still feel it
  std::uint64_t last_away_ns_ = 0;       // when a coordinator was not up, the last time
  std::uint64_t draws_ = 0;
  std::uint64_t first_round_ = 0;        // of the last newcomer
  std::uint64_t fleeting_until_ns_ = 0;  // a peer came and went before it had taken part in anything
  std::uint64_t started_ns_ = 0;
  std::uint64_t end_ns_ = never;
  std::uint64_t progress_ns_ = 0;
  std::uint64_t last_commit_ns_ = 0;
  bool have_all_joined_ = false;
  bool is_ending_ = false;  // everybody was asked to leave
  bool is_broken_ = false;  // the run cannot go on; the children are killed by their owners
  bool is_frozen_ = false;  // a hung process is kept for a debugger
  bool line_shown_ = false;
  ExitCode start_failure_ = exit_ok;
};

}  // namespace

int run_stress_supervisor(const StressOptions& options) { return Supervisor(options).run(); }

}  // namespace tool
