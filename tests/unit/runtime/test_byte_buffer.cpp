// Memory that is kept for the next operation: used again, never by two at once, and no more of it than a bound.
#include "runtime/data/byte_buffer.hpp"

#include <malloc.h>

#include <cstring>
#include <fstream>
#include <set>
#include <vector>

#include "support/catch.hpp"

using hawser::runtime::BlockPool;
using hawser::runtime::ByteBuffer;

TEST_CASE("a buffer that is given back is the next one of its size", "[byte_buffer]") {
  const std::byte* first = nullptr;
  {
    const ByteBuffer buffer(60000);
    first = buffer.data();
    const ByteBuffer other(60000);
    CHECK(other.data() != first);
    CHECK(other.size() == 60000);
  }
  const ByteBuffer one(50000);
  const ByteBuffer two(65536);
  CHECK((one.data() == first || two.data() == first));
  CHECK(one.data() != two.data());
}

TEST_CASE("a copy keeps the memory from being used again", "[byte_buffer]") {
  ByteBuffer copy;
  {
    const ByteBuffer buffer(20000);
    std::memset(buffer.data(), 7, buffer.size());
    copy = buffer;
  }
  const ByteBuffer other(20000);
  std::memset(other.data(), 9, other.size());
  CHECK(copy.data()[19999] == std::byte{7});
}

TEST_CASE("what is kept has a bound", "[byte_buffer]") {
  constexpr std::size_t size = 1U << 20;
  constexpr std::size_t count = 64;
  std::set<const std::byte*> held;
  {
    std::vector<ByteBuffer> buffers;
    for (std::size_t i = 0; i < count; ++i) {
      buffers.emplace_back(size);
      std::memset(buffers.back().data(), 1, size);
      held.insert(buffers.back().data());
    }
    CHECK(held.size() == count);
  }
  malloc_trim(0);
  const struct mallinfo2 now = mallinfo2();
  CHECK(now.uordblks + now.hblkhd < 16 * size);
}

TEST_CASE("large memory is kept for the next of its size, and given back when nobody wants it", "[byte_buffer]") {
  constexpr std::size_t size = 32U << 20;
  const auto resident = [] {
    std::ifstream file("/proc/self/statm");
    std::size_t all = 0;
    std::size_t pages = 0;
    file >> all >> pages;
    return pages * 4096;
  };
  const std::size_t before = resident();
  const std::byte* first = nullptr;
  {
    const ByteBuffer buffer = ByteBuffer::reused(size);
    std::memset(buffer.data(), 1, size);
    first = buffer.data();
    const ByteBuffer other = ByteBuffer::reused(size);
    CHECK(other.data() != first);
  }
  CHECK(resident() >= before + size);
  CHECK(ByteBuffer::reused(size - 4096).size() == size - 4096);
  {
    const ByteBuffer one = ByteBuffer::reused(size);
    const ByteBuffer two = ByteBuffer::reused(size / 2);
    CHECK((one.data() == first || two.data() == first));
  }
  ByteBuffer::forget_unused(0);
  CHECK(resident() < before + size);
}

TEST_CASE("blocks of a pool come back to it", "[byte_buffer]") {
  const auto pool = BlockPool::create(100000);
  const std::byte* first = nullptr;
  {
    const ByteBuffer block = pool->take(100000);
    first = block.data();
  }
  CHECK(pool->take(1).data() == first);
}
