// Memory of one process that another one opens by its numbers; here both are this one.
#include "io/shared_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "io/unique_fd.hpp"
#include "support/catch.hpp"

using hawser::Code;
using hawser::io::SharedMemory;
using hawser::io::UniqueFd;

TEST_CASE("what one end writes the other one reads", "[shared_memory]") {
  auto made = SharedMemory::create(8192);
  REQUIRE(made.ok());
  auto opened = SharedMemory::open(getpid(), made.value().descriptor(), 8192);
  REQUIRE(opened.ok());
  REQUIRE(opened.value().data() != made.value().data());
  std::memset(made.value().data() + 8000, 7, 100);
  REQUIRE(opened.value().data()[8099] == std::byte{7});
  REQUIRE(opened.value().data()[7999] == std::byte{0});
  const int descriptor = made.value().descriptor();
  made.value().hide();
  REQUIRE(SharedMemory::open(getpid(), descriptor, 8192).status().code() == Code::UNSUPPORTED);
  made.value() = SharedMemory();  // the other end keeps it
  REQUIRE(opened.value().data()[8099] == std::byte{7});
}

TEST_CASE("only sealed memory of the size that was told is opened", "[shared_memory]") {
  const auto code = [](int descriptor, std::size_t bytes) {
    return SharedMemory::open(getpid(), descriptor, bytes).status().code();
  };
  auto made = SharedMemory::create(8192);
  REQUIRE(made.ok());
  CHECK(code(made.value().descriptor(), 4096) == Code::UNSUPPORTED);
  CHECK(code(made.value().descriptor(), 16384) == Code::UNSUPPORTED);
  CHECK(SharedMemory::open(-1, 0, 8192).status().code() == Code::UNSUPPORTED);
  // It could be cut off while it is being read.
  const UniqueFd unsealed(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(ftruncate(unsealed.get(), 8192) == 0);
  CHECK(code(unsealed.get(), 8192) == Code::UNSUPPORTED);
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  CHECK(code(file.get(), 8192) == Code::UNSUPPORTED);
  CHECK(ftruncate(made.value().descriptor(), 0) != 0);
}
