// The ring of bytes that two processes share: what goes in comes out, in order and once, however the pieces fall;
// nobody sleeps while there is something for him; and what the other end says of its place is not believed.
#include "runtime/data/ring.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "support/catch.hpp"

using hawser::runtime::ring_grain;
using hawser::runtime::RingPlaces;
using hawser::runtime::RingReader;
using hawser::runtime::RingWriter;

namespace {

struct Memory {
  explicit Memory(std::size_t bytes) : ring(bytes) {}
  RingPlaces places{};
  std::vector<std::byte> ring;
  RingWriter writer{places, ring};
  RingReader reader{places, ring};
};

std::byte at(std::uint64_t index) { return static_cast<std::byte>(index * 2654435761U >> 13); }

iovec piece(std::vector<std::byte>& bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace

TEST_CASE("a ring takes what it has room for, and gives it back in order", "[ring]") {
  Memory memory(256);
  bool broken = false;
  REQUIRE(memory.reader.readable(broken).empty());
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  for (const std::size_t size : {64U, 192U, 128U, 256U, 320U, 64U}) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = at(in + i);
    const iovec part = piece(bytes);
    const auto taken = memory.writer.write({&part, 1});
    REQUIRE(taken == static_cast<std::ptrdiff_t>(std::min<std::size_t>(size, 256)));
    in += static_cast<std::uint64_t>(taken);
    REQUIRE(memory.writer.has_room() == (taken != 256));
    for (auto ready = memory.reader.readable(broken); !ready.empty(); ready = memory.reader.readable(broken)) {
      for (const std::byte byte : ready.first(ring_grain)) REQUIRE(byte == at(out++));
      memory.reader.take(ring_grain);
    }
    REQUIRE(!broken);
    REQUIRE(out == in);
  }
}

TEST_CASE("what is written in several parts is one piece to the reader", "[ring]") {
  Memory memory(4096);
  std::vector<std::byte> head(10, std::byte{1});
  std::vector<std::byte> body(100, std::byte{2});
  std::vector<std::byte> rest(hawser::runtime::ring_padding(110), std::byte{3});
  const std::array<iovec, 3> parts = {piece(head), piece(body), piece(rest)};
  REQUIRE(memory.writer.write(parts) == 128);
  bool broken = false;
  const auto ready = memory.reader.readable(broken);
  REQUIRE((ready.size() == 128 && ready[9] == std::byte{1} && ready[10] == std::byte{2} && ready[127] == std::byte{3}));
}

TEST_CASE("bells are owed to who sleeps and who waits, once", "[ring]") {
  Memory memory(256);
  std::vector<std::byte> bytes(256);
  const iovec part = piece(bytes);
  REQUIRE(!memory.reader.sleep());
  REQUIRE(memory.writer.write({&part, 1}) == 256);
  REQUIRE(memory.writer.owes_bell());
  REQUIRE(!memory.writer.owes_bell());
  REQUIRE(memory.reader.sleep());  // something is there
  REQUIRE(!memory.writer.wait());
  memory.reader.take(64);
  REQUIRE(!memory.reader.owes_bell());  // too little
  memory.reader.take(64);
  REQUIRE(memory.reader.owes_bell());
  REQUIRE(!memory.reader.owes_bell());
  REQUIRE(memory.writer.wait());  // there is room
}

TEST_CASE("places that cannot be are not believed", "[ring]") {
  Memory memory(256);
  bool broken = false;
  for (const std::uint64_t nonsense : {std::uint64_t{320}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    memory.places.written = nonsense;
    REQUIRE(memory.reader.readable(broken).empty());
    REQUIRE(broken);
  }
  std::vector<std::byte> bytes(64);
  const iovec part = piece(bytes);
  for (const std::uint64_t nonsense : {std::uint64_t{64}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    memory.places.read = nonsense;
    REQUIRE(memory.writer.write({&part, 1}) == -1);
  }
}

// Each side sleeps on a counter of bells when the ring says so: a lost wake-up would stand still for ever.
TEST_CASE("two threads, a small ring, and nothing but bells to wake them", "[ring]") {
  constexpr std::uint64_t total = 8U << 20;
  Memory memory(1024);
  std::atomic<int> for_reader{0};
  std::atomic<int> for_writer{0};
  const auto ring = [](std::atomic<int>& bell) {
    ++bell;
    bell.notify_all();
  };
  std::jthread writer([&] {
    std::uint64_t sent = 0;
    for (int heard = 0; sent < total;) {
      std::vector<std::byte> bytes(std::min(ring_grain * (1 + sent / ring_grain % 29), total - sent));
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = at(sent + i);
      for (std::size_t done = 0; done < bytes.size();) {
        const iovec part{bytes.data() + done, bytes.size() - done};
        const auto n = static_cast<std::size_t>(memory.writer.write({&part, 1}));
        done += n;
        if (n != 0 && memory.writer.owes_bell()) ring(for_reader);
        if (done == bytes.size() || memory.writer.wait()) continue;
        for_writer.wait(heard);
        heard = for_writer;
      }
      sent += bytes.size();
    }
  });
  std::uint64_t wrong = 0;
  std::uint64_t got = 0;
  for (int heard = 0; got < total;) {
    bool broken = false;
    const auto ready = memory.reader.readable(broken);
    REQUIRE(!broken);
    if (ready.empty()) {
      if (memory.reader.sleep()) continue;
      for_reader.wait(heard);
      heard = for_reader;
      continue;
    }
    for (const std::byte byte : ready) wrong += byte == at(got++) ? 0U : 1U;
    memory.reader.take(ready.size());
    if (memory.reader.owes_bell()) ring(for_writer);
  }
  REQUIRE(wrong == 0);
}
