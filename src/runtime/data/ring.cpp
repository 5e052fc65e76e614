// See the header.
#include "runtime/data/ring.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/kernels.hpp"

namespace hawser::runtime {
namespace {

constexpr std::size_t published_at_once = 32U << 10;  // so that the reader begins while the rest is being copied

}  // namespace

std::ptrdiff_t RingWriter::write(std::span<const iovec> parts) {
  const std::uint64_t used = written_ - places_.read.load(std::memory_order_acquire);
  if (used > bytes_.size() || used % ring_grain != 0) return -1;
  std::size_t room = bytes_.size() - used;
  if (is_little(room)) {
    std::size_t asked = 0;
    for (const iovec& part : parts) asked += part.iov_len;
    if (asked > room) return 0;
  }
  const std::uint64_t before = written_;
  std::uint64_t published = written_;
  for (const iovec& part : parts) {
    const auto* from = static_cast<const std::byte*>(part.iov_base);
    std::size_t left = std::min(part.iov_len, room);
    room -= left;
    while (left != 0) {
      const std::size_t at = written_ % bytes_.size();
      const std::size_t n = std::min({left, bytes_.size() - at, published_at_once});
      if (part.iov_len < kernels::copy_ahead_min) {
        std::memcpy(bytes_.data() + at, from, n);
      } else {
        kernels::copy_ahead(bytes_.data() + at, from, n);
      }
      from += n;
      left -= n;
      written_ += n;
      if (written_ - published < published_at_once) continue;
      published = written_ / ring_grain * ring_grain;
      places_.written.store(published, std::memory_order_release);
    }
    if (room == 0) break;
  }
  places_.written.store(written_);  // before it is asked whether the reader sleeps
  return static_cast<std::ptrdiff_t>(written_ - before);
}

// To fill it would have both ends run after each other, a few bytes at a time: the silly window of RFC 1122, 4.2.3.4.
bool RingWriter::is_little(std::uint64_t room) const { return room < bytes_.size() / 4; }

bool RingWriter::has_room() const { return !is_little(bytes_.size() - (written_ - places_.read.load())); }

bool RingWriter::wait() {
  places_.writer_waits.store(1);
  if (written_ - places_.read.load() > bytes_.size() / 2) return false;
  places_.writer_waits.store(0);
  return true;
}

std::span<const std::byte> RingReader::readable(bool& broken) const {
  const std::uint64_t ready = places_.written.load(std::memory_order_acquire) - read_;
  broken = ready > bytes_.size() || ready % ring_grain != 0;
  if (broken) return {};
  const std::size_t at = read_ % bytes_.size();
  return bytes_.subspan(at, std::min<std::size_t>(ready, bytes_.size() - at));
}

void RingReader::take(std::size_t bytes) {
  read_ += bytes;
  places_.read.store(read_);  // before it is asked whether the writer waits
}

bool RingReader::sleep() {
  places_.reader_sleeps.store(1);
  if (places_.written.load() == read_) return false;
  places_.reader_sleeps.store(0);
  return true;
}

bool RingReader::owes_bell() {
  if (places_.writer_waits.load() == 0) return false;
  if (places_.written.load() - read_ > bytes_.size() / 2) return false;
  return places_.writer_waits.exchange(0) != 0;
}

}  // namespace hawser::runtime
