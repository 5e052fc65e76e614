// A ring of bytes in memory that two processes share: one writes, the other reads, each on one thread at a time.
// Neither trusts the other: what it says of its place is checked before it is used, and a reader must copy what it
// decides by.
//
// All lengths are multiples of 64 bytes, so what begins aligned stays so. A reader that finds nothing may say that it
// sleeps, a writer that finds no room that it waits; the other then owes it a bell, by a connection beside the memory.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace hawser::runtime {

inline constexpr std::size_t ring_grain = 64;
constexpr std::size_t ring_padding(std::size_t bytes) { return (ring_grain - bytes % ring_grain) % ring_grain; }

// In the shared memory, all zeros at first.
struct RingPlaces {
  alignas(64) std::atomic<std::uint64_t> written;  // bytes in all
  alignas(64) std::atomic<std::uint64_t> read;
  alignas(64) std::atomic<std::uint32_t> reader_sleeps;
  alignas(64) std::atomic<std::uint32_t> writer_waits;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(RingPlaces) == 4 * 64);

class RingWriter {
 public:
  RingWriter(RingPlaces& places, std::span<std::byte> bytes) : places_(places), bytes_(bytes) {}

  // Copies all, or as much as there is room for, or nothing where that is little; their sum is a multiple of 64. The
  // number of bytes taken, -1: the reader's place makes no sense.
  std::ptrdiff_t write(std::span<const iovec> parts);
  [[nodiscard]] bool has_room() const;
  // There was no room. True: now there is; else the reader owes a bell.
  bool wait();
  // After a write: whether the reader is to be woken.
  bool owes_bell() { return places_.reader_sleeps.load() != 0 && places_.reader_sleeps.exchange(0) != 0; }

 private:
  [[nodiscard]] bool is_little(std::uint64_t room) const;

  RingPlaces& places_;
  const std::span<std::byte> bytes_;
  std::uint64_t written_ = 0;
};

class RingReader {
 public:
  RingReader(RingPlaces& places, std::span<const std::byte> bytes) : places_(places), bytes_(bytes) {}

  // What is there in one piece; empty: nothing, or `broken`.
  [[nodiscard]] std::span<const std::byte> readable(bool& broken) const;
  void take(std::size_t bytes);
  // There was nothing. True: now there is; else the writer owes a bell.
  bool sleep();
  // After a take: whether the writer is to be woken. Not for a little room, which would be filled and waited for again.
  bool owes_bell();

 private:
  RingPlaces& places_;
  const std::span<const std::byte> bytes_;
  std::uint64_t read_ = 0;
};

}  // namespace hawser::runtime
