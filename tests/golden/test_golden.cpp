// Compares the wire format with the files in vN/, one folder a version: control/ and data/ hold a frame each, sync/ a
// payload of a note frame, that must be made and taken exactly so; invalid/ holds bytes with the error they must lead
// to. To write the folder of the current version anew, run this program with HAWSER_GOLDEN_REGENERATE=1 in its
// environment and review the difference: bytes of a released version never change, so a difference there asks for a new
// version (docs/protocol.md#versions-and-strangers).
//
// The tables of docs/protocol.md are held against the code here too.
//
// A file: lines that begin with '#' say what it is (in invalid/, the second is "# CODE: text"); the others are bytes in
// hexadecimal, with what is printable of them after a '#'.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"
#include "support/sync_samples.hpp"
#include "support/wire_samples.hpp"
#include "wire/archive.hpp"
#include "wire/checksum.hpp"
#include "wire/control.hpp"
#include "wire/frame.hpp"
#include "wire/sync.hpp"
#include "wire/sync_fields.hpp"

using namespace hawser;
using wire::FrameType;

namespace {

using Bytes = std::vector<std::uint8_t>;

struct File {
  std::string about;  // one line; in invalid/ also "CODE: text" on a second one
  Bytes bytes;
};
using Files = std::map<std::string, File>;  // by path below the version's folder

// ------------------------------------------------------------------------------------------------------------- files

std::filesystem::path root() {
  return std::filesystem::path(HAWSER_GOLDEN_DIR) / ("v" + std::to_string(wire::version));
}

bool regenerate() {
  const char* const setting = std::getenv("HAWSER_GOLDEN_REGENERATE");  // NOLINT(concurrency-mt-unsafe): one thread
  return setting != nullptr && std::string_view(setting) == "1";
}

std::string to_text(const File& file) {
  std::string out;
  std::size_t line = 0;
  for (std::size_t end = 0; line < file.about.size(); line = end + 1) {
    end = std::min(file.about.find('\n', line), file.about.size());
    out += "# " + file.about.substr(line, end - line) + "\n";
  }
  constexpr std::size_t width = 16;
  constexpr std::string_view digits = "0123456789abcdef";
  for (std::size_t at = 0; at < file.bytes.size(); at += width) {
    std::string hex, shown;
    for (std::size_t i = at; i < std::min(at + width, file.bytes.size()); ++i) {
      const std::uint8_t byte = file.bytes[i];
      hex += {digits[byte >> 4], digits[byte & 15], ' '};
      shown += byte > 0x20 && byte < 0x7f ? static_cast<char>(byte) : '.';
    }
    hex.resize(3 * width, ' ');
    out.append(hex).append("# ").append(shown).append("\n");
  }
  return out;
}

File from_text(const std::filesystem::path& path) {
  std::ifstream in(path);
  INFO(path.string());
  REQUIRE(in);
  File file;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("# ", 0) == 0) file.about += (file.about.empty() ? "" : "\n") + line.substr(2);
    std::string hex;
    for (const char c : line.substr(0, line.find('#'))) {
      if (c == ' ') continue;
      REQUIRE(std::isxdigit(static_cast<unsigned char>(c)));
      hex += c;
    }
    REQUIRE(hex.size() % 2 == 0);
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      file.bytes.push_back(static_cast<std::uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    }
  }
  return file;
}

// What stands in the folder, after writing `expected` there when that is asked for.
Files stored(const std::string& folder, const Files& expected) {
  if (regenerate()) {
    std::filesystem::remove_all(root() / folder);
    for (const auto& [name, file] : expected) {
      const auto path = root() / name;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path) << to_text(file);
    }
  }
  Files files;
  for (const auto& entry : std::filesystem::directory_iterator(root() / folder)) {
    files[folder + "/" + entry.path().filename().string()] = from_text(entry.path());
  }
  return files;
}

void compare(const Files& files, const Files& expected) {
  for (const auto& [name, file] : files) {
    INFO(name << " has no maker in this test");
    CHECK(expected.count(name) == 1);
  }
  for (const auto& [name, file] : expected) {
    INFO(name << ": " << file.about);
    REQUIRE(files.count(name) == 1);
    CHECK(files.at(name).about == file.about);
    CHECK(files.at(name).bytes == file.bytes);
  }
}

// ------------------------------------------------------------------------------------------------------------ frames

Bytes operator+(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

struct DataFrame {
  std::string name;
  wire::FrameHeader header;
  Bytes payload;
};

std::vector<DataFrame> data_frames() {
  const wire::OpKey key{3, 7, 11};
  const wire::OpParams params{wire::OpKind::all_reduce, Dtype::f32, Redop::avg, 1, 2, 4, PeerId{}, 1, 1, 3, 1, 256};
  const Bytes begin = wire::encode_begin({params, 2.5});
  const Bytes done = wire::encode_done({{0x1112131415161718ULL, 0x191a1b1c1d1e1f10ULL}, {{3, 7, 9}, {3, 7, 10}}});
  const Bytes data = bytes_of("sixteen payloads");
  const PeerId from{{0xf1, 0xf2}};
  const PeerId to{{0xf3, 0xf4}};
  const Bytes relay = wire::encode_relay({from, to, 0x0807, wire::Relayed::data}) + data;
  const Bytes receipt = wire::encode_relay({to, from, 0x0807, wire::Relayed::receipt});
  const auto size = [](const Bytes& bytes) { return static_cast<std::uint32_t>(bytes.size()); };
  return {
      {"begin", {FrameType::begin, 5, key, 0, 0, size(begin), 0}, begin},
      {"data", {FrameType::data, 5, key, 0x01020304, 0x05060708, size(data), wire::params_check(params)}, data},
      {"done", {FrameType::done, 5, key, 0, 0, size(done), 0}, done},
      {"ack", {FrameType::ack, 0, {}, 0, 0, 0, 17}, {}},
      {"note", {FrameType::note, 5, key, 0, 0, size(data), wire::params_check(params)}, data},
      {"ping", {FrameType::ping, 0, {}, 0, 0, 0, 0}, {}},
      {"relay", {FrameType::relay, 5, key, 0x01020304, 0x05060708, size(relay), wire::params_check(params)}, relay},
      {"share",
       {FrameType::share,
        0x1112131415161718,
        {0x2122232425262728, 4711, 17},
        1U << 20,
        static_cast<std::uint32_t>(wire::Share::offer),
        0,
        0},
       {}},
      {"relay-receipt", {FrameType::relay, 0, {}, 0, 0, size(receipt), 0}, receipt},
  };
}

Bytes encode(const DataFrame& frame) {
  const auto header = wire::encode_header(frame.header);
  return Bytes(header.begin(), header.end()) + frame.payload;
}

// With a byte replaced and, where `mend` is set, the checksum made right again.
Bytes control_with(Bytes frame, std::size_t at, std::uint8_t value, bool mend = true) {
  frame[at] = value;
  const auto sum = static_cast<std::uint32_t>(
      wire::checksum(std::span(frame).first(12), std::span(frame).subspan(wire::control_header_bytes)));
  if (mend) wire::store(frame.data() + 12, sum);
  return frame;
}

Bytes header_with(Bytes frame, std::size_t at, std::uint8_t value, bool mend = true) {
  frame[at] = value;
  if (mend) wire::store(frame.data() + 56, wire::checksum(std::span(frame).first(56)));
  return frame;
}

// ------------------------------------------------------------------------------------------------------------ errors

Status control_status(const Bytes& bytes) {
  wire::ControlDecoder decoder;
  decoder.append(bytes);
  const auto next = decoder.next();
  if (!next.ok()) return next.status();
  return {Code::PENDING, next.value() ? "taken" : "more bytes are needed"};
}

Status data_status(const Bytes& bytes) {
  const auto header = wire::decode_header(std::span(bytes).first<wire::frame_header_bytes>());
  if (!header.ok()) return header.status();
  const auto payload = std::span(bytes).subspan(wire::frame_header_bytes);
  if (header.value().type == FrameType::begin) return wire::decode_begin(payload).status();
  if (header.value().type == FrameType::done) return wire::decode_done(payload).status();
  if (header.value().type == FrameType::relay) {
    return wire::decode_relay(payload.first(std::min(payload.size(), wire::relay_bytes))).status();
  }
  return {};
}

// A byte of the payload of the sample is replaced: `at` counts from the payload's start.
Files invalid_files() {
  const auto sample = [](std::string_view name) {
    for (const auto& one : wire_test::samples()) {
      if (one.name == name) return wire::encode(one.message);
    }
    throw std::runtime_error("no sample " + std::string(name));
  };
  constexpr std::size_t header = wire::control_header_bytes;
  const auto frames = data_frames();
  const Bytes begin = encode(frames[0]), data = encode(frames[1]), done = encode(frames[2]), ack = encode(frames[3]),
              relay = encode(frames[6]);
  struct Case {
    std::string name, about;
    Bytes bytes;
  };
  const std::vector<Case> control = {
      {"http-request", "An HTTP request", bytes_of("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
      {"tls-client-hello", "The beginning of a TLS handshake", {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}},
      {"ssh", "The banner of an SSH server", bytes_of("SSH-2.0-OpenSSH_9.2p1\r\n")},
      {"zeros", "Zeros", Bytes(16, 0)},
      {"ones", "All bits set", Bytes(16, 0xff)},
      {"version-0", "Version 0", control_with(sample("Leave"), 4, 0)},
      {"version-1", "Version 1", control_with(sample("Leave"), 4, 1)},
      {"type-0", "Type 0", control_with(sample("Leave"), 6, 0)},
      {"type-unknown", "A type after the last", control_with(sample("Leave"), 6, wire_test::message_count + 1)},
      {"length-4-gib", "A header that announces 4 GiB - 1",
       [&] {
         Bytes bytes = sample("Leave");
         wire::store(bytes.data() + 8, ~std::uint32_t{0});
         return bytes;
       }()},
      {"length-over-hello", "A first frame one byte over its limit",
       [&] {
         Bytes bytes = sample("Leave");
         wire::store(bytes.data() + 8, static_cast<std::uint32_t>(wire::control_bytes_max_hello + 1));
         return bytes;
       }()},
      {"checksum", "A flipped bit of the payload", control_with(sample("Heartbeat"), header, 9, false)},
      {"flag", "Meet with dial = 2", control_with(sample("Meet"), sample("Meet").size() - 1, 2)},
      {"enum", "OpFault with a reason after the last",
       control_with(sample("OpFault"), header + 8 + 24, wire::fault_reason_count)},
      {"string-cut-off", "Join with a host longer than the frame", control_with(sample("Join"), header, 200)},
      {"string-too-long", "Hello with a name of 65 bytes", control_with(sample("Hello"), header + 24, 65)},
      {"string-not-utf8", "Join with a byte ff in its host", control_with(sample("Join"), header + 2, 0xff)},
      {"string-control", "Hello with a line feed in its name", control_with(sample("Hello"), header + 26, '\n')},
      {"list-cut-off", "SealReply with a list longer than the frame",
       control_with(sample("SealReply"), header + 24, 40)},
      {"list-too-long", "SealReply with one operation more than it may hold",
       [&] {
         Bytes bytes = sample("SealReply-idle");
         constexpr auto count = static_cast<std::uint16_t>(wire::seal_ops_max + 1);
         bytes[header + 24] = count & 0xff;
         return control_with(bytes, header + 25, count >> 8);
       }()},
      {"trailing", "Refuse with a shorter text than bytes", control_with(sample("Refuse"), header + 20, 3)},
  };
  const std::vector<Case> frame = {
      {"data-magic", "A control frame where a data frame is due", sample("StrandHello")},
      {"data-version", "Version 1", header_with(ack, 4, 1)},
      {"data-type-0", "Type 0", header_with(ack, 6, 0)},
      {"data-type-9", "Type 9", header_with(ack, 6, 9)},
      {"data-zero", "The byte that is 0 is not", header_with(ack, 7, 1)},
      {"data-checksum", "A flipped bit of the epoch", header_with(data, 8, 4, false)},
      {"data-length", "data over 4 MiB", header_with(data, 50, 0x41)},
      {"data-length-done", "done over 4096 bytes", header_with(done, 49, 0x11)},
      {"data-length-ack", "ack with a payload", header_with(ack, 48, 1)},
      {"begin-enum", "begin with a dtype after the last",
       [&] {
         Bytes bytes = begin;
         bytes[wire::frame_header_bytes + 1] = dtype_count;
         return bytes;
       }()},
      {"relay-cut-off", "relay with fewer bytes than it begins with",
       [&] {
         Bytes bytes = relay;
         bytes.resize(wire::frame_header_bytes + wire::relay_bytes - 1);
         return bytes;
       }()},
      {"relay-enum", "relay of something after the last",
       [&] {
         Bytes bytes = relay;
         bytes[wire::frame_header_bytes + wire::relay_bytes - 1] = wire::relayed_count;
         return bytes;
       }()},
      {"done-list-too-long", "done with more keys than one may hold",
       [&] {
         Bytes bytes = done;
         bytes[wire::frame_header_bytes + 16] = wire::done_committed_max + 1;
         return bytes;
       }()},
  };
  const auto word = [](std::string_view name, std::size_t at, std::uint8_t value) {
    for (const auto& one : sync_test::samples()) {
      if (one.name != name) continue;
      Bytes bytes = wire::encode_sync(one.message);
      bytes.at(at) = value;
      return bytes;
    }
    throw std::runtime_error("no sample " + std::string(name));
  };
  const std::vector<Case> sync = {
      {"sync-empty", "A sync message of no bytes", {}},
      {"sync-type-0", "Type 0", word("SyncOffer", 0, 0)},
      {"sync-type-unknown", "A type after the last", word("SyncOffer", 0, std::variant_size_v<wire::SyncMessage> + 1)},
      {"sync-enum", "SyncOffer with a strategy after the last", word("SyncOffer", 41, wire::sync_strategy_count)},
      {"sync-flag", "SyncOffer with newcomer = 2", word("SyncOffer", 42, 2)},
      {"sync-string", "SyncLayout with a line feed in a name", word("SyncLayout", 7, '\n')},
      {"sync-dtype", "SyncLayout with a dtype after the last", word("SyncLayout", 16, dtype_count)},
      {"sync-list-cut-off", "SyncLayout with a list longer than the message", word("SyncLayout", 1, 200)},
      {"sync-list-too-long", "SyncHashes that announces 4 billion hashes", word("SyncHashes", 12, 0xff)},
      {"sync-ranges-too-many", "SyncBlockRequest with one range more than it may have",
       word("SyncBlockRequest", 1, wire::sync_request_blocks_max + 1)},
      {"sync-trailing", "SyncBlockRequest with fewer ranges than bytes", word("SyncBlockRequest", 1, 2)},
  };
  Files files;
  const auto add = [&](const Case& one, const Status& status) {
    files["invalid/" + one.name + ".hex"] = {one.about + "\n" + code_name(status.code()) + ": " + status.text(),
                                             one.bytes};
  };
  for (const Case& one : control) add(one, control_status(one.bytes));
  for (const Case& one : frame) add(one, data_status(one.bytes));
  for (const Case& one : sync) add(one, wire::decode_sync(one.bytes).status());
  return files;
}

}  // namespace

TEST_CASE("control frames are the golden ones", "[golden]") {
  Files expected;
  std::map<std::string, wire::Message> messages;
  for (const auto& sample : wire_test::samples()) {
    const std::string name = "control/" + sample.name + ".hex";
    expected[name] = {sample.name, wire::encode(sample.message)};
    messages.emplace(name, sample.message);
  }
  const Files files = stored("control", expected);
  compare(files, expected);
  for (const auto& [name, file] : files) {
    INFO(name);
    wire::ControlDecoder decoder;
    decoder.append(file.bytes);
    const auto next = decoder.next();
    REQUIRE(next.ok());
    REQUIRE(next.value().has_value());
    CHECK(*next.value() == messages.at(name));
    CHECK(decoder.rest().empty());
  }
}

TEST_CASE("data frames are the golden ones", "[golden]") {
  Files expected;
  std::map<std::string, wire::FrameHeader> headers;
  for (const auto& frame : data_frames()) {
    const std::string name = "data/" + frame.name + ".hex";
    expected[name] = {frame.name, encode(frame)};
    headers.emplace(name, frame.header);
  }
  const Files files = stored("data", expected);
  compare(files, expected);
  for (const auto& [name, file] : files) {
    INFO(name);
    REQUIRE(file.bytes.size() >= wire::frame_header_bytes);
    const auto header = wire::decode_header(std::span(file.bytes).first<wire::frame_header_bytes>());
    REQUIRE(header.ok());
    CHECK(header.value() == headers.at(name));
    CHECK(header.value().length == file.bytes.size() - wire::frame_header_bytes);
    CHECK(data_status(file.bytes).ok());
  }
}

TEST_CASE("sync messages are the golden ones", "[golden]") {
  Files expected;
  std::map<std::string, wire::SyncMessage> messages;
  for (const auto& sample : sync_test::samples()) {
    const std::string name = "sync/" + sample.name + ".hex";
    expected[name] = {sample.name, wire::encode_sync(sample.message)};
    messages.emplace(name, sample.message);
  }
  const Files files = stored("sync", expected);
  compare(files, expected);
  for (const auto& [name, file] : files) {
    INFO(name);
    const auto decoded = wire::decode_sync(file.bytes);
    REQUIRE(decoded.ok());
    CHECK(decoded.value() == messages.at(name));
  }
}

TEST_CASE("invalid frames lead to the golden errors", "[golden]") {
  const Files expected = invalid_files();
  for (const auto& [name, file] : expected) {
    INFO(name << ": " << file.about);
    CHECK(file.about.find("\nOK") == std::string::npos);
    CHECK(file.about.find("\nPENDING") == std::string::npos);
  }
  compare(stored("invalid", expected), expected);
}

namespace {

std::vector<std::string> protocol_lines() {
  std::ifstream in(HAWSER_PROTOCOL_MD);
  REQUIRE(in);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string with_commas(std::size_t value) {
  std::string digits = std::to_string(value);
  for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

// The last cell of a row of sizes.
// With so many bytes in front, and never over a limit of the whole.
template <typename T>
std::string size_cell(std::size_t before = 0, std::size_t bytes_max = ~std::size_t{0}) {
  const wire::Extent extent = wire::extent_of<T>();
  const std::string least = with_commas(before + extent.least());
  const std::string most = with_commas(std::min(before + extent.most(), bytes_max));
  return "| " + (least == most ? least : least + " to " + most) + " |";
}

std::size_t rows(const std::vector<std::string>& lines, const std::string& beginning, const std::string& end) {
  return static_cast<std::size_t>(std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
    return line.rfind(beginning, 0) == 0 && line.size() >= end.size() &&
           line.compare(line.size() - end.size(), end.size(), end) == 0;
  }));
}

}  // namespace

TEST_CASE("the protocol page lists every message with its id and size", "[golden][docs]") {
  const auto lines = protocol_lines();
  for (const auto& sample : wire_test::samples()) {
    const std::string row =
        "| " + std::to_string(sample.message.index() + 1) + " | " + wire::message_name(sample.message) + " | ";
    INFO(row);
    CHECK(rows(lines, row, "") == 2);  // in the table of messages and in that of payloads
    CHECK(rows(lines, row,
               std::visit([](const auto& m) { return size_cell<std::decay_t<decltype(m)>>(); }, sample.message)) == 1);
  }
  CHECK(rows(lines, "| PeerInfo | ", size_cell<wire::PeerInfo>()) == 1);
  CHECK(rows(lines, "| ViewMember | ", size_cell<wire::ViewMember>()) == 1);
  CHECK(rows(lines, "| View | ", size_cell<wire::View>()) == 1);
  CHECK(rows(lines, "| OpKey | ", size_cell<wire::OpKey>()) == 1);
  CHECK(rows(lines, "| OpParams | ", size_cell<wire::OpParams>()) == 1);
  CHECK(rows(lines, "| Begin | ", size_cell<wire::Begin>()) == 1);
  CHECK(rows(lines, "| OpState | ", size_cell<wire::OpState>()) == 1);
  CHECK(rows(lines, "| Outcome | ", size_cell<wire::Outcome>()) == 1);
  CHECK(rows(lines, "| Departure | ", size_cell<wire::Departure>()) == 1);
  CHECK(rows(lines, "| Progress | ", size_cell<wire::Progress>()) == 1);
  CHECK(rows(lines, "| PeerStatus | ", size_cell<wire::PeerStatus>()) == 1);
  CHECK(rows(lines, "| GroupStatus | ", size_cell<wire::GroupStatus>()) == 1);
  CHECK(rows(lines, "| Done | ", size_cell<wire::Done>()) == 1);
  CHECK(rows(lines, "| Relay | ", size_cell<wire::Relay>()) == 1);
}

TEST_CASE("the protocol page lists every sync message with its size", "[golden][docs]") {
  const auto lines = protocol_lines();
  for (const auto& sample : sync_test::samples()) {
    const std::string row =
        "| " + std::to_string(sample.message.index() + 1) + " | " + wire::sync_message_name(sample.message) + " | ";
    INFO(row);
    CHECK(rows(lines, row, "") == 1);
    CHECK(rows(lines, row,
               std::visit([](const auto& m) { return size_cell<std::decay_t<decltype(m)>>(1, wire::sync_bytes_max); },
                          sample.message)) == 1);
  }
  CHECK(rows(lines, "| TensorInfo | ", size_cell<wire::TensorInfo>()) == 1);
  CHECK(rows(lines, "| BlockRange | ", size_cell<wire::BlockRange>()) == 1);
}

TEST_CASE("the protocol page gives the limits of the code", "[golden][docs]") {
  const auto lines = protocol_lines();
  const auto limit = [&](const std::string& what, const std::string& value) {
    INFO(what << ": " << value);
    CHECK(rows(lines, "| " + what + " | " + value + " |", "") == 1);
  };
  const std::string mib = std::to_string(wire::control_bytes_max >> 20) + " MiB";
  limit("payload of the first frame of a connection, in either direction",
        with_commas(wire::control_bytes_max_hello) + " bytes");
  limit("payload of a control frame after that", mib);
  limit("payload of a data or note frame", std::to_string(wire::data_bytes_max >> 20) + " MiB");
  limit("payload of a relay frame", with_commas(wire::relay_payload_bytes_max) + " bytes");
  limit("payload of a begin or done frame", with_commas(wire::small_payload_bytes_max) + " bytes");
  limit("name", with_commas(wire::name_bytes_max) + " bytes");
  limit("host", with_commas(wire::host_bytes_max) + " bytes");
  limit("sentence", with_commas(wire::text_bytes_max) + " bytes");
  limit("members of a view, and departures in an Install", with_commas(wire::members_max));
  limit("open operations of a member", with_commas(wire::ops_open_max));
  limit("operations in a SealReply, outcomes in an Install", with_commas(wire::seal_ops_max));
  limit("keys in a Done", with_commas(wire::done_committed_max));
  limit("name of a tensor", with_commas(wire::tensor_name_bytes_max) + " bytes");
  limit("tensors of a shared state", with_commas(wire::tensors_max));
  limit("hashes in a SyncHashes", with_commas(wire::sync_hashes_max));
  limit("blocks in a SyncBlockRequest, and under way from one source", with_commas(wire::sync_request_blocks_max));
}
