// The store in etcd. PREFIX/leader belongs to whoever could create it; it hangs on a lease, so it goes when its owner
// falls silent. Values are PREFIX/value/KEY. Each write is one transaction on two conditions:
//
//  - the leader key was created in the revision in which we created it. etcd decides that, so a writer that was deposed
//    without knowing it (stopped, cut off, with a slow clock) changes nothing;
//  - the value is the one that we last saw there. A write that was given up but is still under way somewhere cannot
//  come
//    after a later one.
//
// The clock of this machine only makes us give up early: from 2/3 of the lease after its last renewal nothing is asked
// any more, for another owner may be near.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/log.hpp"
#include "base/text.hpp"
#include "io/random.hpp"
#include "runtime/etcd/gateway.hpp"
#include "runtime/view_store.hpp"

namespace hawser::runtime {
namespace {

using nlohmann::json;

constexpr std::int64_t retry_ms_min = 50;  // between two tries of something that failed or is not there yet
constexpr std::int64_t retry_ms_max = 1000;
constexpr std::int64_t farewell_ms = 500;    // for giving the lease back; otherwise it runs out
constexpr std::int64_t complain_ms = 10000;  // between two log lines about the same thing
constexpr std::uint32_t ttl_s_min = 3;
constexpr std::uint32_t ttl_s_max = 3600;

constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(std::span<const std::uint8_t> bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8U | (k < count ? bytes[i + k] : 0U);
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= count ? base64_digits[group >> (18 - 6 * k) & 63U] : '=';
    }
  }
  return text;
}
std::string to_base64(const std::string& text) {
  return to_base64({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});  // NOLINT: bytes
}

std::optional<std::vector<std::uint8_t>> from_base64(const std::string& text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::vector<std::uint8_t> bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const std::size_t padding = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const std::size_t digit = k < 4 - padding ? base64_digits.find(text[i + k]) : 0;
      if (digit == std::string_view::npos) return std::nullopt;
      group = group << 6U | static_cast<std::uint32_t>(digit);
    }
    for (std::size_t k = 0; k < 3 - padding; ++k) bytes.push_back(static_cast<std::uint8_t>(group >> (16 - 8 * k)));
  }
  return bytes;
}

// 64-bit numbers are strings in the gateway's JSON, and zeros are left out.
std::int64_t number(const json& object, const char* name) {
  if (!object.is_object() || !object.contains(name)) return 0;
  const json& value = object[name];
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_string()) return 0;
  const auto& text = value.get_ref<const std::string&>();
  std::int64_t parsed = 0;
  std::from_chars(text.data(), text.data() + text.size(), parsed);
  return parsed;
}
const json& member(const json& object, const char* name) {
  static const json nothing;
  return object.is_object() && object.contains(name) ? object[name] : nothing;
}
std::string text_of(const json& object, const char* name) {
  const json& value = member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}
// The entries that the i-th operation of a transaction has read.
const json& entries_of(const json& answer, std::size_t i) {
  const json& responses = member(answer, "responses");
  static const json nothing;
  if (!responses.is_array() || responses.size() <= i) return nothing;
  return member(member(responses[i], "response_range"), "kvs");
}
const json& entry_of(const json& answer, std::size_t i) {
  const json& entries = entries_of(answer, i);
  static const json nothing;
  return entries.is_array() && !entries.empty() ? entries[0] : nothing;
}

// Pieces of a transaction. Lists are always written json::array: a brace around one value may also mean that value.
json created_in(const std::string& key, std::int64_t revision) {
  return {{"key", to_base64(key)}, {"target", "CREATE"}, {"create_revision", std::to_string(revision)}};
}
json modified_in(const std::string& key, std::int64_t revision) {
  return {{"key", to_base64(key)}, {"target", "MOD"}, {"mod_revision", std::to_string(revision)}};
}
json reads(const std::string& key) { return {{"request_range", {{"key", to_base64(key)}}}}; }

class EtcdStore : public ViewStore {
 public:
  EtcdStore(const EtcdOptions& options, std::vector<EtcdEndpoint> endpoints)
      : gateway_(std::move(endpoints)),
        leader_key_(options.prefix + "leader"),
        value_keys_(options.prefix + "value/"),
        ttl_ms_(std::int64_t{options.ttl_s} * 1000),
        prefix_(options.prefix) {}
  ~EtcdStore() override {
    gateway_.resume();
    give_lease_back();
  }
  EtcdStore(const EtcdStore&) = delete;
  EtcdStore& operator=(const EtcdStore&) = delete;

  Result<Values> acquire() override;
  Status put(std::uint64_t key, std::span<const std::uint8_t> value) override;
  Result<std::int64_t> upkeep() override;
  void cancel() override;
  [[nodiscard]] std::string describe() const override {
    return fmt::format("etcd at {}, prefix {}", gateway_.describe(), prefix_);
  }

 private:
  // One try to lead. False: another does.
  Result<bool> campaign();
  Result<Values> read_values();
  void give_lease_back();
  Status lose(const std::string& why);
  Result<json> call(const char* path, const json& request, std::int64_t timeout_ms);
  // False when cancelled meanwhile.
  bool pause(std::int64_t ms);
  [[nodiscard]] std::int64_t request_ms() const { return std::clamp<std::int64_t>(ttl_ms_ / 3, 1000, 5000); }
  [[nodiscard]] std::int64_t give_up_at_ms() const { return renewed_ms_ + ttl_ms_ * 2 / 3; }
  [[nodiscard]] std::string key_name(std::uint64_t key) const { return fmt::format("{}{:016x}", value_keys_, key); }

  EtcdGateway gateway_;
  const std::string leader_key_;
  const std::string value_keys_;
  const std::int64_t ttl_ms_;
  const std::string prefix_;

  std::int64_t lease_ = 0;                           // 0: none
  std::int64_t renewed_ms_ = 0;                      // when the last renewal that came through was asked for
  std::int64_t leader_revision_ = 0;                 // in which we created the leader key; 0: we do not lead
  std::string lost_ = "it was not acquired";         // why we do not lead
  std::map<std::uint64_t, std::int64_t> revisions_;  // of the values, as we last saw them

  std::mutex mutex_;  // only for pause
  std::condition_variable cancelled_;
};

void EtcdStore::cancel() {
  gateway_.cancel();
  const std::lock_guard lock(mutex_);
  cancelled_.notify_all();
}

bool EtcdStore::pause(std::int64_t ms) {
  std::unique_lock lock(mutex_);
  return !cancelled_.wait_for(lock, std::chrono::milliseconds(ms), [&] { return gateway_.cancelled(); });
}

Result<json> EtcdStore::call(const char* path, const json& request, std::int64_t timeout_ms) {
  const Result<std::string> answer = gateway_.post(path, request.dump(), timeout_ms);
  if (!answer.ok()) return answer.status();
  json parsed = json::parse(answer.value(), nullptr, false);
  if (!parsed.is_object()) {
    return Status(Code::UNSUPPORTED,
                  fmt::format("{}: the answer to {} is not JSON of etcd's gateway", describe(), path));
  }
  return parsed;
}

Status EtcdStore::lose(const std::string& why) {
  leader_revision_ = 0;
  lost_ = why;
  return {Code::REFUSED, fmt::format("{}: no longer ours: {}", describe(), why)};
}

void EtcdStore::give_lease_back() {
  leader_revision_ = 0;
  if (const std::int64_t lease = std::exchange(lease_, 0); lease != 0) {
    const auto ignored = call("/v3/lease/revoke", {{"ID", std::to_string(lease)}}, farewell_ms);
    static_cast<void>(ignored);  // then it runs out
  }
}

// --------------------------------------------------------------------------------------------------------------
// acquire

Result<ViewStore::Values> EtcdStore::acquire() {
  if (leader_revision_ != 0 && io::now_ms() < give_up_at_ms()) {
    if (auto values = read_values(); values.ok()) return values;
  }
  give_lease_back();  // of an earlier time; nobody else leads before it is gone
  revisions_.clear();
  std::int64_t complain_at_ms = 0;
  for (std::int64_t wait_ms = retry_ms_min;; wait_ms = std::min(wait_ms * 2, retry_ms_max)) {
    std::string what;
    auto level = log::Level::warn;
    const Result<bool> leads = campaign();
    if (leads.ok() && leads.value()) {
      auto values = read_values();
      if (values.ok()) {
        log::message(log::Subsystem::coordinator, log::Level::info, "{}: ours, since revision {}", describe(),
                     leader_revision_);
        return values;
      }
      if (values.status().code() != Code::RESOURCE && values.status().code() != Code::REFUSED) return values;
      what = values.status().text();
      give_lease_back();
    } else if (leads.ok()) {
      what = lost_;
      level = log::Level::info;  // as it should be with a standby
    } else {
      // What an operator has to change is said at once; what goes away by itself is waited for.
      give_lease_back();
      if (leads.status().code() != Code::RESOURCE) return leads.status();
      what = leads.status().text();
    }
    if (const std::int64_t now_ms = io::now_ms(); now_ms >= complain_at_ms) {
      complain_at_ms = now_ms + complain_ms;
      log::message(log::Subsystem::coordinator, level, "{}: waiting: {}", describe(), what);
    }
    if (!pause(wait_ms)) return Status(Code::CANCELLED, "cancelled");
  }
}

Result<bool> EtcdStore::campaign() {
  // A look first, so that those who wait make no lease each time.
  const Result<json> seen = call("/v3/kv/range", {{"key", to_base64(leader_key_)}}, request_ms());
  if (!seen.ok()) return seen.status();
  const auto another = [&](const json& entry) {
    const auto owner = from_base64(text_of(entry, "value")).value_or(std::vector<std::uint8_t>());
    lost_ = fmt::format(
        "{} leads", owner.empty() ? "another coordinator" : printable(std::string(owner.begin(), owner.end()), 300));
    return false;
  };
  if (const json& entries = member(seen.value(), "kvs"); entries.is_array() && !entries.empty()) {
    return another(entries[0]);
  }

  const std::int64_t asked_ms = io::now_ms();
  const Result<json> lease = call("/v3/lease/grant", {{"TTL", std::to_string(ttl_ms_ / 1000)}}, request_ms());
  if (!lease.ok()) return lease.status();
  lease_ = number(lease.value(), "ID");
  renewed_ms_ = asked_ms;
  if (lease_ == 0) return Status(Code::UNSUPPORTED, describe() + ": the answer to a request for a lease has none");
  if (number(lease.value(), "TTL") < ttl_ms_ / 1000) {
    give_lease_back();
    return Status(Code::UNSUPPORTED, fmt::format("{}: it grants {} s of lease where {} s were asked for", describe(),
                                                 number(lease.value(), "TTL"), ttl_ms_ / 1000));
  }

  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  const std::string self = fmt::format("process {} on {}", getpid(), host.data());
  const json take = {
      {"request_put",
       {{"key", to_base64(leader_key_)}, {"value", to_base64(self)}, {"lease", std::to_string(lease_)}}}};
  const json claim = {{"compare", json::array({created_in(leader_key_, 0)})},
                      {"success", json::array({take})},
                      {"failure", json::array({reads(leader_key_)})}};
  // An answer that got lost is found by asking again: the key then hangs on our lease.
  Result<json> claimed = call("/v3/kv/txn", claim, request_ms());
  if (!claimed.ok() && claimed.status().code() == Code::RESOURCE) claimed = call("/v3/kv/txn", claim, request_ms());
  if (!claimed.ok()) return claimed.status();
  if (const json& won = member(claimed.value(), "succeeded"); won.is_boolean() && won.get<bool>()) {
    leader_revision_ = number(member(claimed.value(), "header"), "revision");
  } else if (const json& entry = entry_of(claimed.value(), 0); number(entry, "lease") == lease_) {
    leader_revision_ = number(entry, "create_revision");
  } else {
    give_lease_back();
    return another(entry);
  }
  if (leader_revision_ == 0) return Status(Code::UNSUPPORTED, describe() + ": an answer without a revision");
  return true;
}

Result<ViewStore::Values> EtcdStore::read_values() {
  // '0' is the character after '/': the keys from PREFIX/value/ on, up to all that begin so. In one transaction with
  // the question whether we lead, so that nothing of this can be older than that.
  std::string end = value_keys_;
  end.back() = '0';
  const json read_all = {{"request_range", {{"key", to_base64(value_keys_)}, {"range_end", to_base64(end)}}}};
  const json request = {{"compare", json::array({created_in(leader_key_, leader_revision_)})},
                        {"success", json::array({read_all})}};
  const Result<json> answer = call("/v3/kv/txn", request, request_ms());
  if (!answer.ok()) return answer.status();
  if (const json& held = member(answer.value(), "succeeded"); !held.is_boolean() || !held.get<bool>()) {
    return lose("another coordinator leads");
  }
  Values values;
  revisions_.clear();
  const json& entries = entries_of(answer.value(), 0);
  for (std::size_t i = 0; entries.is_array() && i < entries.size(); ++i) {
    const auto name = from_base64(text_of(entries[i], "key"));
    auto value = from_base64(text_of(entries[i], "value"));
    if (!name || !value) return Status(Code::INTERNAL, describe() + ": a value that is not base64");
    // Another store's prefix may begin with this one's and "value/"; its keys are longer, or no number.
    const std::string hex(name->begin() + static_cast<std::ptrdiff_t>(value_keys_.size()), name->end());
    std::uint64_t key = 0;
    const auto [stopped, error] = std::from_chars(hex.data(), hex.data() + hex.size(), key, 16);
    if (hex.size() != 16 || error != std::errc() || stopped != hex.data() + hex.size()) continue;
    revisions_[key] = number(entries[i], "mod_revision");
    values[key] = std::move(*value);
  }
  return values;
}

// ------------------------------------------------------------------------------------------------------------------
// put

Status EtcdStore::put(std::uint64_t key, std::span<const std::uint8_t> value) {
  if (leader_revision_ == 0) return lose(lost_);
  const std::string name = key_name(key);
  const std::string bytes = to_base64(value);
  const json store = {{"request_put", {{"key", to_base64(name)}, {"value", bytes}}}};
  const std::int64_t deadline_ms = std::min(io::now_ms() + request_ms(), give_up_at_ms());
  for (;;) {
    const std::int64_t now_ms = io::now_ms();
    if (now_ms >= give_up_at_ms()) return lose("the lease could not be renewed in time");
    const json request = {
        {"compare", json::array({created_in(leader_key_, leader_revision_), modified_in(name, revisions_[key])})},
        {"success", json::array({store})},
        {"failure", json::array({reads(leader_key_), reads(name)})}};
    const Result<json> answer = call("/v3/kv/txn", request, std::max<std::int64_t>(deadline_ms - now_ms, 1));
    if (!answer.ok()) {
      const Status why = answer.status();
      // A request that etcd does not take leaves the store ours, whatever the reason.
      return {Code::RESOURCE, fmt::format("{}: not stored: {}", describe(), why.text())};
    }
    if (const json& done = member(answer.value(), "succeeded"); done.is_boolean() && done.get<bool>()) {
      revisions_[key] = number(member(answer.value(), "header"), "revision");
      return {};
    }
    if (number(entry_of(answer.value(), 0), "create_revision") != leader_revision_) {
      return lose("another coordinator leads, or the lease ran out");
    }
    // We lead, so the value that we did not know of is one of ours whose answer got lost.
    const json& entry = entry_of(answer.value(), 1);
    const std::int64_t revision = number(entry, "mod_revision");
    if (revision == revisions_[key]) {
      return {Code::RESOURCE, describe() + ": etcd contradicts itself about a value"};
    }
    revisions_[key] = revision;
    if (text_of(entry, "value") == bytes) return {};
    if (io::now_ms() >= deadline_ms) {
      return {Code::RESOURCE, describe() + ": not stored: earlier writes are still coming in"};
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------
// upkeep

Result<std::int64_t> EtcdStore::upkeep() {
  if (leader_revision_ == 0) return lose(lost_);
  const std::int64_t asked_ms = io::now_ms();
  if (asked_ms >= give_up_at_ms()) return lose("the lease could not be renewed in time");
  if (asked_ms < renewed_ms_ + ttl_ms_ / 3) return renewed_ms_ + ttl_ms_ / 3 - asked_ms;
  const std::int64_t left_ms = give_up_at_ms() - asked_ms;
  const Result<json> answer =
      call("/v3/lease/keepalive", {{"ID", std::to_string(lease_)}}, std::clamp<std::int64_t>(ttl_ms_ / 6, 1, left_ms));
  // A stream, which this is to etcd, may also report a failure with status 200.
  const bool answered = answer.ok() && member(answer.value(), "result").is_object();
  if (answered) {
    if (number(member(answer.value(), "result"), "TTL") <= 0) return lose("the lease ran out");
    renewed_ms_ = asked_ms;
    return std::max<std::int64_t>(asked_ms + ttl_ms_ / 3 - io::now_ms(), 0);
  }
  const std::string why = answer.ok() ? printable(answer.value().dump(), 200) : answer.status().text();
  const std::int64_t now_ms = io::now_ms();
  if (now_ms >= give_up_at_ms()) return lose("the lease could not be renewed in time: " + why);
  log::message(log::Subsystem::coordinator, log::Level::warn, "the lease is not renewed: {}", why);
  return std::min({ttl_ms_ / 20, std::int64_t{500}, give_up_at_ms() - now_ms});
}

}  // namespace

Result<std::unique_ptr<ViewStore>> make_etcd_store(EtcdOptions options) {
  const auto invalid = [](const std::string& why) { return Status(Code::INVALID_ARGUMENT, why); };
  if (options.endpoints.empty()) return invalid("no etcd endpoint is given");
  std::vector<EtcdEndpoint> endpoints;
  for (const std::string& text : options.endpoints) {
    auto endpoint = parse_etcd_endpoint(text);
    if (!endpoint.ok()) return endpoint.status();
    endpoints.push_back(std::move(endpoint.value()));
  }
  if (options.ttl_s < ttl_s_min || options.ttl_s > ttl_s_max) {
    return invalid(fmt::format("the lease in etcd is {} s: it must be {} to {}", options.ttl_s, ttl_s_min, ttl_s_max));
  }
  if (!valid_text(options.prefix)) return invalid("the prefix of the keys in etcd is not text");
  if (options.prefix.empty() || options.prefix.back() != '/') options.prefix += '/';
  return std::unique_ptr<ViewStore>(std::make_unique<EtcdStore>(options, std::move(endpoints)));
}

}  // namespace hawser::runtime
