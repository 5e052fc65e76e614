// The parent of `hawser stress`: an embedded coordinator, the children, the faults, the verdict. One thread, one poll
// loop over the children's pipes and pidfds, a signalfd for Ctrl-C and a timeout for whatever is due next.
//
// Faults are drawn from the seed: who, and when within 0.5 to 1.5 times the period asked for. A fault that would leave
// fewer than two healthy members (one, when the run began with two) waits until there are more. Peers that were killed
// or have left are replaced once the survivors have recovered, unless --join-every brings newcomers anyway.
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
#include "stress_judge.hpp"
#include "stress_report.hpp"
#include "text.hpp"

namespace tool {
namespace {

constexpr std::uint64_t ns_per_ms = 1000000;
constexpr std::uint64_t never = UINT64_MAX;
constexpr std::uint64_t start_limit_ms = 60000;  // until all first peers are members
constexpr std::size_t complaints_shown = 20;     // of each kind; the rest are counted

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
  Phase phase = Phase::joining;
  bool is_newcomer = false;  // not one of the first
  bool is_killed = false;    // its end by SIGKILL is ours
  bool is_stopped = false;
  std::uint32_t id = 0;  // short id as member
  std::uint64_t resume_ns = never;
  std::uint64_t excused_until_ns = 0;  // what a peer does that was stopped, it need not answer for

  // The call it is in, for the watchdog; none: it computes between calls.
  ReportCall call = ReportCall::none;
  std::uint64_t call_began_ns = 0;
  std::uint32_t call_deadline_ms = 0;
  std::uint64_t round = 0;
  std::uint32_t op = 0;

  [[nodiscard]] bool is_healthy() const { return phase == Phase::member && !is_stopped && !is_killed; }
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
  std::uint64_t expulsions = 0;
  std::uint64_t repeats = 0;
  std::uint64_t reruns = 0;
};

// When one sort of fault happens next.
struct Schedule {
  double every_s = 0;
  std::uint64_t due_ns = never;
};

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
        leaves_{options.leave_every} {}

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
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.peer_timeout_ms = options_.peer_timeout_ms;
    config.heartbeat_ms = std::max<std::uint32_t>(1, options_.peer_timeout_ms / 6);
    coordinator_ = start_coordinator(config);
    address_ = address_of(coordinator_);
    started_ns_ = monotonic_ns();
    note(fmt::format("seed {}, coordinator at {}", options_.seed, address_));
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
    add("--coordinator", address_);
    add("--min-size", min_size);
    add("--first-round", judge_.last_round());
    add("--seed", options_.seed);
    add("--max-bytes", options_.max_bytes);
    add("--op-timeout-ms", options_.op_timeout_ms);
    add("--strands", options_.strands);
    add("--io-threads", options_.io_threads);
    add("--cancel-percent", options_.cancel_percent);
    add("--corrupt-round", options_.corrupt_round);
    request.report_end = pipe.write_end.get();
    request.stdout_is_stderr = true;
    request.holds_sigterm = true;
    auto peer =
        std::make_unique<PeerProcess>(PeerProcess{next_number_, Child::start(request), std::move(pipe.read_end), {}});
    peer->is_newcomer = have_all_joined_;
    peer->call_began_ns = monotonic_ns();
    ++next_number_;
    peers_.push_back(std::move(peer));
  }

  // ------------------------------------------------------------ poll
  void poll_once() {
    std::vector<pollfd> polled;
    polled.push_back({signals_.get(), POLLIN, 0});
    for (const auto& peer : peers_) {
      polled.push_back({peer->reports.get(), POLLIN, 0});
      polled.push_back({peer->child.pidfd(), POLLIN, 0});
    }
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
      }
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
        peer.call_began_ns = report.time_ns;
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
        if (report.time_ns > peer.excused_until_ns) {
          note(fmt::format("peer {} was expelled without having been stopped", peer.number));
        }
        if (peer.phase == Phase::member) peer.phase = Phase::joining;
        forget_in_kills(peer, false);
        return;
      case ReportKind::error:
        if (report.time_ns <= peer.excused_until_ns) return;
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
    const std::uint64_t limit_us = (std::uint64_t{report.deadline_ms} + options_.hang_bound_ms) * 1000;
    if (report.duration_us > limit_us && report.time_ns > peer.excused_until_ns) {
      complain("hang", counters_.hangs,
               fmt::format("peer {} was {} ms in {}, whose deadline is {} ms", peer.number, report.duration_us / 1000,
                           where(peer), report.deadline_ms));
    }
  }

  void on_result(PeerProcess& peer, const Report& report) {
    ++counters_.results;
    // Leaves cost the others reruns: those of the end are not what the run is about.
    if (report.attempts > 1 && !is_ending_) counters_.reruns += report.attempts - 1;
    Outcome outcome;
    outcome.peer = peer.number;
    outcome.round = report.round;
    outcome.op = report.op;
    outcome.status = static_cast<hawser_status_t>(report.status);
    outcome.digest = report.digest;
    outcome.identity_digest = report.identity_digest;
    outcome.participants.assign(report.members().begin(), report.members().end());
    if (const auto contradiction = judge_.add(outcome))
      complain("disagreement", counters_.disagreements, *contradiction);
    if (outcome.status == HAWSER_OK) on_committed(peer, report);
  }

  // ------------------------------------------------------------ recoveries
  void on_committed(PeerProcess& peer, const Report& report) {
    last_commit_ns_ = std::max(last_commit_ns_, report.time_ns);
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
    if (have_all_joined_ && !is_ending_) {
      if (now >= end_ns_) {
        end_run();
      } else {
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
      for (Schedule* schedule : {&kills_, &stops_, &joins_, &leaves_}) schedule_next(*schedule, now);
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
      if (peer->is_stopped || peer->is_killed) continue;
      const std::uint64_t limit_ms = std::uint64_t{peer->call_deadline_ms} * (peer->call != ReportCall::none) +
                                     options_.hang_bound_ms + (peer->round == 0 ? start_limit_ms : 0);
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
    if (!have_all_joined_ || healthy().empty()) {
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
    // By then it knows whether it was removed meanwhile.
    peer.excused_until_ns = peer.call_began_ns + std::uint64_t{2} * options_.peer_timeout_ms * ns_per_ms;
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
    const std::size_t stay = options_.spawn <= 2 ? 1 : 2;
    if (candidates.size() <= stay) return nullptr;
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
  }

  void kill_victim(PeerProcess& victim) {
    ++counters_.kills;
    Kill kill;
    kill.victim = victim.id;
    for (const PeerProcess* peer : healthy()) kill.waiting.insert(peer->number);
    kill.waiting.erase(victim.number);
    kill.is_measured = std::none_of(peers_.begin(), peers_.end(), [](const auto& peer) { return peer->is_stopped; });
    forget_in_kills(victim, false);
    kill.time_ns = monotonic_ns();
    victim.is_killed = true;
    victim.child.send_signal(SIGKILL);
    pending_kills_.push_back(std::move(kill));
  }

  // Half of the stops are too short to be noticed, half long enough for the peer to be removed.
  void stop_victim(PeerProcess& victim) {
    ++counters_.stops;
    const double timeouts = draw() % 2 == 0 ? 0.1 + 0.3 * draw_unit() : 1.5 + draw_unit();
    victim.is_stopped = true;
    victim.excused_until_ns = never;
    victim.resume_ns = monotonic_ns() + static_cast<std::uint64_t>(timeouts * options_.peer_timeout_ms * 1e6);
    victim.child.send_signal(SIGSTOP);
    forget_in_kills(victim, true);
  }

  static void ask_to_leave(PeerProcess& peer) {
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
    return std::min<std::size_t>(2 * std::size_t{options_.spawn}, stress_peers_max);
  }

  // Everybody leaves, each after its round; calls in progress keep their deadlines and stay watched.
  void end_run() {
    if (is_ending_) return;
    is_ending_ = true;
    pending_kills_.clear();
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
      due = std::min(due, end_ns_);
      for (const Schedule* schedule : {&kills_, &stops_, &joins_, &leaves_}) {
        due = std::min(due, schedule->due_ns <= now ? now + 20 * ns_per_ms : schedule->due_ns);
      }
    }
    for (const auto& peer : peers_) due = std::min(due, peer->resume_ns);
    return due;
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
               "joins {}  leaves {}{}",
               on_terminal ? "\r" : "", static_cast<double>(now - started_ns_) / 1e9, peers_.size(), judge_.committed(),
               counters_.wrong, counters_.hangs, counters_.disagreements, counters_.errors + counters_.crashes,
               counters_.kills, counters_.stops, counters_.joins, counters_.leaves, on_terminal ? "\x1b[K" : "\n");
    line_shown_ = on_terminal;
    std::fflush(stderr);
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
    summary["coordinator_kills"] = 0;
    summary["recovery_ms_p50"] = percent(50);
    summary["recovery_ms_p99"] = percent(99);
    summary["recovery_ms_max"] = percent(100);
    summary["seed"] = options_.seed;
    summary["results"] = counters_.results;
    summary["reruns"] = counters_.reruns;
    summary["repeats"] = counters_.repeats;
    summary["expulsions"] = counters_.expulsions;
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
    add("--max-bytes", options_.max_bytes, usual.max_bytes);
    add("--peer-timeout-ms", options_.peer_timeout_ms, usual.peer_timeout_ms);
    add("--op-timeout-ms", options_.op_timeout_ms, usual.op_timeout_ms);
    add("--cancel-percent", options_.cancel_percent, usual.cancel_percent);
    add("--strands", options_.strands, usual.strands);
    add("--io-threads", options_.io_threads, usual.io_threads);
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
  Coordinator coordinator_;
  std::string address_;
  std::vector<std::unique_ptr<PeerProcess>> peers_;  // that have not ended
  std::uint32_t next_number_ = 0;
  Judge judge_;
  Counters counters_;
  std::map<std::string, std::uint64_t> errors_by_status_;
  std::map<std::string, std::size_t> complaints_;
  std::list<Kill> pending_kills_;
  std::vector<double> recoveries_ms_;
  Schedule kills_, stops_, joins_, leaves_;
  std::uint64_t draws_ = 0;
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
